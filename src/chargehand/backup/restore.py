"""Read a backup: everything in it is checked before anything is done with it."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chargehand.backup import manifest as m
from chargehand.backup.backup import measured
from chargehand.backup.programs import Program, run
from chargehand.domain.errors import BadConfiguration, DiskFull

KEY_BYTES = 32


@dataclass(frozen=True)
class Unpacked:
    """A checked backup. `key` is the master key to use: this home's, or the backup's if the home has none."""

    manifest: m.Manifest
    dump: Path
    key: bytes


@contextmanager
def unpacked(archive: Path, own_key: bytes | None, room: Path) -> Iterator[Unpacked]:
    """Yield a checked backup; its dump is a private file below `room` while the block lasts.

    Raises `BadArchive` for a damaged, altered or foreign one, `BadConfiguration` when its key and this home's do not
    agree or there is none, and `DiskFull`.
    """
    with _refusals(archive), tempfile.TemporaryDirectory(prefix="restore-", dir=room) as folder:
        with _opened(archive) as tar:
            text = _small(tar, m.MANIFEST, m.LARGEST)
            said = m.unsigned(text)
            if sorted(tar.getnames()) != sorted([m.MANIFEST, *said.members]) or m.DATABASE not in said.members:
                raise m.BadArchive("this is not a backup: it holds other files than its manifest names")
            key = _key(_small(tar, m.KEY, KEY_BYTES) if m.KEY in said.members else None, own_key)
            m.check_signature(text, key)
            for name, member in said.members.items():
                _extract(tar, name, Path(folder) / name)
                found = measured(Path(folder) / name)
                m.check_member(name, member, found.size, found.sha256)
        yield Unpacked(said, Path(folder) / m.DATABASE, key)


async def load_dump(pg_restore: Program, dump: Path, dsn: str) -> None:
    """Fill an empty database from a dump, whole or not at all. Raises `BadConfiguration`."""
    how = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(dump)]
    await run(pg_restore, how, dsn)


@contextmanager
def key_in_place(path: Path, key: bytes) -> Iterator[None]:
    """Put the master key where it belongs if there is none; take it away again when the block fails."""
    if path.exists():
        yield
        return
    with _refusals(path), open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    with ExitStack() as failing:
        failing.callback(path.unlink)
        yield
        failing.pop_all()


def _key(brought: bytes | None, own: bytes | None) -> bytes:
    """Return the key that both sides agree on."""
    key = own or brought
    if key is None:
        raise BadConfiguration(
            "the backup was made without its master key, and there is none here",
            hint="Put master.key, which you keep apart, into the home first (mode 0600).",
        )
    if brought is not None and brought != key:
        raise BadConfiguration(
            "this home has another master key than the backup",
            hint="Restore into a home without one (CHARGEHAND_HOME), or move this home's master.key away: agents that "
            "were enrolled with it must then be enrolled again.",
        )
    return key


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        tar = tarfile.open(archive, "r:")  # noqa: SIM115 - closed below; this try must not cover the caller's block
    except tarfile.TarError as error:
        raise m.BadArchive(f"{archive} is not a backup") from error
    with tar:
        yield tar


def _small(tar: tarfile.TarFile, name: str, largest: int) -> bytes:
    """Return the content of a member that has to be small, without writing it anywhere."""
    member = _member(tar, name)
    file = tar.extractfile(member)
    if file is None or member.size > largest:
        raise m.BadArchive(f"this is not a backup: its {name} is too large")
    return file.read()


def _extract(tar: tarfile.TarFile, name: str, path: Path) -> None:
    """Copy one member's bytes. Names, owners and modes in the backup are ignored."""
    source = tar.extractfile(_member(tar, name))
    assert source is not None, "it is a file"
    with path.open("xb") as file:
        try:
            shutil.copyfileobj(source, file)
        except tarfile.TarError as error:
            raise m.BadArchive(f"the backup is damaged: {name} ends too early") from error


def _member(tar: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    try:
        found = tar.getmember(name)
    except (KeyError, tarfile.TarError) as error:
        raise m.BadArchive(f"this is not a backup: it has no {name}") from error
    if not found.isreg():
        raise m.BadArchive(f"this is not a backup: its {name} is no ordinary file")
    return found


@contextmanager
def _refusals(archive: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise m.BadArchive(f"there is no file {error.filename or archive}") from error
    except OSError as error:
        raise DiskFull(
            f"{error.filename or archive}: {error.strerror or error}", hint="Nothing was changed."
        ) from error
