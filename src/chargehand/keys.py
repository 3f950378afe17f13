"""Secrets in files that only their owner can read. The master key is one: agents' keys and the seals' come from it."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from chargehand import folders
from chargehand.domain.errors import BadConfiguration

KEY_BYTES = 32
MAX_TOKEN = 4096  # characters; no service gives out longer ones


def master_key(path: Path) -> bytes:
    """Return the key in the file, which is made (0600) when there is none.

    Raises `BadConfiguration` when others may read the file or it is no key.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        return _make(path)


def secret(path: Path) -> str:
    """Return the token in the file, without the space around it.

    Raises `BadConfiguration` when there is none, others may read it, or it is more than one printable word.
    """
    try:
        words = _private(path, MAX_TOKEN + 1).decode("ascii", errors="replace").split()
    except OSError as error:
        raise BadConfiguration(f"cannot read the key in {path}: {error.strerror}") from error
    if len(words) != 1 or len(words[0]) > MAX_TOKEN or not (words[0].isascii() and words[0].isprintable()):
        raise BadConfiguration(f"{path} does not hold a key", hint="It must hold the key alone, on one line.")
    return words[0]


def _private(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        content = file.read(most)
    if mode & 0o077:
        raise BadConfiguration(f"{path} can be read by others", hint=f"Run: chmod 600 '{path}'")
    return content


def _read(path: Path) -> bytes:
    key = _private(path, KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise BadConfiguration(
            f"{path} is not a master key",
            hint="Restore it from a backup: without it agents cannot be spoken to and seals cannot be checked.",
        )
    return key


def _make(path: Path) -> bytes:
    """Write a new key beside the path, then link it there: whoever comes second reads the first one's."""
    folders.make_home(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return _read(path)
