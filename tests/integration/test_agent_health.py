"""The health endpoint tells the truth, also while the agent's own loop cannot."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from chargehand.agent import Agent
from chargehand.agent.runtime.health import TICK, Health, Limits, Signs, examine, probe
from chargehand.domain.errors import BadConfiguration
from chargehand.testing import Harness

PATIENT = 60.0  # seconds of silence allowed where a test is about something else


@pytest.fixture
async def orchestrator(tmp_path: Path) -> AsyncIterator[Harness]:
    async with Harness(Agent("patient"), home=tmp_path / "home") as made:
        await made.beats(1)
        yield made


def ask(port: int, path: str = "/healthz", method: str = "GET") -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        return response.status, json.loads(body) if body else None
    finally:
        connection.close()


async def asked(health: Health, path: str = "/healthz", method: str = "GET") -> tuple[int, Any]:
    return await asyncio.to_thread(ask, health.port, path, method)


async def until_status(health: Health, wanted: int) -> Any:
    async with asyncio.timeout(10):
        while True:
            status, report = await asked(health)
            if status == wanted:
                return report
            await asyncio.sleep(0.02)


async def test_a_well_agent_is_green(orchestrator: Harness) -> None:
    async with Health(orchestrator.runtime, 0) as health:
        report = await until_status(health, 200)
    assert report["status"] == "ok"
    assert report["problems"] == []
    assert report["broker_connected"]
    assert report["journal_writable"]
    assert report["heartbeat_age_seconds"] < 5


async def test_a_blocked_loop_is_red_while_it_is_blocked_and_green_afterwards(orchestrator: Harness) -> None:
    """Blocks the loop for real: only a server in another thread can answer meanwhile."""
    seen: list[tuple[int, Any]] = []
    async with Health(orchestrator.runtime, 0, blocked_after=0.2, silent_after=PATIENT) as health:
        await until_status(health, 200)
        asking = threading.Timer(0.2 + 2 * TICK, lambda: seen.append(ask(health.port)))
        asking.start()
        time.sleep(0.5 + 3 * TICK)  # noqa: ASYNC251
        asking.join()
        await until_status(health, 200)
    [(status, report)] = seen
    assert status == 503
    assert report["loop_lag_seconds"] > 0.2
    assert "event loop" in report["problems"][0]


async def test_a_broker_that_is_gone_is_red_until_it_is_back(orchestrator: Harness) -> None:
    async with Health(orchestrator.runtime, 0, silent_after=0.3) as health:
        await until_status(health, 200)
        await orchestrator.broker.remove("heartbeats")
        report = await until_status(health, 503)
        assert not report["broker_connected"] or report["heartbeat_age_seconds"] > 0.3
        await orchestrator.broker.declare("heartbeats")
        await until_status(health, 200)


async def test_a_journal_that_cannot_be_written_is_red(orchestrator: Harness) -> None:
    journal, away = orchestrator.home / "journal", orchestrator.home / "elsewhere"
    async with Health(orchestrator.runtime, 0, silent_after=PATIENT) as health:
        journal.rename(away)
        report = await until_status(health, 503)
        away.rename(journal)
        assert not report["journal_writable"]
        assert "No such file" in report["problems"][0]
        await until_status(health, 200)
    assert not (journal / "health").exists()


async def test_anything_but_the_one_page_is_refused(orchestrator: Harness) -> None:
    async with Health(orchestrator.runtime, 0) as health:
        assert (await asked(health, "/"))[0] == 404
        assert (await asked(health, method="DELETE"))[0] == 405
        assert await asked(health, "/healthz?verbose=1", "HEAD") == (200, None)
        for garbage in (b"\r\n\r\n", b"\x16\x03\x01\0\r\n\r\n", b"x" * 10_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", health.port)
            writer.write(garbage)
            assert not (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
        assert (await asked(health))[0] == 200


async def test_a_taken_port_is_said_at_once_and_a_stopped_endpoint_gives_its_port_free(orchestrator: Harness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        in_the_way = Health(orchestrator.runtime, taken.getsockname()[1])
        with pytest.raises(BadConfiguration, match="cannot be used for the health endpoint"):
            await in_the_way.__aenter__()
    threads = threading.active_count()
    async with Health(orchestrator.runtime, 0) as health:
        pass
    assert not any(thread.name == "chargehand-health" for thread in threading.enumerate())
    assert threading.active_count() <= threads + 1  # the executor may have taken one more
    async with Health(orchestrator.runtime, health.port):
        pass


def test_an_agent_that_was_never_heard_is_red() -> None:
    report = examine(Signs(False, None, False, Path()), 0.0, None, 100.0, Limits(5, 30))
    assert len(report["problems"]) == 2
    assert report["heartbeat_age_seconds"] is None


def test_a_full_disk_is_a_problem(tmp_path: Path) -> None:
    assert probe(tmp_path) is None
    assert probe(tmp_path / "missing") == "No such file or directory"
    (tmp_path / "health").symlink_to("/dev/full")
    assert probe(tmp_path) == "No space left on device"
