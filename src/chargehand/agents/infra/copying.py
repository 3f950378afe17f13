"""A private copy of what a manifest says, checked while it is made: each file's bytes are hashed on their way."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from chargehand import folders
from chargehand.agents.infra.manifest import FOLDER, UNREADABLE, link_target
from chargehand.agents.infra.workdir import disk_full_explained
from chargehand.domain.errors import ContentChanged

FICLONE = 0x40049409  # of Linux: the copy shares the blocks of its source until one of them is written to
WORTH_CLONING = 1 << 20  # bytes; below that reading and writing is as fast, and it must be read for its hash anyway
CHUNK = 1 << 20
NO_CLONES = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


def copy_tree(base: Path, entries: Mapping[str, str], target: Path) -> None:
    """Make `target` hold exactly these entries of `base`.

    Raises `ContentChanged` naming the first file that is not what the manifest says, `DiskFull`. Links that lead out of
    the tree must have been refused before.
    """
    with disk_full_explained(target):
        target.mkdir(parents=True)
        copier = _Copier(os.path.realpath(base), os.fspath(target))
        for name, what in entries.items():
            if what == FOLDER:
                os.makedirs(os.path.join(copier.target, name), exist_ok=True)
            elif what != UNREADABLE:
                copier.take(name, what)


def share(base: Path, target: Path, shared: tuple[str, ...]) -> None:
    """Link these paths of the copy to the real ones, which are made as directories where they are missing."""
    for name in shared:
        real = base / name
        if not real.exists():
            folders.make(real, 0o755, above=0o755)
        link = target / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(real.resolve(), target_is_directory=real.is_dir())


class _Copier:
    def __init__(self, base: str, target: str) -> None:
        self.base, self.target = base, target
        self.clones = hasattr(os, "O_NOFOLLOW") and os.uname().sysname == "Linux"

    def take(self, name: str, what: str) -> None:
        source, target = os.path.join(self.base, name), os.path.join(self.target, name)
        kind, said = what.split(" ", 1)
        try:
            same = self._link(source, target, said) if kind == "l" else self._file(source, target, kind, said)
        except (FileNotFoundError, NotADirectoryError) as error:
            if error.filename != source:
                raise
            raise changed(name, "removed") from error
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EACCES) or error.filename != source:
                raise
            same = False
        if not same:
            raise changed(name, "changed")

    def _link(self, source: str, target: str, said: str) -> bool:
        if link_target(source, self.base) != said:
            return False
        os.symlink(said, target)
        return True

    def _file(self, source: str, target: str, kind: str, digest: str) -> bool:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(reading)
            if not stat.S_ISREG(status.st_mode) or (kind == "x") != bool(status.st_mode & stat.S_IXUSR):
                return False
            writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                found = self._bytes(reading, writing, status.st_size)
                os.fchmod(writing, status.st_mode & 0o777 | 0o600)
                os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))  # rsync and make go by it
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        return found == digest

    def _bytes(self, reading: int, writing: int, size: int) -> str:
        """Copy the bytes and return the hash of what has been written."""
        total = hashlib.sha256()
        if size >= WORTH_CLONING and self._clone(reading, writing):
            while chunk := os.read(writing, CHUNK):
                total.update(chunk)
            return total.hexdigest()
        left = size + 1  # one more than there was: it may have grown
        while left and (chunk := os.read(reading, min(left, CHUNK))):
            total.update(chunk)
            left = 0 if len(chunk) == size else left - len(chunk)
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


def changed(name: str, event: str) -> ContentChanged:
    """Return the error for a file that is not what was approved."""
    return ContentChanged(f"{name} was {event} after the plan was approved; nothing was run")
