"""What an approval of a playbook or script binds to, and the copy of it that an attempt runs in.

A snapshot has parts: the project's tree, and where they lie elsewhere the inventory (with its `group_vars` and
`host_vars`) and the operator's variables file. Its digest, together with which file is run and what its header says, is
the content hash. Right before a start the tree is read again, compared, and copied into the attempt's directory, each
file checked by its hash on the way. What is edited after that belongs to the next approval.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePosixPath

from chargehand import folders
from chargehand.agents.infra import references
from chargehand.agents.infra.copying import copy_tree, set_apart, share
from chargehand.agents.infra.headers import Kind
from chargehand.agents.infra.history import History, Parts, words
from chargehand.agents.infra.inventory import own_inventory
from chargehand.agents.infra.manifest import FOLDER, PROGRAM, Manifest, Tree, UnfitContent, digest_of
from chargehand.agents.infra.signatures import Signers
from chargehand.domain.errors import ContentChanged
from chargehand.domain.intents import NO_TERMS, IntentSpec

PROJECT, INVENTORY, VARIABLES = "project", "inventory", "variables"
NOT_STATE = frozenset({"roles", "tasks", "handlers", "vars", "defaults", "meta", "group_vars", "host_vars", "library",
                       "module_utils", "collections", "templates", "inventory", "hosts", "ansible.cfg"})  # fmt: skip
"""In any letters. What else Ansible would run from a state directory is refused while it runs (`launch.py`)."""

SLOW = 0.1  # seconds; a tree that takes longer to read is read less often while offers are looked for:
SHARE = 20  # at most every so many times as long as it takes, a twentieth of one core


@dataclass(frozen=True)
class Subject:
    """One playbook or script: the project it lies in, its path below that, and what its header says.

    `beside` are paths of the project that other work on offer may write, as its header declares.
    """

    root: Path
    name: str
    kind: Kind
    spec: IntentSpec = field(compare=False)
    beside: tuple[str, ...] = field(default=(), compare=False)

    @property
    def shared(self) -> tuple[str, ...]:
        """What it may write in the real tree, relative to the project. Raises `UnfitContent`."""
        return tuple(_shared(self, path) for path in self.spec.state)

    def content(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        """Return those of the project's entries that an approval binds to. Raises `UnfitContent`.

        What it may write is none of them, and neither is what other work may write, so that a step does not change the
        next one. A program there is content all the same: it would be run.
        """
        own, other = self.shared, self.beside
        if not own and not other:
            return entries
        made = {parent.as_posix() for path in (*own, *other) for parent in PurePosixPath(path).parents}
        return {
            name: what
            for name, what in entries.items()
            if not (what == FOLDER and name in made)  # made for what lies in it
            and not _lies_in(name, own)
            and (what[0] == PROGRAM or not _lies_in(name, other))
        }


@dataclass(frozen=True)
class Copy:
    """Where an attempt runs. `folder` is all of it; `empty` is a directory with nothing in it."""

    folder: Path
    project: Path
    file: Path
    empty: Path
    inventory: tuple[Path, ...] = ()
    vars_file: Path | None = None


class Snapshots:
    """Reads and copies the trees of one agent. `home` is its own directory, which is part of no project."""

    def __init__(
        self,
        *,
        home: Path | None = None,
        inventory: Path | None = None,
        vars_file: Path | None = None,
        playbook_dirs: Iterable[Path] = (),
        signers: Path | None = None,
    ) -> None:
        self._home = home
        self._inventory = inventory and Path(os.path.realpath(inventory))
        self._vars_file = vars_file and Path(os.path.realpath(vars_file))
        self._playbook_dirs = tuple(Path(os.path.realpath(folder)) for folder in playbook_dirs)
        self._signers = Signers(signers)
        self._trees: dict[tuple[str, Path], Tree] = {}
        self._scans: dict[tuple[Path, Kind], tuple[float, tuple[Manifest, ...]]] = {}
        self._history = History(None if home is None else home / "manifests")

    def scanned(self, root: Path, kind: Kind) -> tuple[Manifest, ...]:
        """Return the parts for a look at what is on offer: a large tree is not read every time."""
        until, parts = self._scans.get((root, kind), (0.0, ()))
        if not parts or time.monotonic() >= until:
            began = time.monotonic()
            parts = self.read(root, kind)
            took = time.monotonic() - began
            self._scans[root, kind] = (began + took * SHARE if took > SLOW else 0.0, parts)
        return parts

    def read(self, root: Path, kind: Kind) -> tuple[Manifest, ...]:
        """Return the manifests of the parts as they are now, the project's first. Raises `UnfitContent`, OSError."""
        return tuple(self._tree(name, base, only).read() for name, base, only in self._parts(root, kind))

    def bound_hash(self, subject: Subject, parts: tuple[Manifest, ...]) -> str:
        """Return what an order must name to run these parts (`IntentSpec.bound_hash`). Raises `UnfitContent`."""
        return subject.spec.model_copy(update={"content_hash": self.content_hash(subject, parts)}).bound_hash

    def content_hash(self, subject: Subject, parts: tuple[Manifest, ...]) -> str:
        """Return the digest of all that would run. Raises `UnfitContent` for a `state` that would hide what runs."""
        said = subject.spec.model_dump(mode="json", exclude=set(NO_TERMS))
        content, others = subject.content(parts[0].entries), [part.digest for part in parts[1:]]
        digests = [parts[0].digest if content is parts[0].entries else digest_of(content), *others]
        covered = [subject.kind, subject.name, said, _ansible() if subject.kind == "playbook" else "", digests]
        return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()

    def hash_now(self, subject: Subject) -> str:
        """Return the content hash as things are now; empty when there is nothing left that could be vouched for."""
        try:
            return self.content_hash(subject, self.read(subject.root, subject.kind))
        except (UnfitContent, OSError):
            return ""

    def problems(self, root: Path, parts: tuple[Manifest, ...]) -> dict[str, str]:
        """Return of each file that may not be used why: it reaches out of its tree, or others may write it.

        What is wrong with the directory of a part, or with one above it, stands under an empty name.
        """
        project, *others = parts
        found = references.leaving(root, project.mentions, [*self._playbook_dirs_in(root)] or [root])
        found |= references.leaving_links(root, project.entries)
        for part in others:
            found |= references.leaving_links(part.base, part.entries)
        for part in parts:
            found |= part.open
            if reason := folders.intruder(part.base):
                found[""] = reason
        return found

    def unsigned(self, subject: Subject, project: Manifest, *, fresh: bool = False) -> str | None:
        """Return why nobody vouches for a file's project, where somebody must. Raises `UnfitContent`."""
        return self._signers.problem(project, subject.content, fresh=fresh)

    def remember(self, subjects: Iterable[tuple[Subject, str]]) -> None:
        """Keep the manifests behind these bound hashes, to say later what changed."""
        by_tree: dict[tuple[Path, Kind], list[str]] = {}
        for subject, bound in subjects:
            by_tree.setdefault((subject.root, subject.kind), []).append(bound)
        for (root, kind), hashes in by_tree.items():
            _, parts = self._scans.get((root, kind), (0.0, ()))
            if parts:
                names = self._names(root, kind)
                self._history.keep(hashes, dict(zip(names, (part.entries for part in parts), strict=True)))

    def difference(self, subject: Subject, approved: str) -> str:
        """Return in words what differs from what was approved; empty when that is not known any more."""
        before = self._history.behind(approved)
        try:
            now = self._entries(subject, self.read(subject.root, subject.kind))
        except OSError as error:
            return f"{error.filename} cannot be read any more: {error.strerror}"
        except UnfitContent as error:
            return str(error)
        return words({**before, PROJECT: subject.content(before.get(PROJECT, {}))}, now) if before else ""

    def copy(self, subject: Subject, approved: str, folder: Path) -> Copy:
        """Make a copy in `folder` and return it; whoever asked removes it. It blocks.

        Raises `ContentChanged` unless it is exactly what was approved (any, when that is empty), `UnfitContent`,
        `DiskFull`.
        """
        parts = self._approved_parts(subject, approved)
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier life of the agent
        set_apart(folder.parent)
        return self._copied(subject, parts, folder)

    def _approved_parts(self, subject: Subject, approved: str) -> tuple[Manifest, ...]:
        try:
            parts = self.read(subject.root, subject.kind)
        except OSError as error:
            raise ContentChanged(f"{error.filename} cannot be read: {error.strerror}; nothing was run") from error
        if approved and self.bound_hash(subject, parts) != approved:
            what = self.difference(subject, approved) or f"{subject.name}, or what lies beside it, was changed"
            raise ContentChanged(f"{what} after the plan was approved; nothing was run")
        unsigned = self.unsigned(subject, parts[0], fresh=True)
        if problem := unsigned or problem_of(subject, self.problems(subject.root, parts), ()):
            raise UnfitContent(problem)
        return parts

    def _copied(self, subject: Subject, parts: tuple[Manifest, ...], folder: Path) -> Copy:
        # As many empty directories above the project as it has above it in truth: `..` leads to nothing.
        project = folder.joinpath(*["_"] * (len(subject.root.parts) + 1), subject.root.name or "project")
        places = {name: folder / name for name in self._names(subject.root, subject.kind)} | {PROJECT: project}
        shared = subject.shared
        for part, (name, place) in zip(parts, places.items(), strict=True):
            copy_tree(part.base, part.without(shared) if name == PROJECT else part.entries, place)
        share(subject.root, project, shared)
        empty = folder / "empty"
        empty.mkdir()
        file = project / subject.name
        if subject.kind == "script":
            return Copy(folder, project, file, empty)
        there = {name: (part.base, places[name]) for name, part in zip(places, parts, strict=True)}
        configured, vars_file = _there(there, INVENTORY, self._inventory), _there(there, VARIABLES, self._vars_file)
        inventory = (configured,) if configured else own_inventory(file, project)
        return Copy(folder, project, file, empty, inventory, vars_file)

    def _entries(self, subject: Subject, parts: tuple[Manifest, ...]) -> Parts:
        names = self._names(subject.root, subject.kind)
        found = dict(zip(names, (part.entries for part in parts), strict=True))
        return found | {PROJECT: subject.content(parts[0].entries)}

    def _names(self, root: Path, kind: Kind) -> list[str]:
        return [name for name, _, _ in self._parts(root, kind)]

    def _parts(self, root: Path, kind: Kind) -> Iterator[tuple[str, Path, frozenset[str] | None]]:
        """Yield name, directory and wanted names of each part."""
        yield PROJECT, root, None
        if kind == "playbook":
            for name, path in ((INVENTORY, self._inventory), (VARIABLES, self._vars_file)):
                if path is not None and not path.is_relative_to(root):
                    yield name, *_part_of(name, path)

    def _tree(self, name: str, base: Path, only: frozenset[str] | None) -> Tree:
        tree = self._trees.get((name, base))
        if tree is None:
            look = partial(references.look, base) if name == PROJECT else None
            excluded = self._home if name == PROJECT else None
            tree = self._trees[name, base] = Tree(base, only=only, excluded=excluded, look=look)
        return tree

    def _playbook_dirs_in(self, root: Path) -> list[Path]:
        return [folder for folder in self._playbook_dirs if folder.is_relative_to(root)]


def problem_of(subject: Subject, problems: Mapping[str, str], offered: Iterable[str]) -> str | None:
    """Return why a file cannot be vouched for: its own problem, or one of a file that it may use.

    A problem of another playbook on offer is that playbook's own affair, and what it may write is no content.
    """
    others, shared = {*offered} - {subject.name}, subject.shared
    left = {name: words for name, words in problems.items() if name not in others and not _lies_in(name, shared)}
    return left.get(subject.name) or next(iter(left.values()), None)


def _lies_in(name: str, paths: Iterable[str]) -> bool:
    return any(name == path or name.startswith(f"{path}/") for path in paths)


def _part_of(name: str, path: Path) -> tuple[Path, frozenset[str] | None]:
    if path.is_dir():
        return path, None
    if not path.exists():
        raise UnfitContent(f"{path} is not there", hint=f"It is set as the {name} of every playbook.")
    return path.parent, frozenset({path.name, *(("group_vars", "host_vars") if name == INVENTORY else ())})


def _there(places: Mapping[str, tuple[Path, Path]], name: str, path: Path | None) -> Path | None:
    """Return where the copy of a path lies: in its own part, else in the project's."""
    base, place = places.get(name, places[PROJECT])
    return path and place / path.relative_to(base)


def _is_code(part: str) -> bool:
    return part in NOT_STATE or part.endswith("_plugins")


def _shared(subject: Subject, path: str) -> str:
    folder = os.path.dirname(subject.name)
    name = os.path.normpath(os.path.join(folder, path))
    root = Path(os.path.realpath(subject.root))
    if os.path.isabs(path) or not Path(os.path.realpath(root / name)).is_relative_to(root) or name.startswith(".."):
        raise UnfitContent(f"state: {path} does not lie in the project {root}")
    if os.path.realpath(root / name) != str(root / name):
        raise UnfitContent(f"state: {path} is reached by a link, and that may lead anywhere tomorrow")
    parts = name.split("/")
    if name in (".", subject.name) or subject.name.startswith(f"{name}/"):
        raise UnfitContent(f"state: {path} holds {subject.name} itself")
    if bad := next((part for part in parts if _is_code(part.casefold())), None):
        raise UnfitContent(f"state: {path} would leave out what Ansible runs ({bad})")
    return name


@cache
def _ansible() -> str:
    """Return which Ansible runs playbooks: an upgrade asks for approval again."""
    try:
        return f"ansible-core {importlib.metadata.version('ansible-core')}"
    except importlib.metadata.PackageNotFoundError:
        return ""
