"""A task's parameters as a variables file for Ansible. Pure.

Ansible evaluates `{{ ... }}` in extra variables, in the keys of mappings as well as in values, and a lookup in one can
run programs. Parameters come from words of a request, from models and from devices, so the whole document is tagged
`!unsafe`: nothing in it is a template, at any depth. That needs YAML instead of JSON, and ansible-core 2.19, where
only what is marked as trusted is ever evaluated. The tag stands at the top alone: on a single text it would make
numbers of texts such as "8080".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import JsonValue

from chargehand.domain.errors import BadParameters

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BAD = re.compile("[\0\ud800-\udfff]")  # YAML cannot hold these, so they would not arrive as they are


def variables_file(parameters: Mapping[str, JsonValue]) -> str:
    """Return the text of the file. Raises `BadParameters` for what cannot reach Ansible as it is."""
    for name, value in parameters.items():
        if not _NAME.fullmatch(name):
            raise BadParameters(f"{name!r} cannot be the name of a variable", hint="Use letters, digits and _.")
        if _BAD.search(_texts(value)):
            raise BadParameters(f"{name} holds a zero byte or half of a character", hint="Leave it out.")
    return f"--- !unsafe\n{_flow(dict(parameters))}\n"


def _flow(value: JsonValue) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):  # `? `: a plain key must not be longer than 1,024 characters
        return "{" + ",\n".join(f"? {_quoted(key)} : {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        return f'!!float "{value!r}"'  # YAML 1.1 takes 1e-07 for a text
    return json.dumps(value)


def _texts(value: JsonValue) -> str:
    """Return every text in a value, keys too, one after the other."""
    if isinstance(value, dict):
        return "\n".join(f"{key}\n{_texts(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "\n".join(map(_texts, value))
    return value if isinstance(value, str) else ""


def _quoted(text: str) -> str:
    """Return a YAML double-quoted scalar in plain ASCII; JSON's pairs of \\u escapes would mean something else."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{plain}"'
