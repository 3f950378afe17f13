"""Write a backup: whole, and readable by its owner only, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chargehand.backup.manifest import DATABASE, KEY, MANIFEST, Manifest, Member, sign
from chargehand.backup.programs import Program, run
from chargehand.domain.errors import BadRequest, DiskFull


async def back_up(
    target: Path,
    dump: Callable[[Path], Awaitable[None]],
    describe: Callable[[dict[str, Member]], Manifest],
    master: bytes,
    *,
    with_key: bool,
) -> Manifest:
    """Dump the database, add the key if asked, and put both with their manifest into `target`.

    Raises `BadRequest` when `target` is there already, `DiskFull` when it cannot be written, and what `dump` raises.
    """
    with _refusals(target), _beside(target) as room:
        members = {DATABASE: room / DATABASE}
        await dump(members[DATABASE])
        if with_key:
            members[KEY] = room / KEY
            _private(members[KEY], master)
        manifest = describe({name: measured(path) for name, path in members.items()})
        _pack(room / "archive", sign(manifest, master), members)
        (room / "archive").replace(target)
        _sync(target.parent)
    return manifest


async def dump_database(pg_dump: Program, dsn: str, snapshot: str, path: Path) -> None:
    """Write one snapshot of the database into a file, compressed, while others go on working with it."""
    _private(path, b"")
    # Who owns what is a matter of the server that it is restored on.
    how = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={path}"]
    await run(pg_dump, how, dsn)


def measured(path: Path) -> Member:
    """Return a file's size and digest."""
    with path.open("rb") as file:
        return Member(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _pack(path: Path, manifest: bytes, members: dict[str, Path]) -> None:
    _private(path, b"")
    with path.open("r+b") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            head = tarfile.TarInfo(MANIFEST)
            head.size, head.mode = len(manifest), 0o600
            tar.addfile(head, io.BytesIO(manifest))
            for name, source in members.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = source.stat().st_size, 0o600
                with source.open("rb") as content:
                    tar.addfile(info, content)
        file.flush()
        os.fsync(file.fileno())


def _private(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Yield a private directory on the target's disk, so that what was made there can be renamed to the target."""
    if target.exists():
        raise BadRequest(f"{target} is there already", hint="Choose another name: a backup overwrites nothing.")
    room = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


@contextmanager
def _refusals(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskFull(
            f"{target} cannot be written: {error.strerror or error}",
            hint="Choose a directory that is there, that you may write to, and that has space.",
        ) from error


def _sync(directory: Path) -> None:
    """Make the rename survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
