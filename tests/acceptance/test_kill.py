"""kill -9 of the program in every state, then the same command with the same key: nothing is lost, nothing is doubled.

How a state is hit without a hook in the product: a trigger on the events table makes the transaction that would write
a given event wait for a lock that the test holds. The program has then committed everything before that event and
nothing of it; there it is killed. The scripts write a line per start and per end, with the attempt they run in.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from chargehand.private_postgres import PrivatePostgres
from tests.postgres import require_postgres, throwaway_home

LOCK = 20261122
SENTENCE = "send the invoices then print the letters"
SCRIPT = """#!/bin/sh
# chargehand:
#   intent: {intent}
#   work_type: run_automation
#   description: {words}
#   examples:
#     - {words}
#     - please {words}
#     - {words} now
#     - {words} today
#   risk: change
#   retry_safe: {safe}
echo "{intent} start $(basename "$PWD")" >> "{effects}"
echo "progress: half way"
sleep 0.4
echo "{intent} end $(basename "$PWD")" >> "{effects}"
"""
BLOCK = f"""
CREATE TABLE IF NOT EXISTS stop_at (kind text);
CREATE OR REPLACE FUNCTION wait_at_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM stop_at WHERE kind = NEW.kind) THEN
        PERFORM pg_advisory_xact_lock({LOCK});
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER wait_at_event BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION wait_at_event();
"""

BEFORE_WORK = ["request.decomposing", "plan.pending_approval", "approval.approved", "task.ready", "attempt.leased"]
# With a slot free, work is accepted and started in one transaction.
DURING_WORK = ["attempt.started", "task.progress", "attempt.succeeded"]


@dataclass
class Place:
    """A home with its server running, and the scripts to be run in it."""

    home: Path
    base: Path

    @property
    def effects(self) -> Path:
        return self.base / "effects"

    def scripts(self, *, safe: bool) -> None:
        folder = self.base / "scripts"
        folder.mkdir(mode=0o755, exist_ok=True)
        for intent, words in (("send_invoices", "send the invoices"), ("print_letters", "print the letters")):
            path = folder / f"{intent}.sh"
            text = SCRIPT.format(intent=intent, words=words, safe=str(safe).lower(), effects=self.effects)
            path.write_text(text)
            path.chmod(0o755)

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CHARGEHAND_")}
        return kept | {
            "PYTHONPATH": "src",
            "CHARGEHAND_HOME": str(self.home),
            "CHARGEHAND_PLAYBOOKS": str(self.base / "no-playbooks"),
            "CHARGEHAND_SCRIPTS": str(self.base / "scripts"),
            "CHARGEHAND_HEARTBEAT_SECONDS": "1",
            "CHARGEHAND_SWEEP_SECONDS": "0.5",
            "CHARGEHAND_LEASE_SECONDS": "6",
            "CHARGEHAND_LEASE_GRACE": "1",
        }

    def start(self, key: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "chargehand", "run", SENTENCE, "--yes", "--key", key],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "chargehand", *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )

    def lines(self) -> list[str]:
        return self.effects.read_text().splitlines() if self.effects.exists() else []


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """One home for the module; the first run of the program fills its database."""
    require_postgres()
    with throwaway_home() as home:
        base = home.parent / "work"
        base.mkdir()
        made = Place(home, base)
        made.scripts(safe=True)
        ready = made.run("requests")
        assert ready.returncode == 0, ready.stdout
        yield made


@pytest.fixture
async def database(place: Place) -> AsyncIterator[asyncpg.Connection]:
    """A connection that can hold the program at an event."""
    connection = await asyncpg.connect(PrivatePostgres(place.home).start())
    await connection.execute(BLOCK)
    yield connection
    await connection.execute("DELETE FROM stop_at")
    await connection.close()


@pytest.mark.parametrize("kind", DURING_WORK)  # before and after, nothing depends on whether work is safe to repeat
async def test_killed_while_it_runs_safe_work_completes_and_no_lease_runs_twice(
    place: Place, database: asyncpg.Connection, kind: str
) -> None:
    place.scripts(safe=True)
    place.effects.unlink(missing_ok=True)
    key = f"safe {kind}"
    await _kill_at(place, database, key, kind)
    again = place.run("run", SENTENCE, "--yes", "--key", key)
    assert again.returncode == 0, again.stdout
    starts = Counter(line for line in place.lines() if " start " in line)
    assert set(starts.values()) == {1}, "an attempt ran twice under one lease"
    ended = {line.split()[0] for line in place.lines() if " end " in line}
    assert ended == {"send_invoices", "print_letters"}
    await _one_request_all_done(database, key)


@pytest.mark.parametrize("kind", [*BEFORE_WORK, *DURING_WORK, "request.completed"])
async def test_killed_anywhere_unsafe_work_never_starts_twice(
    place: Place, database: asyncpg.Connection, kind: str
) -> None:
    place.scripts(safe=False)
    place.effects.unlink(missing_ok=True)
    key = f"unsafe {kind}"
    await _kill_at(place, database, key, kind)
    again = place.run("run", SENTENCE, "--yes", "--key", key)
    starts = Counter(line.split()[0] for line in place.lines() if " start " in line)
    assert max(starts.values(), default=0) <= 1, "work that is not safe to repeat was repeated"
    if kind in BEFORE_WORK or kind == "request.completed":
        assert again.returncode == 0, again.stdout
    if again.returncode != 0:
        assert again.returncode == 3, again.stdout
        assert await _status(database, key) == "in_review"
        request_id = await database.fetchval("SELECT request_id FROM requests WHERE idempotency_key = $1", key)
        settled = place.run("retry", str(request_id), "--done")
        assert settled.returncode == 0, settled.stdout
        starts = Counter(line.split()[0] for line in place.lines() if " start " in line)
        assert max(starts.values()) <= 1
    await _one_request_all_done(database, key)


async def _kill_at(place: Place, database: asyncpg.Connection, key: str, kind: str) -> None:
    """Start the command, wait until it is held at the event, and kill it with everything it started itself."""
    await database.execute("DELETE FROM stop_at")
    await database.execute("INSERT INTO stop_at VALUES ($1)", kind)
    await database.execute(f"SELECT pg_advisory_lock({LOCK})")
    program = place.start(key)
    try:
        await _held(database, program)
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        await database.execute("DELETE FROM stop_at")
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted",
            LOCK,
        )
        await database.execute(f"SELECT pg_advisory_unlock({LOCK})")


async def _held(database: asyncpg.Connection, program: subprocess.Popen[str]) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
    until = time.monotonic() + 60
    while not await database.fetchval(waiting, LOCK):
        assert program.poll() is None, f"it ended before it came there: {program.communicate()[0]}"
        assert time.monotonic() < until, "it never came there"
        await asyncio.sleep(0.02)


async def _status(database: asyncpg.Connection, key: str) -> str:
    return str(await database.fetchval("SELECT status FROM requests WHERE idempotency_key = $1", key))


async def _one_request_all_done(database: asyncpg.Connection, key: str) -> None:
    rows = await database.fetch(
        "SELECT r.status, t.status AS task FROM requests r JOIN tasks t USING (request_id) WHERE idempotency_key = $1",
        key,
    )
    assert [(row["status"], row["task"]) for row in rows] == [("completed", "succeeded")] * 2
    open_attempts = await database.fetchval(
        "SELECT count(*) FROM attempts WHERE status IN ('leased','accepted','started')"
    )
    assert open_attempts == 0
    assert await database.fetchval("SELECT sum(in_flight) FROM agent_registry") == 0
    assert await database.fetchval("SELECT count(*) FROM outbox WHERE attempt_id IS NOT NULL") == 0
