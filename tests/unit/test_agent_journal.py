"""The journal on a real disk: what is written is there again, what is torn is dropped, a full disk loses nothing."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from chargehand.agent.runtime import journal as module
from chargehand.agent.runtime.journal import REMEMBERED, Accepted, Finished, Forgotten, Journal, Started
from chargehand.domain.errors import BadConfiguration, DiskFull
from chargehand.domain.messages import WorkOrder, WorkResult


def accepted(attempt: UUID, parameters: str = "") -> Accepted:
    order = WorkOrder(
        attempt_id=attempt,
        task_id=uuid4(),
        lease_token=1,
        number=1,
        intent="do_it",
        work_type="custom_work",
        parameters={"text": parameters},
        content_hash="",
        retry_safe=True,
        lease_seconds=60,
        deadline_seconds=60,
    )
    return Accepted(order=order, trace_id=uuid4())


def started(attempt: UUID) -> Started:
    return Started(attempt_id=attempt, lease_token=1, incarnation="one")


def finished(attempt: UUID) -> Finished:
    return Finished(result=WorkResult(attempt_id=attempt, lease_token=1, ok=True))


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: a real failed write, half of it on disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_was_written_is_there_in_the_next_life(tmp_path: Path) -> None:
    a, b, c, d = (uuid4() for _ in range(4))
    journal = Journal.open(tmp_path / "j")
    await asyncio.gather(*(journal.write(accepted(attempt)) for attempt in (a, b, c, d)))
    await journal.write(started(b), started(c), started(d))
    await journal.write(finished(c), finished(d))
    journal.note(Forgotten(attempt_ids=(d,)))
    await journal.close()
    again = Journal.open(tmp_path / "j")
    assert set(again.entries) == {a, b, c}
    assert again.entries[a].started is None
    assert again.entries[b].started == started(b)
    assert again.entries[b].result is None
    assert again.entries[c].result == finished(c).result
    assert again.is_forgotten(d)
    await again.close()


async def test_its_name_stays_in_its_next_life_and_is_not_that_of_a_copy(tmp_path: Path) -> None:
    names = []
    for folder in ("j", "j", "copy", "new"):
        if folder == "copy":
            shutil.copytree(tmp_path / "j", tmp_path / "copy")
        journal = Journal.open(tmp_path / folder)
        names.append(journal.name)
        await journal.close()
    assert names[0] == names[1]
    assert len(set(names)) == 3


async def test_only_the_agents_user_can_read_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "j")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "j", tmp_path / "j" / "journal.jsonl")]
    assert modes == [0o700, 0o600]
    await journal.close()


@pytest.mark.parametrize("torn", [b'{"line":"acce', b"\0\0\0\0", b'{"line":"accepted"}\n', b"\xff\xfe\n"])
async def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    attempt = uuid4()
    journal = Journal.open(tmp_path)
    await journal.write(accepted(attempt))
    await journal.close()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(torn)
    again = Journal.open(tmp_path)
    await again.write(started(attempt))
    await again.close()
    third = Journal.open(tmp_path)
    assert list(third.entries) == [attempt]
    assert third.entries[attempt].started is not None
    await third.close()


async def test_a_start_whose_acceptance_was_torn_is_still_known(tmp_path: Path) -> None:
    attempt = uuid4()
    (tmp_path / "journal.jsonl").write_bytes(b'{"line":"acc\0\n' + started(attempt).model_dump_json().encode() + b"\n")
    journal = Journal.open(tmp_path)
    assert journal.entries[attempt].started == started(attempt)
    await journal.close()


async def test_writers_that_wait_together_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []

    def counted(fd: int) -> None:
        syncs.append(fd)
        os.fsync(fd)

    journal = Journal.open(tmp_path)
    monkeypatch.setattr(module, "SYNC_DATA", counted)
    await asyncio.gather(*(journal.write(accepted(uuid4())) for _ in range(200)))
    assert len(journal.entries) == 200
    assert len(syncs) <= 2
    await journal.close()


async def test_a_full_disk_fails_every_waiting_writer_and_keeps_what_was_there(tmp_path: Path) -> None:
    before, lost, after = uuid4(), uuid4(), uuid4()
    journal = Journal.open(tmp_path)
    await journal.write(accepted(before))
    with disk_full_after(50_000):
        outcomes = await asyncio.gather(
            journal.write(accepted(lost, "x" * 100_000)), journal.write(accepted(lost)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [DiskFull, DiskFull]
        assert list(journal.entries) == [before]
        await journal.write(accepted(after))  # a small one fits again
    await journal.close()
    again = Journal.open(tmp_path)
    assert list(again.entries) == [before, after]
    await again.close()


async def test_a_home_without_space_is_refused_and_given_free(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    await journal.write(accepted(uuid4(), "x" * 2000))
    await journal.close()
    with disk_full_after(1000), pytest.raises(DiskFull, match="no space left"):
        Journal.open(tmp_path)
    await Journal.open(tmp_path).close()


async def test_it_is_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_ABOVE", 20_000)
    kept = uuid4()
    journal = Journal.open(tmp_path)
    await journal.write(accepted(kept))
    for _ in range(60):
        attempt = uuid4()
        await journal.write(accepted(attempt), started(attempt), finished(attempt))
        journal.note(Forgotten(attempt_ids=(attempt,)))
    await journal.close()
    assert (tmp_path / "journal.jsonl").stat().st_size < 25_000
    again = Journal.open(tmp_path)
    assert list(again.entries) == [kept]
    await again.close()


async def test_it_remembers_only_so_many_recorded_attempts(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    first, *others = (UUID(int=n) for n in range(REMEMBERED + 1))
    journal.note(Forgotten(attempt_ids=(first, *others)))
    assert not journal.is_forgotten(first)
    assert journal.is_forgotten(others[0])
    await journal.close()


async def test_it_belongs_to_one(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    with pytest.raises(BadConfiguration, match="another agent"):
        Journal.open(tmp_path)
    await journal.close()


async def test_a_cancelled_writer_does_not_stop_the_others(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    gone, kept = uuid4(), uuid4()
    impatient = asyncio.create_task(journal.write(accepted(gone)))
    await asyncio.sleep(0)
    impatient.cancel()
    await journal.write(accepted(kept))
    assert kept in journal.entries
    await journal.close()


async def test_a_line_that_cannot_be_read_is_set_aside_and_never_read_again(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    good, bad = uuid4(), uuid4()
    await journal.write(accepted(good), started(good), finished(bad))
    await journal.close()
    file, aside = tmp_path / "journal.jsonl", tmp_path / "journal.aside"
    lines = file.read_text().splitlines()
    hostile = [
        lines[-1].replace('"outputs":{}', '"outputs":{"a":' + "[" * 5_000 + "]" * 5_000 + "}"),
        lines[-1].replace('"duration_ms":0', '"duration_ms":-99999999999999'),
        '{"line":"finished"' + " " * 3_000_000 + "}",
    ]
    assert len({*hostile, *lines}) == 3 + len(lines), "each line was made hostile"
    file.write_text("\n".join([*hostile, *lines[:-1]]) + "\n")
    again = Journal.open(tmp_path)
    assert list(again.entries) == [good]
    assert again.entries[good].started
    await again.close()
    assert aside.read_text().splitlines() == hostile
    assert aside.stat().st_mode & 0o777 == 0o600
    await Journal.open(tmp_path).close()
    assert aside.read_text().splitlines() == hostile
