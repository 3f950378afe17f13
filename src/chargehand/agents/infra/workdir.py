"""Small files in the private directory of an attempt."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chargehand.domain.errors import DiskFull

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_full_explained(path: Path) -> Iterator[None]:
    """Turn "no space left" into `DiskFull`, which says that it may pass; other errors stay as they are."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFull(f"no space left to write {path}", hint="Free some space, then retry.") from error
        raise


def write_private(path: Path, text: str) -> Path:
    """Write a file that only the agent's user can read, and return its path. Raises `DiskFull`.

    What an earlier life of the agent left of the same attempt is replaced.
    """
    path.unlink(missing_ok=True)
    with (
        disk_full_explained(path),
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file,
    ):
        file.write(text)
    return path


@contextmanager
def private_file(path: Path, text: str) -> Iterator[Path]:
    """Write a file that only the agent's user can read, for as long as the block lasts: it may hold secrets."""
    try:
        yield write_private(path, text)
    finally:
        path.unlink(missing_ok=True)
