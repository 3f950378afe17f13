"""Finds the playbooks and scripts of the configured directories and says what each offers.

Nothing found here is fatal. What cannot run as it is (broken YAML, a bad header, a missing program, a link that leads
out of the directory) is still offered, with `unavailable` saying why, so that asking for it says so too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from chargehand import folders
from chargehand.agents import bounded_yaml
from chargehand.agents.infra import headers
from chargehand.agents.infra.headers import BadHeader, Header, Kind
from chargehand.agents.infra.inventories import Inventories
from chargehand.agents.infra.manifest import Manifest, UnfitContent
from chargehand.agents.infra.plays import UnknownHosts, Wanted, wanted
from chargehand.agents.infra.project import playbook_root, script_root
from chargehand.agents.infra.snapshots import Snapshots, Subject, problem_of
from chargehand.domain.errors import UnreadableText
from chargehand.domain.intents import LONGEST_CAUTION, MOST_CAUTIONS, IntentSpec

PLAY_KEYS = frozenset({"hosts", "import_playbook", "ansible.builtin.import_playbook"})
ASKS = "it waits for a key that nobody can press, and fails there"
MAX_BYTES = 1_000_000  # a playbook is written by hand


@dataclass(frozen=True)
class Found:
    """One playbook or script: the offer it makes, and where it lies."""

    spec: IntentSpec
    path: Path
    subject: Subject

    def but(self, **changes: object) -> Found:
        """Return it with these fields of its offer changed."""
        return replace(self, spec=self.spec.model_copy(update=changes))

    def wanted(self) -> Wanted | str:
        """Return what its plays are for, or why that is not known."""
        declared, root = self.spec.parameters.get("properties"), self.subject.root
        try:
            found = wanted(root, root / self.subject.name, declared if isinstance(declared, dict) else {})
        except UnknownHosts as error:
            return str(error)
        return self._unanswered(found.prompts) or found

    def _unanswered(self, prompts: Iterable[str]) -> str | None:
        """Return why a playbook that asks for these variables cannot run: no parameter always answers."""
        parameters = self.spec.parameters
        declared, required = parameters.get("properties"), parameters.get("required")
        schemas = declared if isinstance(declared, dict) else {}
        given = {name for name, schema in schemas.items() if isinstance(schema, dict) and "default" in schema}
        given |= set(map(str, required)) & set(schemas) if isinstance(required, list) else set()
        if missing := sorted({*prompts} - given):
            return (
                f"it asks for {', '.join(missing)} (vars_prompt), and nobody can answer while it runs: declare each in"
                " the header as a parameter that is required or has a default"
            )
        return None


@dataclass(frozen=True)
class _Below:
    """What one directory holds. `names` are all its files, `offered` those that are offered, as their `subjects`."""

    root: Path
    kind: Kind
    names: list[str]
    offered: list[tuple[Path, Header, str | None]]
    subjects: list[Subject]


class Discovery:
    """Scans the directories. `which` finds programs as the playbooks will (see `shutil.which`)."""

    def __init__(
        self,
        playbook_dirs: Iterable[Path],
        script_dirs: Iterable[Path],
        *,
        snapshots: Snapshots | None = None,
        inventories: Inventories | None = None,
        home: Path | None = None,
        which: Callable[[str], str | None] = shutil.which,
        ansible_missing: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._playbook_dirs = tuple(playbook_dirs)
        self._script_dirs = tuple(script_dirs)
        self._snapshots = snapshots or Snapshots(playbook_dirs=self._playbook_dirs)
        self._inventories = inventories or Inventories()
        self._home = home
        self._which = which
        self._ansible_missing = ansible_missing
        self.found: tuple[Found, ...] = ()

    def rescan(self) -> bool:
        """Look again; return whether any offer differs from the last time (the first scan of something does)."""
        before, self.found = self.found, tuple(self._unique(self._scan()))
        changed = self.found != before
        if changed:
            self._snapshots.remember(
                (item.subject, item.spec.bound_hash) for item in self.found if item.spec.content_hash
            )
        return changed

    def _scan(self) -> Iterator[Found]:
        kinds: tuple[tuple[Kind, tuple[Path, ...]], ...] = (
            ("playbook", self._playbook_dirs),
            ("script", self._script_dirs),
        )
        below = [self._below(folder, kind) for kind, folders in kinds for folder in folders]
        offered = [each for each in below if each is not None]
        files = {each.root / subject.name for each in offered for subject in each.subjects}
        written = {path for each in offered for subject in each.subjects for path in _writes(subject)}
        data = sorted(path for path in written if not any(file.is_relative_to(path) for file in files))
        for each in offered:
            yield from self._offers(each, data)

    def _below(self, folder: Path, kind: Kind) -> _Below | None:
        """Return what one directory holds that is to be offered; all of it lies in one project."""
        paths = _children(folder, (".yml", ".yaml") if kind == "playbook" else None)
        headers_of = {path: (_playbook(path) if kind == "playbook" else _script(path)) for path in paths}
        offered = [(path, header, problem) for path, (header, problem) in headers_of.items() if header is not None]
        if not offered:
            return None
        root = (playbook_root if kind == "playbook" else script_root)(folder, self._home)
        place = os.path.relpath(os.path.realpath(folder), root)
        names = [_name(place, path) for path in paths]
        subjects = [Subject(root, _name(place, path), kind, header.spec) for path, header, _ in offered]
        return _Below(root, kind, names, offered, subjects)

    def _offers(self, below: _Below, written: Sequence[Path]) -> Iterator[Found]:
        """Yield what one directory offers. `written` is what work on offer may write, anywhere."""
        project = _Project(self._snapshots, below.root, below.kind, below.names)
        beside = tuple(str(path.relative_to(below.root)) for path in written if path.is_relative_to(below.root))
        subjects = [replace(subject, beside=beside) for subject in below.subjects]
        found = [self._offer(each, subject, project) for each, subject in zip(below.offered, subjects, strict=True)]
        yield from self._with_hosts(found, project) if below.kind == "playbook" else found

    def _offer(self, offered: tuple[Path, Header, str | None], subject: Subject, project: _Project) -> Found:
        path, header, problem = offered
        digest, unfit = project.content_hash(subject)
        missing = (self._ansible_missing() if subject.kind == "playbook" else None) or self._missing_program(header)
        changes = {"content_hash": digest, "source": str(path), "unavailable": problem or unfit or missing}
        return Found(header.spec.model_copy(update=changes), path, subject)

    def _with_hosts(self, found: Sequence[Found], project: _Project) -> Iterator[Found]:
        """Yield what was found with the hosts that it is for, or why these are not known."""
        asked = {item.path: item.wanted() for item in found if item.spec.unavailable is None}
        beside = [each for each in asked.values() if isinstance(each, Wanted)]
        for item in found:
            plays = asked.get(item.path)
            if isinstance(plays, Wanted):
                yield self._with_targets(item, plays, beside, project)
            else:
                yield item if plays is None else item.but(unavailable=plays)

    def _with_targets(self, item: Found, plays: Wanted, beside: list[Wanted], project: _Project) -> Found:
        root, file = item.subject.root, item.subject.root / item.subject.name
        try:
            cautions = tuple(f"{ASKS}: {place}"[:LONGEST_CAUTION] for place in plays.pauses[:MOST_CAUTIONS])
            targets = self._inventories.targets(plays, beside, file, root, project.parts)
            return item.but(targets=targets, cautions=cautions)
        except UnknownHosts as error:
            return item.but(unavailable=str(error))

    def _missing_program(self, header: Header) -> str | None:
        for command in header.commands:
            if self._which(command) is None:
                return f"needs {command}, which is not on this machine's PATH"
        return None

    def _unique(self, found: Iterable[Found]) -> Iterator[Found]:
        """Yield one offer per intent; where two files claim it, neither may be guessed to be the one meant."""
        by_intent: dict[str, list[Found]] = {}
        for item in found:
            by_intent.setdefault(item.spec.intent, []).append(item)
        for intent, items in by_intent.items():
            first = items[0]
            if len(items) > 1:
                names = " and ".join(str(item.path) for item in items)
                clash = f"{names} both offer {intent}: give one another intent in its header"
                first = replace(first, spec=first.spec.model_copy(update={"unavailable": clash}))
            yield first


def unsafe_script(path: Path) -> str | None:
    """Return why a script must not be run as it is: not executable, or somebody else could have written it."""
    status = path.stat()
    if not os.access(path, os.X_OK):
        return f"{path.name} is not executable (chmod +x {path})"
    if status.st_uid not in (0, os.geteuid()):
        return f"{path.name} belongs to another user than root and the agent's"
    return folders.intruder(path)


def _children(folder: Path, suffixes: tuple[str, ...] | None) -> list[Path]:
    if not folder.is_dir():
        return []
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.is_file() and (suffixes is None or path.suffix in suffixes))


def _playbook(path: Path) -> tuple[Header | None, str | None]:
    """Return a playbook's header and why it cannot run; no header for a file that is not meant as a playbook."""
    text, problem = _text(path)
    header, header_problem = _header(path, text, "playbook")
    plays, broken = _plays(text)
    problem = problem or broken
    if header is None and plays is None and problem is None:
        return None, None
    if plays is None and problem is None:
        problem = "not a playbook: the top level must be a list of plays with hosts"
    return header or headers.without_header(path.stem, plays or ()), problem or header_problem


def _script(path: Path) -> tuple[Header | None, str | None]:
    """Return a script's header and why it cannot run; scripts without a header are not offered."""
    text, problem = _text(path)
    header, header_problem = _header(path, text, "script")
    return header, problem or header_problem or (unsafe_script(path) if header else None)


def _header(path: Path, text: str, kind: Kind) -> tuple[Header | None, str | None]:
    try:
        return headers.parse(text, path.name, kind), None
    except BadHeader as error:
        intent = error.intent or headers.fallback_intent(path.stem)
        plain = headers.without_header(path.stem, ())
        return Header(plain.spec.model_copy(update={"intent": intent})), str(error)


def _text(path: Path) -> tuple[str, str | None]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            return "", f"larger than {MAX_BYTES:,} bytes"
        return raw.decode("utf-8"), None
    except UnicodeDecodeError:
        return "", "not text in UTF-8"
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"


def _plays(text: str) -> tuple[tuple[str, ...] | None, str | None]:
    """Return the names of the plays and why the YAML is broken; no names when it is something else than plays."""
    try:
        node = bounded_yaml.compose(text)
    except UnreadableText as error:
        return None, f"broken YAML{f' at line {error.line}' if error.line else ''}: {error}"
    if not isinstance(node, SequenceNode) or not node.value or not all(_is_play(item) for item in node.value):
        return None, None
    return tuple(name for item in node.value if (name := _mapping(item).get("name"))), None


def _writes(subject: Subject) -> list[Path]:
    """Return where work may write in its project; nowhere if what it declares is refused."""
    try:
        return [subject.root / name for name in subject.shared]
    except UnfitContent:
        return []


def _is_play(node: Node) -> bool:
    return isinstance(node, MappingNode) and bool(PLAY_KEYS & set(_mapping(node)))


def _mapping(node: MappingNode) -> dict[str, str]:
    return {str(key.value): str(value.value) for key, value in node.value}


class _Project:
    """The project of one directory, read once per look. `offered` are the files that are offered side by side."""

    def __init__(self, snapshots: Snapshots, root: Path, kind: Kind, offered: list[str]) -> None:
        self._snapshots, self._offered = snapshots, offered
        self._broken: str | None = None
        self.parts: tuple[Manifest, ...] = ()
        try:
            self.parts = snapshots.scanned(root, kind)
            self._problems = snapshots.problems(root, self.parts)
        except UnfitContent as error:
            self._broken = str(error)
        except OSError as error:
            self._broken = f"{error.filename} cannot be read: {error.strerror}"

    def content_hash(self, subject: Subject) -> tuple[str, str | None]:
        """Return the content hash, and why it cannot be vouched for."""
        if self._broken is not None:
            return "", self._broken
        try:
            digest = self._snapshots.content_hash(subject, self.parts)
            unsigned = self._snapshots.unsigned(subject, self.parts[0])
            return digest, unsigned or problem_of(subject, self._problems, self._offered)
        except UnfitContent as error:
            return "", str(error)


def _name(place: str, path: Path) -> str:
    return path.name if place == "." else f"{place}/{path.name}"
