"""Names of hosts among parameters: one host each, never a pattern that stands for several. Pure.

Ansible takes `all`, `web*`, `a:b` and `!x` for patterns. A step that is given one would lock the pattern's text and
change machines that nobody named, while another step works on one of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from chargehand.domain.intents import IntentSpec

NAMES = frozenset({"host", "hosts"})
GROUPS = frozenset({"all", "ungrouped"})  # what Ansible calls every host, and those in no group
LONGEST = 253  # characters of a name in the DNS


def problems(spec: IntentSpec, parameters: Mapping[str, JsonValue]) -> Iterator[str]:
    """Yield each parameter that names hosts and holds something else than the names of single ones."""
    for name, value in parameters.items():
        if _names_hosts(spec, name):
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and not is_one_host(text):
                    yield f"{name} takes the name of a host, not a pattern for several ({text[:60]!r})"


def is_one_host(text: str) -> bool:
    """Return whether a text is the name or the address of one host."""
    if text.lower() in GROUPS or len(text) > LONGEST:
        return False
    return all(map(_is_label, text.removesuffix(".").split("."))) or _is_address(text)


def locks(spec: IntentSpec, name: str) -> bool:
    """Return whether a parameter fills the name of a host that is locked."""
    return any(key.startswith("host:") and f"{{{name}}}" in key for key in spec.exclusive_keys)


def _names_hosts(spec: IntentSpec, name: str) -> bool:
    return locks(spec, name) or (name in NAMES and spec.agent_type == "infra")


def _is_label(text: str) -> bool:
    return text.replace("-", "").replace("_", "").isalnum() and not text.startswith("-")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
