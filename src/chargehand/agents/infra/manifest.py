"""The manifest of a tree of files: what lies where, and the hash of each file.

Two trees with one manifest hold the same: names, bytes, whether a file may be executed, and where links lead. What
changes without anybody editing is left out (IGNORED_FOLDERS, _IGNORED_FILES, virtual environments), and so are
sockets and devices. What is left out is not copied either, so nothing that runs can use it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from chargehand import folders
from chargehand.domain.errors import BadConfiguration

IGNORED_FOLDERS = frozenset({".git", ".hg", ".svn", "__pycache__", ".idea", ".vscode"})
SIGNED, SIGNATURE = ".chargehand-manifest", ".chargehand-manifest.sig"  # they vouch for a tree, and are not its content
_IGNORED_FILES = re.compile(
    r".*(?:\.py[co]|\.retry|~|\.sw[a-p])|\.#.*|#.*#|\.git|\.DS_Store|\.nfs.*|4913|\.chargehand-manifest(?:\.sig)?",
    re.DOTALL,
)
ENVIRONMENT = "pyvenv.cfg"  # a folder that holds it is a virtual environment
MAX_FILES = 50_000  # above that it is somebody's home directory, not a project
MAX_BYTES = 2_000_000_000  # every attempt copies them
SETTLED = 1_000_000_000  # ns; a younger file may change again without its time changing, so its hash is not kept

FOLDER, PROGRAM, UNREADABLE = "d", "x", "?"

Stamp = tuple[int, int, int, int, int]


class UnfitContent(BadConfiguration):
    """A tree cannot be vouched for: it is too large, or reaches outside of itself."""

    code = "unfit-content"


@dataclass(frozen=True)
class Manifest:
    """`entries` says of each relative path what is there: `d`, `f HASH`, `x HASH` (may be executed), `l TARGET`.

    `?` is what the agent's user may not read. `mentions` are what `Look` found in files, for whoever checks them;
    `open` says of files and directories why others could change them.
    """

    base: Path
    entries: Mapping[str, str]
    mentions: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    open: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def digest(self) -> str:
        return digest_of(self.entries)

    def without(self, shared: Iterable[str]) -> Mapping[str, str]:
        """Return the entries that lie neither at nor below one of these paths."""
        paths = tuple(shared)
        if not paths:
            return self.entries
        below = tuple(f"{path}/" for path in paths)
        return {name: what for name, what in self.entries.items() if name not in paths and not name.startswith(below)}


def digest_of(entries: Mapping[str, str]) -> str:
    """Return the SHA-256 of a manifest. Neither names nor link targets can hold the zero bytes between them."""
    parts = [part for name in sorted(entries) for part in (name, entries[name])]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what differs, in words for people: `tasks/more.yml was changed`."""
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"{name} was {_event(before.get(name), after.get(name))}" for name in names]


def _event(before: str | None, after: str | None) -> str:
    return "added" if before is None else "removed" if after is None else "changed"


def link_target(path: str, root: str) -> str:
    """Return where a symbolic link leads; within the tree by a relative path, which leads to the same in a copy."""
    target = os.readlink(path)
    if os.path.isabs(target) and f"{os.path.normpath(target)}/".startswith(f"{root}/"):
        return os.path.relpath(target, os.path.dirname(path))
    return target


Look = Callable[[str, bytes], tuple[str, ...]]
"""What to note of a file while its bytes are at hand: its name and bytes in, anything out."""


class Tree:
    """Reads the manifest of one directory, and a file again only when its stamp has changed.

    `only` restricts it to these names at the top. `excluded` is a directory that must not lie in it: our own.
    """

    def __init__(
        self, base: Path, *, only: Iterable[str] | None = None, excluded: Path | None = None, look: Look | None = None
    ) -> None:
        self.base = base
        self._only = None if only is None else frozenset(only)
        self._excluded = None if excluded is None else os.path.realpath(excluded)
        self._look = look
        self._known: dict[str, tuple[Stamp, str, tuple[str, ...]]] = {}

    def read(self) -> Manifest:
        """Return the manifest as things are now. Raises `UnfitContent`, or OSError when the directory is not there."""
        reading = _Reading(self, self._known)
        reading.folder(reading.root, "")
        self._known = reading.known
        return Manifest(self.base, reading.entries, reading.mentions, reading.open)

    def wanted(self, name: str) -> bool:
        return self._only is None or name in self._only

    def check(self, folder: str, files: int, size: int) -> None:
        if folder == self._excluded:
            raise UnfitContent(f"{self.base} holds Chargehand's own files ({folder})", hint="Keep them apart.")
        if files > MAX_FILES or size > MAX_BYTES:
            raise UnfitContent(
                f"{self.base} holds more than {MAX_FILES:,} files or {MAX_BYTES // 10**9} GB",
                hint="docs/playbooks.md#the-project says which directory counts and how to choose a smaller one.",
            )

    def look(self, name: str, content: bytes) -> tuple[str, ...]:
        return self._look(name, content) if self._look else ()


class _Reading:
    """One walk through a tree. `before` is what earlier walks know of its files."""

    def __init__(self, tree: Tree, before: Mapping[str, tuple[Stamp, str, tuple[str, ...]]]) -> None:
        self.tree, self.before = tree, before
        self.root = os.path.realpath(tree.base)
        self.entries: dict[str, str] = {}
        self.mentions: dict[str, tuple[str, ...]] = {}
        self.open: dict[str, str] = {}
        self.known: dict[str, tuple[Stamp, str, tuple[str, ...]]] = {}
        self.size = 0
        self.settled = time.time_ns() - SETTLED

    def folder(self, folder: str, prefix: str) -> None:
        self.tree.check(folder, len(self.entries), self.size)
        with os.scandir(folder) as found:
            items = list(found)
        if prefix and any(item.name == ENVIRONMENT for item in items):
            return
        if prefix:
            self.entries[prefix[:-1]] = FOLDER
            self._look_at_rights(prefix[:-1], folder, os.stat(folder))
        for item in items:
            if prefix or self.tree.wanted(item.name):
                self._item(item, prefix + item.name)

    def _item(self, item: os.DirEntry[str], name: str) -> None:
        if item.is_symlink():
            if not _IGNORED_FILES.fullmatch(item.name):
                self.entries[name] = f"l {link_target(item.path, self.root)}"
        elif item.is_dir(follow_symlinks=False):
            if item.name not in IGNORED_FOLDERS:
                self._folder(item, name)
        elif item.is_file(follow_symlinks=False) and not _IGNORED_FILES.fullmatch(item.name):
            self._file(item, name)

    def _folder(self, item: os.DirEntry[str], name: str) -> None:
        try:
            self.folder(item.path, name + "/")
        except PermissionError:
            self.entries[name] = UNREADABLE
        except FileNotFoundError:
            return  # removed while we looked

    def _file(self, item: os.DirEntry[str], name: str) -> None:
        try:
            status = item.stat(follow_symlinks=False)
            stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            known = self.before.get(name)
            if known is None or known[0] != stamp:
                known = (stamp, *self._hashed(item.path, name))
        except PermissionError:
            self.entries[name] = UNREADABLE
            return
        except FileNotFoundError:
            return
        self.size += status.st_size
        self._look_at_rights(name, item.path, status)
        self.entries[name] = f"{PROGRAM if status.st_mode & stat.S_IXUSR else 'f'} {known[1]}"
        if known[2]:
            self.mentions[name] = known[2]
        if max(status.st_mtime_ns, status.st_ctime_ns) < self.settled:
            self.known[name] = known

    def _look_at_rights(self, name: str, path: str, status: os.stat_result) -> None:
        if reason := folders.why_open(path, status):
            self.open[name] = reason

    def _hashed(self, path: str, name: str) -> tuple[str, tuple[str, ...]]:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if os.fstat(file.fileno()).st_size > LOOKED_AT:
                return hashlib.file_digest(file, "sha256").hexdigest(), ()
            content = file.read()
        return hashlib.sha256(content).hexdigest(), self.tree.look(name, content)


LOOKED_AT = 1_000_000  # bytes; longer files are data, not what somebody wrote by hand
