"""What a play asks of a person while it runs: nobody can answer there. Pure: nodes of YAML in, texts out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

TASK_LISTS = ("pre_tasks", "tasks", "post_tasks", "handlers")
BLOCKS = ("block", "rescue", "always")
_BUILT_IN = ("", "ansible.builtin.", "ansible.legacy.")
PAUSES = frozenset(f"{where}pause" for where in _BUILT_IN)
TASK_FILES = frozenset(f"{where}{name}" for where in _BUILT_IN for name in ("include_tasks", "import_tasks"))
ROLES = frozenset(f"{where}{name}" for where in _BUILT_IN for name in ("include_role", "import_role"))
LIMITS = frozenset({"seconds", "minutes"})  # a pause that has one ends by itself
_LIMIT = re.compile(r"\b(seconds|minutes)\s*=")


class Asked(NamedTuple):
    """What a list of tasks or a play asks, and where it goes on: `kind` says what `text` is."""

    kind: str  # prompt (its variable), pause (its line), tasks (a file), role (its name)
    text: str


def of_play(node: MappingNode) -> Iterator[Asked]:
    """Yield what a play asks."""
    play = fields(node)
    for item in items(play.get("vars_prompt")):
        yield Asked("prompt", scalar(fields(item).get("name")) or "?")
    for item in items(play.get("roles")):
        role = fields(item)
        yield Asked("role", scalar(item) or scalar(role.get("role")) or scalar(role.get("name")))
    for key in TASK_LISTS:
        yield from of_tasks(play.get(key))


def of_tasks(node: Node | None) -> Iterator[Asked]:
    """Yield what a list of tasks asks, those of its blocks too."""
    for item in items(node):
        task = fields(item)
        for key in BLOCKS:
            yield from of_tasks(task.get(key))
        for key, value in task.items():
            yield from _of_module(key, value, task, item)


def _of_module(key: str, value: Node, task: Mapping[str, Node], item: Node) -> Iterator[Asked]:
    name, _, rest = scalar(value).partition(" ") if key in ("action", "local_action") else ("", "", "")
    if key in PAUSES or name in PAUSES:
        given = {*fields(value), *fields(task.get("args")), *_LIMIT.findall(rest or scalar(value))}
        if LIMITS.isdisjoint(given):
            yield Asked("pause", f"line {item.start_mark.line + 1}")
    elif key in TASK_FILES:
        yield Asked("tasks", scalar(value) or scalar(fields(value).get("file")))
    elif key in ROLES:
        yield Asked("role", scalar(fields(value).get("name")))


def fields(node: Node | None) -> dict[str, Node]:
    """Return the values of a mapping; none of anything else."""
    return {str(key.value): value for key, value in node.value} if isinstance(node, MappingNode) else {}


def items(node: Node | None) -> list[Node]:
    """Return the items of a list; none of anything else."""
    return list(node.value) if isinstance(node, SequenceNode) else []


def scalar(node: Node | None) -> str:
    """Return a text; an empty one of anything else."""
    return str(node.value) if isinstance(node, ScalarNode) else ""
