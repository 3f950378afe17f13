"""Files below a directory, by handles: who swaps a directory for a link meanwhile does not lead us anywhere else.

A path is looked up once, from the handle of a root, with no link on the way: by `openat2` where the kernel has it, else
step by step. What is then read, written and renamed is named in the directory that was found, and not by its path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OPENAT2 = 437  # the number of the system call, the same on every architecture of Linux since 5.6
NO_SYMLINKS, BENEATH = 0x04, 0x08
"""RESOLVE_NO_SYMLINKS and RESOLVE_BENEATH of openat2(2)."""
NOT_THERE = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL})  # an old kernel, or a container that forbids it
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@contextmanager
def folder_below(root: Path, folder: Path) -> Iterator[int]:
    """Open a directory that is the root or below it, by its real path. Raises OSError where a link is on the way."""
    top = os.open(root, FOLDER)
    try:
        handle = _opened(top, folder.relative_to(root))
    finally:
        os.close(top)
    try:
        yield handle
    finally:
        os.close(handle)


def is_still(handle: int, root: Path, folder: Path) -> bool:
    """Return whether the path of a directory still leads to this handle."""
    try:
        with folder_below(root, folder) as now:
            return os.path.samestat(os.fstat(handle), os.fstat(now))
    except OSError:
        return False


def file_in(folder: int, name: str) -> int:
    """Open a regular file for reading. Raises OSError for links, FileNotFoundError when there is none."""
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file")
    return handle


def staged(folder: int, name: str, data: bytes, *, like: int | None, mode: int) -> str:
    """Write a complete temporary file in a directory and return its name. Raises OSError; then nothing is left.

    `like` is the handle of the file whose owner, mode and attributes it gets; without one it gets `mode`.
    """
    temporary = f".{name[:200]}.{secrets.token_hex(8)}.tmp"
    handle = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            _dress(file.fileno(), like, mode)
            os.fsync(file.fileno())
    except BaseException:
        remove(folder, temporary)
        raise
    return temporary


def remove(folder: int, name: str) -> None:
    """Remove a file of a directory, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def rename(folder: int, name: str, new: str) -> None:
    """Give a file of a directory another name, in the place of what has that name."""
    os.replace(name, new, src_dir_fd=folder, dst_dir_fd=folder)


def _opened(top: int, below: Path) -> int:
    if str(below) == ".":
        return os.dup(top)
    handle = _by_openat2(top, str(below))
    return _step_by_step(top, below) if handle is None else handle


def _by_openat2(top: int, below: str) -> int | None:
    """Return a handle, or None where the kernel has no such call. Raises OSError."""
    try:
        call = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None
    how = _How(FOLDER, 0, BENEATH | NO_SYMLINKS)
    handle = int(call(OPENAT2, top, os.fsencode(below), ctypes.byref(how), ctypes.sizeof(how)))
    if handle >= 0:
        return handle
    number = ctypes.get_errno()
    if number in NOT_THERE or os.uname().sysname != "Linux":
        return None
    raise OSError(number, os.strerror(number), below)


def _step_by_step(top: int, below: Path) -> int:
    handle = os.dup(top)
    for part in below.parts:
        before = handle
        try:
            handle = os.open(part, FOLDER, dir_fd=before)
        finally:
            os.close(before)
    return handle


def _dress(handle: int, like: int | None, mode: int) -> None:
    if like is None:
        os.fchmod(handle, mode)
        return
    own, wanted = os.fstat(handle), os.fstat(like)
    if (own.st_uid, own.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.fchown(handle, wanted.st_uid, wanted.st_gid)
    os.fchmod(handle, stat.S_IMODE(wanted.st_mode))
    for name in getattr(os, "listxattr", lambda _: [])(like):  # labels, access lists; macOS has no such call
        with suppress(OSError):  # as `shutil.copystat` does: some may be set by root only
            os.setxattr(handle, name, os.getxattr(like, name))
