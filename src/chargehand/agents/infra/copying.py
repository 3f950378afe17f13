"""A private copy of what a manifest says, checked while it is made: each file's bytes are hashed on their way.

The hash is always taken from the bytes that are copied. What is remembered of a file by its times says nothing here: a
program that has a file mapped into its memory changes it without changing them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from chargehand import folders
from chargehand.agents.infra.manifest import FOLDER, UNREADABLE, link_target
from chargehand.agents.infra.workdir import disk_full_explained
from chargehand.domain.errors import ContentChanged

FICLONE = 0x40049409  # of Linux: the copy shares the blocks of its source until one of them is written to
GET_FLAGS, SET_FLAGS, TOP_DIRECTORY = 0x80086601, 0x40086602, 0x00020000  # of Linux: what `chattr +T` does
CHUNK = 1 << 20  # bytes; below that reading and writing is as fast as cloning, and it must be read for its hash anyway
NO_CLONES = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
TARGET = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(base: Path, entries: Mapping[str, str], target: Path) -> None:
    """Make `target` hold exactly these entries of `base`.

    Raises `ContentChanged` naming a file that is not what the manifest says, `DiskFull`. Links that lead out of the
    tree must have been refused before.
    """
    with disk_full_explained(target):
        target.mkdir(parents=True)
        folders = _by_folder(entries)
        for folder in folders:
            os.makedirs(target / folder, exist_ok=True)
        copier = _Copier(os.path.realpath(base), os.fspath(target))
        for folder, inside in folders.items():
            if inside:
                copier.folder(folder, inside)


def set_apart(folder: Path) -> None:
    """Let the directories that are made in a folder lie far from each other, where the file system knows how.

    ext4 takes no number of a file that was removed within the last five minutes, and looks at each of them to find that
    out: beside the place of a copy that was just removed, a new one takes ten times as long.
    """
    with suppress(OSError, ContentChanged), _directory(os.fspath(folder), "") as handle:
        flags = bytearray(8)
        fcntl.ioctl(handle, GET_FLAGS, flags)
        wanted = int.from_bytes(flags, sys.byteorder) | TOP_DIRECTORY
        fcntl.ioctl(handle, SET_FLAGS, wanted.to_bytes(8, sys.byteorder))


def share(base: Path, target: Path, shared: tuple[str, ...]) -> None:
    """Link these paths of the copy to the real ones, which are made as directories where they are missing."""
    for name in shared:
        real = base / name
        if not real.exists():
            folders.make(real, 0o755, above=0o755)
        link = target / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(real.resolve(), target_is_directory=real.is_dir())


Entries = list[tuple[str, str, str]]
"""Of one directory: the name of each entry in it, its path below the tree, and what the manifest says of it."""


def _by_folder(entries: Mapping[str, str]) -> dict[str, Entries]:
    """Return the entries by the directory they lie in; those that are directories are its keys."""
    folders: dict[str, Entries] = {"": []}
    for path, what in entries.items():
        if what == FOLDER:
            folders.setdefault(path, [])
        elif what != UNREADABLE:
            folder, _, name = path.rpartition("/")
            folders.setdefault(folder, []).append((name, path, what))
    return folders


class _Copier:
    def __init__(self, base: str, target: str) -> None:
        self.base, self.target = base, target
        self.clones = hasattr(os, "O_NOFOLLOW") and os.uname().sysname == "Linux"
        self.masked = _umask()

    def folder(self, folder: str, entries: Entries) -> None:
        """Copy what lies in one directory. Its path is walked once, not for each file."""
        with _directory(self.base, folder) as source, _directory(self.target, folder) as target:
            for name, path, what in entries:
                self.take(source, target, name, path, what)

    def take(self, source: int, target: int, name: str, path: str, what: str) -> None:
        kind, said = what[0], what[2:]
        if kind == "l":
            same = self._link(target, name, path, said)
        else:
            reading = _source(source, name, path)
            try:
                same = self._file(reading, target, name, kind, said)
            finally:
                os.close(reading)
        if not same:
            raise changed(path, "changed")

    def _link(self, target: int, name: str, path: str, said: str) -> bool:
        try:
            same = link_target(os.path.join(self.base, path), self.base) == said
        except OSError as error:
            raise _unlike(path, error) from error
        if same:
            os.symlink(said, name, dir_fd=target)
        return same

    def _file(self, reading: int, target: int, name: str, kind: str, digest: str) -> bool:
        status = os.fstat(reading)
        if not stat.S_ISREG(status.st_mode) or (kind == "x") != bool(status.st_mode & stat.S_IXUSR):
            return False
        mode = status.st_mode & 0o777 | 0o600
        writing = os.open(name, TARGET, mode, dir_fd=target)
        try:
            found = self._bytes(reading, writing, status.st_size)
            if mode & self.masked:
                os.fchmod(writing, mode)
            os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))  # rsync and make go by it
        finally:
            os.close(writing)
        return found == digest

    def _bytes(self, reading: int, writing: int, size: int) -> str:
        """Copy the bytes and return the hash of what has been written."""
        if size < CHUNK:
            content = os.read(reading, size + 1)  # one more than there was: it may have grown
            if len(content) <= size and os.write(writing, content) == len(content):
                return hashlib.sha256(content).hexdigest()
            return ""
        total = hashlib.sha256()
        if self._clone(reading, writing):
            while chunk := os.read(writing, CHUNK):
                total.update(chunk)
            return total.hexdigest()
        left = size + 1
        while left and (chunk := os.read(reading, min(left, CHUNK))):
            total.update(chunk)
            left -= len(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(writing, rest) :]
        return total.hexdigest()

    def _clone(self, reading: int, writing: int) -> bool:
        try:
            if self.clones:
                fcntl.ioctl(writing, FICLONE, reading)
        except OSError as error:
            if error.errno not in NO_CLONES:
                raise
            self.clones = False  # not on this file system
        return self.clones


@contextmanager
def _directory(base: str, folder: str) -> Iterator[int]:
    try:
        handle = os.open(os.path.join(base, folder), DIRECTORY)
    except OSError as error:
        raise _unlike(folder, error) from error
    try:
        yield handle
    finally:
        os.close(handle)


def _source(folder: int, name: str, path: str) -> int:
    """Open a file of the tree. Raises `ContentChanged` where it is no file, or none that can be read, any more."""
    try:
        return os.open(name, SOURCE, dir_fd=folder)
    except OSError as error:
        raise _unlike(path, error) from error


def _unlike(path: str, error: OSError) -> Exception:
    """Return what an error says of a path of the tree: it is not what it was, or something else is wrong."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return changed(path, "removed")
    return changed(path, "changed") if error.errno in (errno.ELOOP, errno.EINVAL, errno.EACCES, errno.ENXIO) else error


def _umask() -> int:
    """Return the bits that new files of this process lack; all of them where the kernel does not say."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))
    except (OSError, StopIteration):
        return 0o777


def changed(name: str, event: str) -> ContentChanged:
    """Return the error for a file that is not what was approved."""
    return ContentChanged(f"{name} was {event} after the plan was approved; nothing was run")
