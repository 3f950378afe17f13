"""Directories and files that only their owner may change: making them so whatever the umask is, and checking others."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from chargehand.domain.errors import BadConfiguration

NOT_OURS = frozenset({"postgres", "work", "playbooks", "scripts"})
"""What a home holds besides our own files: the database's, attempts' (0700 each) and the operator's, which have checks
of their own."""

DEPTH = 3  # levels below a home that hold something: agents/NAME/journal


def make(path: Path, mode: int = 0o700, *, above: int = 0o700) -> None:
    """Make a directory with exactly that mode, and missing ones above it with `above`; one that is there stays."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        wanted = mode if place == path else above
        try:
            place.mkdir(mode=wanted & 0o700)
            place.chmod(wanted)  # whatever the umask took away
        except FileExistsError:
            if not place.is_dir():
                raise


def make_home(home: Path) -> None:
    """Make a home. Root's lets the private PostgreSQL's user pass through it; a user's own is the user's alone."""
    make(home, 0o711 if os.geteuid() == 0 else 0o700, above=0o755)


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all, with no more rights than that at any time."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
    fresh.replace(path)


def check_home(home: Path) -> None:
    """Raise `BadConfiguration` for a home where somebody else could have put or changed something."""
    found = next(_open_in(home), None)
    if found:
        raise BadConfiguration(
            f"{home} is not safe: {found}",
            hint="Whoever could write there could have changed what runs. Look at what is in it; then take the rights"
            f" away (chmod -R go-w '{home}'), or set CHARGEHAND_HOME to another directory.",
        )


def intruder(path: Path, *, sticky: bool = False) -> str | None:
    """Return why somebody else could have put another file in the place of this one, or None.

    The directories above count as well. One that all may write is taken if it is sticky, as /tmp is: entries there are
    their owners'. For the path itself that holds with `sticky` only.
    """
    real = Path(os.path.realpath(path))
    steps = ((real, sticky), *((place, True) for place in real.parents))
    return next((found for place, taken in steps if (found := why_open(str(place), place.stat(), sticky=taken))), None)


def read(path: Path, most: int) -> bytes:
    """Return at most so many bytes of a file that another program may have put there, and never wait for it.

    Raises `OSError`, also for what is no regular file: a pipe would be waited for, and a link may lead anywhere.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return file.read(most)


def why_open(path: str, status: os.stat_result, *, sticky: bool = False) -> str | None:
    """Return why somebody else could change a file or directory, or None.

    For root, who owns it counts, too, and so does a group that may write: its members are not root. A user's own group
    is taken for the user's alone, as systems with a umask of 002 have it.
    """
    mode = status.st_mode
    kept = sticky and stat.S_ISDIR(mode) and mode & stat.S_ISVTX
    if os.geteuid() == 0 and mode & stat.S_IWGRP and status.st_gid != 0 and not kept:
        return f"{path} can be written by group {status.st_gid} (chmod g-w '{path}')"
    if mode & stat.S_IWOTH and not (sticky and stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        return f"{path} can be written by everybody (chmod o-w '{path}')"
    if os.geteuid() == 0 and status.st_uid != 0:
        return f"{path} belongs to user {status.st_uid}, and root would trust it (chown root '{path}')"
    return None


def _open_in(home: Path) -> Iterator[str]:
    if not home.exists():
        return
    if found := intruder(home):
        yield found
    if home.stat().st_uid not in (0, os.geteuid()):
        yield f"{home} belongs to user {home.stat().st_uid}"
    yield from (found for path in (home, *_below(home, DEPTH)) if (found := _why_ours_is_open(path)))


def _why_ours_is_open(path: Path) -> str | None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return None
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        return f"{path} can be written by group {status.st_gid}"
    return why_open(str(path), status)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if entry.name in NOT_OURS:
            continue
        yield Path(entry.path)
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), depth - 1)
