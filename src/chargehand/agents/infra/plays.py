"""What hosts the plays of a playbook are for, imported playbooks included: patterns of Ansible, and parameters.

Only what can be known when a plan is made is taken: a pattern that is written out, or the value of a parameter that the
header declares. The run is limited to the hosts that are found here, so a playbook that is read otherwise than Ansible
reads it touches fewer hosts, never others.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from chargehand.agents import bounded_yaml
from chargehand.agents.infra import questions
from chargehand.agents.infra.questions import Asked
from chargehand.domain.errors import BadConfiguration, UnreadableText

IMPORTS = ("import_playbook", "ansible.builtin.import_playbook", "ansible.legacy.import_playbook")
MOST_PLAYBOOKS = 100  # that one imports
MAX_BYTES = 1_000_000

Pattern = tuple[str, ...]
"""What one play is for, as Ansible takes it: the texts of its `hosts:`."""

# {{ name }} or {{ name | default('web') }}: what a person can see through. The text may not hold a quote.
_PARAMETER = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*(?:\|\s*default\(\s*(?:'([^']*)'|\"([^\"]*)\")\s*\)\s*)?\}\}")


class UnknownHosts(BadConfiguration):
    """What a playbook is for cannot be known beforehand."""

    code = "unknown-hosts"


@dataclass
class Wanted:
    """What the plays of one playbook are for, and what they ask a person while they run.

    `by` are parameters, each with the pattern that stands in for it.
    """

    patterns: set[Pattern] = field(default_factory=set)
    by: dict[str, Pattern | None] = field(default_factory=dict)
    prompts: set[str] = field(default_factory=set)  # variables that a person is asked for
    pauses: list[str] = field(default_factory=list)  # where it waits for a person: `site.yml line 3`

    @property
    def all_patterns(self) -> set[Pattern]:
        """Every pattern that is to be resolved."""
        return self.patterns | {pattern for pattern in self.by.values() if pattern is not None}


def wanted(root: Path, file: Path, parameters: Mapping[str, Any]) -> Wanted:
    """Return what a playbook is for; `parameters` are those that its header declares. Raises `UnknownHosts`."""
    found = Wanted()
    reader = _Reader(root, parameters, found)
    reader.playbook(file)
    return found


class _Reader:
    def __init__(self, root: Path, parameters: Mapping[str, Any], found: Wanted) -> None:
        self.root, self.parameters, self.found = root, parameters, found
        self.seen: set[Path] = set()

    def playbook(self, file: Path) -> None:
        if file in self.seen:
            return
        self.seen.add(file)
        if len(self.seen) > MOST_PLAYBOOKS:
            raise UnknownHosts(f"it imports more than {MOST_PLAYBOOKS} playbooks")
        plays, asked = _plays(_text(file))
        self.asked(file, asked)
        for key, texts in plays:
            if key == "hosts":
                self.play(file, texts)
            else:
                self.playbook(self.imported(file, texts))

    def asked(self, file: Path, asked: Iterable[Asked]) -> None:
        """Note what is asked in a file, and in those of tasks and roles that it names and that are there."""
        for kind, text in asked:
            if kind == "prompt":
                self.found.prompts.add(text)
            elif kind == "pause":
                place = file.resolve()  # an absolute path may lead here by a link
                shown = place.relative_to(self.root) if place.is_relative_to(self.root) else file.name
                self.found.pauses.append(f"{shown} {text}")
            else:
                for place in self.places(file, kind, text):
                    self.tasks(place)

    def places(self, file: Path, kind: str, text: str) -> list[Path]:
        """Return where tasks or a role may lie."""
        if not text or "{{" in text:
            return []
        if kind == "tasks":
            return [file.parent / text]
        folders = (file.parent, *file.parent.parents)
        return [
            folder / "roles" / text / "tasks" / "main.yml" for folder in folders if folder.is_relative_to(self.root)
        ]

    def tasks(self, file: Path) -> None:
        if file in self.seen or not file.is_file() or not file.resolve().is_relative_to(self.root):
            return
        self.seen.add(file)
        if len(self.seen) <= MOST_PLAYBOOKS:
            self.asked(file, _tasks(_text(file)))

    def play(self, file: Path, texts: Pattern) -> None:
        plain = tuple(text for text in texts if "{{" not in text and "{%" not in text)
        if plain:
            self.found.patterns.add(plain)
        for text in texts:
            if text not in plain:
                self.parameter(file, text)

    def parameter(self, file: Path, text: str) -> None:
        match = _PARAMETER.fullmatch(text.strip())
        name, default = (match[1], match[2] or match[3]) if match else ("", None)
        if name in self.parameters:
            other = (default,) if default else None
            if self.found.by.setdefault(name, other) != other:
                raise UnknownHosts(f"{file.name}: {name} has different defaults in `hosts:`")
        elif name and default:
            self.found.patterns.add((default,))
        else:
            raise UnknownHosts(
                f"{file.name}: what `hosts: {text}` is for cannot be known when a plan is made;"
                " write a pattern, or {{ name }} alone of a parameter that the header declares"
            )

    def imported(self, file: Path, texts: Pattern) -> Path:
        name = texts[0] if texts else ""
        try:
            words = shlex.split(name)
        except ValueError:
            words = []
        path = file.parent / name if (file.parent / name).is_file() else file.parent / (words[0] if words else name)
        if "{{" in name or not path.is_file():
            raise UnknownHosts(f"{file.name}: what is imported as {name[:200]} cannot be known when a plan is made")
        real = path.resolve()
        if not real.is_relative_to(self.root):
            raise UnknownHosts(f"{file.name} imports {name[:200]}, which is outside of the project")
        return path.parent.resolve() / path.name


def _text(file: Path) -> str:
    try:
        with file.open("rb") as reading:
            return reading.read(MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnknownHosts(f"{file.name} cannot be read") from error


@lru_cache(maxsize=1_000)  # looked at every two seconds, and seldom changed
def _plays(text: str) -> tuple[tuple[tuple[str, Pattern], ...], tuple[Asked, ...]]:
    try:
        node = bounded_yaml.compose(text)
    except UnreadableText as error:
        raise UnknownHosts(f"broken YAML: {error}") from error
    plays = [item for item in questions.items(node) if isinstance(item, MappingNode)]
    found = tuple(part for play in plays for part in _play(play))
    return found, tuple(asked for play in plays for asked in questions.of_play(play))


@lru_cache(maxsize=1_000)
def _tasks(text: str) -> tuple[Asked, ...]:
    """Return what a file of tasks asks; nothing where it is none, which Ansible says better."""
    try:
        return tuple(questions.of_tasks(bounded_yaml.compose(text)))
    except UnreadableText:
        return ()


def _play(node: MappingNode) -> Iterator[tuple[str, Pattern]]:
    values = {str(key.value): value for key, value in node.value}
    imports = [name for name in IMPORTS if name in values]
    if imports:
        yield imports[0], tuple(_texts(values[imports[0]]))
    elif "hosts" in values:
        yield "hosts", tuple(_texts(values["hosts"]))


def _texts(node: Node) -> Iterator[str]:
    """Yield the texts of a value: `web`, or `[web, db]`."""
    for item in node.value if isinstance(node, SequenceNode) else [node]:
        if isinstance(item, ScalarNode):
            yield str(item.value)
