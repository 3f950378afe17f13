"""A task's parameters as a variables file for Ansible. Pure.

Ansible evaluates `{{ ... }}` in extra variables, and a lookup in one can run programs. Parameters come from words of
a request, so every text is written with the tag `!unsafe`: data, never a template. That needs YAML instead of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import JsonValue

# Interpreter discovery may pick another Python than the one Ansible runs on; on this machine that one surely works.
LOCAL_INTERPRETER = 'ansible_python_interpreter: "{{ ansible_playbook_python }}"\n'


def variables_file(parameters: Mapping[str, JsonValue], *, local: bool) -> str:
    """Return the text of the file: one line per parameter, and the interpreter for runs on this machine."""
    lines = [f"{_quoted(name)}: {_flow(value)}\n" for name, value in parameters.items()]
    return "---\n" + (LOCAL_INTERPRETER if local else "") + ("".join(lines) or ("" if local else "{}\n"))


def _flow(value: JsonValue) -> str:
    if isinstance(value, str):
        return "!unsafe " + _quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        return f'!!float "{value!r}"'  # YAML 1.1 takes 1e-07 for a text
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Return a YAML double-quoted scalar in plain ASCII; JSON's pairs of \\u escapes would mean something else."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{plain}"'
