"""What an agent must remember when it dies: which attempts it accepted, started and finished.

An append-only file of JSON lines. Writers that wait at the same time share one write and one fsync, done in a thread.
A torn last line, which a crash can leave, is dropped: nobody was told that it was written. A line that cannot be read,
or is over a limit, is set aside in a file of its own and never read again: what ended one life must not end the next.
After a failed write or fsync the file is not trusted again but written anew beside it and renamed.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import Field, TypeAdapter, ValidationError

from chargehand import folders
from chargehand.domain import bounded_json
from chargehand.domain.envelopes import DEEPEST, MAX_BYTES
from chargehand.domain.errors import BadConfiguration, DiskFull, UnreadableText
from chargehand.domain.messages import WorkOrder, WorkResult
from chargehand.domain.value import Value

log = logging.getLogger("chargehand.agent")

COMPACT_ABOVE = 1_000_000
"""Bytes: below it, reading the file at start-up takes milliseconds."""
MOST_LINE = 2 * MAX_BYTES
"""Bytes of a line: an order or a result, which came or goes as one message, and what stands around it."""
MOST_ASIDE = 10_000_000
"""Bytes of what is set aside: enough to see what happened."""
REMEMBERED = 10_000
"""Recorded attempts kept against late copies of their orders: an hour of the busiest agent."""
SYNC_DATA = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Accepted(Value):
    """An order this agent answers for."""

    line: Literal["accepted"] = "accepted"
    order: WorkOrder
    trace_id: UUID
    request_id: UUID | None = None


class Started(Value):
    """Written before the work begins. It repeats the token: its `accepted` line may be the one that was torn."""

    line: Literal["started"] = "started"
    attempt_id: UUID
    lease_token: int
    incarnation: str


class Finished(Value):
    """A result nobody has recorded yet."""

    line: Literal["finished"] = "finished"
    result: WorkResult


class Forgotten(Value):
    """Attempts whose results are recorded."""

    line: Literal["forgotten"] = "forgotten"
    attempt_ids: tuple[UUID, ...]


Line = Annotated[Accepted | Started | Finished | Forgotten, Field(discriminator="line")]
LINES: TypeAdapter[Accepted | Started | Finished | Forgotten] = TypeAdapter(Line)


@dataclass
class Entry:
    """One attempt as far as it is written down."""

    attempt_id: UUID
    accepted: Accepted | None = None
    started: Started | None = None
    result: WorkResult | None = None


class Journal:
    """The open journal of one agent; `open` makes it this process's alone.

    `name` tells it from every other journal, copies of itself included: whoever has another one does not know what
    this one's agent has accepted.
    """

    def __init__(self, file: _File, lock: int, name: str) -> None:
        self._file, self._lock, self.name = file, lock, name
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chargehand-journal")
        self._waiting: list[tuple[bytes, tuple[Value, ...], asyncio.Future[None] | None]] = []
        self._flusher: asyncio.Task[None] | None = None
        self.entries: dict[UUID, Entry] = {}
        self._forgotten: dict[UUID, None] = {}

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """Read the journal in `folder`, made if need be. Blocks.

        Raises `BadConfiguration` when another agent has it open, `DiskFull` when nothing can be written.
        """
        folders.make(folder)
        lock = _locked(folder / "lock")
        file = _File(folder / "journal.jsonl")
        try:
            journal = cls(file, lock, _name(folder / "name"))
            for line in file.read():
                journal._apply(line)
            file.rewrite(journal._snapshot())  # a fresh file: nothing torn in it, its directory synced
        except OSError as error:
            os.close(lock)
            raise _explained(error, file.path) from error
        return journal

    def is_forgotten(self, attempt_id: UUID) -> bool:
        """Return whether the result of this attempt is known to be recorded."""
        return attempt_id in self._forgotten

    async def write(self, *lines: Value) -> None:
        """Return when the lines are on disk. Raises `DiskFull` or OSError; then they count as not written."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((_encoded(lines), lines, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush(), name="journal")
        await done

    def note(self, line: Value) -> None:
        """Remember a line now and write it with the next ones: to lose it does no harm."""
        self._apply(line)
        self._waiting.append((_encoded((line,)), (), None))

    async def close(self) -> None:
        """Write what waits and give the journal free."""
        if self._flusher is not None:
            await asyncio.wait({self._flusher})
        if self._waiting:
            await self._flush()
        self._thread.shutdown()
        self._file.close()
        os.close(self._lock)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            data = b"".join(encoded for encoded, _, _ in batch)
            head = self._snapshot() if self._file.suspect else b""
            try:
                await loop.run_in_executor(self._thread, self._file.append, head, data)
            except OSError as error:
                _settle(batch, _explained(error, self._file.path))
                continue
            for _, lines, _ in batch:
                for line in lines:
                    self._apply(line)
            _settle(batch, None)
            await self._compact()

    async def _compact(self) -> None:
        if self._file.size < COMPACT_ABOVE or len(snapshot := self._snapshot()) * 2 > self._file.size:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.rewrite, snapshot)
        except OSError as error:
            log.warning("the journal %s could not be compacted: %s", self._file.path, error.strerror)

    def _apply(self, line: Value) -> None:
        if isinstance(line, Accepted):
            self._entry(line.order.attempt_id).accepted = line
        elif isinstance(line, Started):
            self._entry(line.attempt_id).started = line
        elif isinstance(line, Finished):
            self._entry(line.result.attempt_id).result = line.result
        elif isinstance(line, Forgotten):
            self._forget(line.attempt_ids)

    def _entry(self, attempt_id: UUID) -> Entry:
        return self.entries.setdefault(attempt_id, Entry(attempt_id))

    def _forget(self, attempt_ids: Iterable[UUID]) -> None:
        for attempt_id in attempt_ids:
            self.entries.pop(attempt_id, None)
            self._forgotten[attempt_id] = None
        while len(self._forgotten) > REMEMBERED:
            del self._forgotten[next(iter(self._forgotten))]

    def _snapshot(self) -> bytes:
        lines: list[Value] = [Forgotten(attempt_ids=tuple(self._forgotten))] if self._forgotten else []
        for entry in self.entries.values():
            finished = Finished(result=entry.result) if entry.result else None
            lines += [line for line in (entry.accepted, entry.started, finished) if line is not None]
        return _encoded(lines)


class _File:
    """The journal's file. Every method blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.suspect = True
        self._fd: int | None = None

    def read(self) -> list[Accepted | Started | Finished | Forgotten]:
        """Return the lines that can be read; set aside those that cannot, but for a torn last one."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        rows = raw.split(b"\n")
        lines = []
        for number, row in enumerate(rows, start=1):
            try:
                lines += [_line(row)] if row else []
            except (ValidationError, UnreadableText) as error:
                if number < len(rows):
                    self._set_aside(row, number, error)
        return lines

    def _set_aside(self, row: bytes, number: int, error: Exception) -> None:
        """Keep a line for people where no life of the agent reads it."""
        aside = self.path.with_suffix(".aside")
        log.warning(
            "line %d of the journal %s cannot be read and is kept in %s (%s)",
            number,
            self.path,
            aside,
            type(error).__name__,
        )
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as file:
            if file.tell() + len(row) <= MOST_ASIDE:
                file.write(row + b"\n")

    def append(self, head: bytes, data: bytes) -> None:
        """Write and sync; `head` is what the file must hold before it when the old one is not trusted."""
        if self.suspect:
            self.rewrite(head + data)
            return
        assert self._fd is not None
        self.suspect = True  # until this has gone well; after a failed fsync nobody knows what is on disk
        _write_all(self._fd, data)
        SYNC_DATA(self._fd)
        self.size += len(data)
        self.suspect = False

    def rewrite(self, data: bytes) -> None:
        """Put a new file in the place of the old one."""
        fresh = self.path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, data)
            os.fsync(fd)
            os.rename(fresh, self.path)
            _sync_directory(self.path.parent)
        except OSError:
            os.close(fd)
            raise
        self.close()
        self._fd, self.size, self.suspect = fd, len(data), False

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _line(row: bytes) -> Accepted | Started | Finished | Forgotten:
    if len(row) > MOST_LINE or bounded_json.is_deeper(row.decode(errors="replace"), DEEPEST):
        raise UnreadableText("it is too long, or nested too deeply")
    return LINES.validate_json(row)


def _locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise BadConfiguration(
            f"another agent is running on {path.parent.parent}",
            hint="Stop it, or give this agent a home (and an identity) of its own.",
        ) from error
    return fd


def _name(path: Path) -> str:
    """Return the name in the file, made if need be, with the file's own number: a copy of it is another file."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:
        name = file.read().strip()
        if not name:
            name = uuid4().hex
            file.write(name)
        return f"{name}-{os.fstat(file.fileno()).st_ino:x}"


def _encoded(lines: Iterable[Value]) -> bytes:
    return b"".join(line.model_dump_json().encode() + b"\n" for line in lines)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _settle(
    batch: Iterable[tuple[bytes, tuple[Value, ...], asyncio.Future[None] | None]], error: Exception | None
) -> None:
    for _, _, done in batch:
        if done is None or done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno in NO_SPACE:
        return DiskFull(f"no space left to write {path}", hint="Free some space on the agent's disk.")
    return OSError(error.errno, f"the journal {path} cannot be written: {error.strerror}")
