"""Says which hosts patterns stand for, with Ansible's own inventory: JSON in on stdin, JSON out on stdout.

    {"sources": [PATHS], "patterns": [[TEXTS]], "groups": NUMBER, "seconds": LIMIT, "static": TRUE OR FALSE}
    {"hosts": [NAMES], "known": NUMBER OF ALL, "patterns": [[PLACES IN hosts] OR WORDS], "groups": {NAME: [PLACES]}}

or `{"problem": WORDS}`. With `static` only files are read: no program is run, no plugin of the project's loaded.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

MEMORY = 1 << 30  # bytes; 50,000 hosts take 500 MB
ANSWER = 50_000_000  # bytes that may be written to one file
STATIC = "ansible.builtin.yaml,ansible.builtin.ini,ansible.builtin.toml"


def limit(seconds: int, *, static: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if static:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (ANSWER, ANSWER))
        os.environ["ANSIBLE_INVENTORY_ENABLED"] = STATIC
    for name in ("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "ANSIBLE_INVENTORY_UNPARSED_IS_FAILED"):
        os.environ[name] = "1"  # half an inventory is none


def resolved(asked: dict[str, Any]) -> dict[str, Any]:
    from ansible.inventory.manager import InventoryManager  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.parsing.dataloader import DataLoader  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.plugins.loader import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
        init_plugin_loader,
    )

    init_plugin_loader()
    inventory = InventoryManager(loader=DataLoader(), sources=asked["sources"])
    places: dict[str, int] = {}

    def placed(found: Any) -> list[int]:
        # This machine has one name, also where the inventory does not name it.
        return [places.setdefault("localhost" if host.implicit else str(host.name), len(places)) for host in found]

    def matching(texts: list[str]) -> list[int] | str:
        try:
            return placed(inventory.get_hosts(list(texts)))
        except Exception as error:  # noqa: BLE001 - a pattern may be any text
            return str(error)

    known = placed(inventory.get_hosts("all"))
    groups = [name for name in inventory.groups if name not in ("all", "ungrouped")][: asked["groups"]]
    return {
        "known": len(known),
        "patterns": [matching(texts) for texts in asked["patterns"]],
        "groups": {str(name): placed(inventory.groups[name].get_hosts()) for name in groups},
        "hosts": list(places),
    }


def main() -> None:
    asked = json.load(sys.stdin)
    limit(asked["seconds"], static=asked["static"])
    answer, sys.stdout = sys.stdout, sys.stderr  # whatever else is written
    try:
        found = resolved(asked)
    except Exception as error:  # noqa: BLE001 - plugins may raise anything
        found = {"problem": str(error)}
    json.dump(found, answer)


if __name__ == "__main__":
    main()
