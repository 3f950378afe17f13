"""Says over HTTP whether an agent is well: `GET http://127.0.0.1:PORT/healthz` answers 200 or 503 with JSON.

It runs in a thread with an event loop of its own. An agent whose loop is blocked (a work function that calls something
slow without `await`) cannot say so itself: it sends no heartbeats, and its leases run out.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chargehand.domain.errors import BadConfiguration

HOST = "127.0.0.1"  # who may ask is a matter of the machine; nothing here is for the network
TICK = 0.25
"""Seconds between two signs of life of the agent's loop."""
BLOCKED_AFTER = 5.0
"""Seconds: above what honest work between two awaits takes, below a missed heartbeat."""
MISSED = 3
"""Heartbeats; the orchestrator counts an agent as offline after as many."""
REQUEST_SECONDS, REQUEST_BYTES = 5.0, 8192
PROBE_SECONDS = 1.0
"""How long the answer about the disk is good: whoever asks all the time must not wear it out."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What can be seen of an agent from outside its loop. Times by `time.monotonic`; None: never."""

    heard: bool
    confirmed_at: float | None
    draining: bool
    journal: Path


@dataclass(frozen=True, slots=True)
class Limits:
    """From how many seconds on an agent is not well."""

    blocked_after: float
    silent_after: float


class Watched(Protocol):
    """A runtime, as far as its health can be seen."""

    @property
    def heartbeat_seconds(self) -> float: ...

    def signs(self) -> Signs: ...


def examine(signs: Signs, lag: float, disk_problem: str | None, now: float, limits: Limits) -> dict[str, Any]:
    """Return the report; it is red when `problems` is not empty. Pure."""
    age = None if signs.confirmed_at is None else max(0.0, now - signs.confirmed_at)
    problems = []
    if lag > limits.blocked_after:
        problems.append(f"the event loop has been blocked for {lag:.1f} s: some work waits without `await`")
    if not signs.heard:
        problems.append("the broker does not confirm what the agent sends")
    if age is None or age > limits.silent_after:
        problems.append("no heartbeat was confirmed" + ("" if age is None else f" for {age:.1f} s"))
    if disk_problem is not None:
        problems.append(f"the journal cannot be written: {disk_problem}")
    return {
        "status": "failing" if problems else "ok",
        "problems": problems,
        "broker_connected": signs.heard,
        "heartbeat_age_seconds": None if age is None else round(age, 3),
        "journal_writable": disk_problem is None,
        "loop_lag_seconds": round(lag, 3),
        "draining": signs.draining,
    }


class Health:
    """The health endpoint of a runtime that has been started: `async with Health(runtime, port) as health: ...`.

    Port 0 takes a free one; `health.port` says which. Entering raises `BadConfiguration` when the port is taken.
    """

    def __init__(
        self,
        runtime: Watched,
        port: int,
        *,
        blocked_after: float = BLOCKED_AFTER,
        silent_after: float | None = None,
    ) -> None:
        self.port = port
        self._runtime = runtime
        self._limits = Limits(blocked_after, silent_after or MISSED * runtime.heartbeat_seconds)
        self._ticked = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._probed: tuple[float, str | None] = (float("-inf"), None)
        self._bound: Future[asyncio.AbstractEventLoop] = Future()
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="chargehand-health", daemon=True)

    async def __aenter__(self) -> Health:
        self._tick(asyncio.get_running_loop())
        self._thread.start()
        try:
            await asyncio.wrap_future(self._bound)
        except OSError as error:
            await self.__aexit__()
            raise BadConfiguration(
                f"port {self.port} of {HOST} cannot be used for the health endpoint: {error.strerror}",
                hint="Choose another one with CHARGEHAND_AGENT_HEALTH_PORT.",
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._over is not None and self._thread.is_alive():
            self._bound.result().call_soon_threadsafe(self._over.set)
        await asyncio.to_thread(self._thread.join)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticked = time.monotonic()
        self._timer = loop.call_later(TICK, self._tick, loop)

    def _report(self) -> dict[str, Any]:
        signs, now = self._runtime.signs(), time.monotonic()
        lag = max(0.0, now - self._ticked - TICK)
        return examine(signs, lag, self._disk_problem(signs.journal, now), now, self._limits)

    def _disk_problem(self, folder: Path, now: float) -> str | None:
        if now - self._probed[0] > PROBE_SECONDS:
            self._probed = (now, probe(folder))
        return self._probed[1]

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            if self._bound.done():
                raise
            self._bound.set_exception(error)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, HOST, self.port, limit=REQUEST_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        self._over = asyncio.Event()
        self._bound.set_result(asyncio.get_running_loop())
        async with server:
            await self._over.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head.split(b"\r\n", 1)[0].split(b" ")))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            return  # no HTTP request, or nobody waits for the answer
        finally:
            writer.close()

    def _response(self, words: list[bytes]) -> bytes:
        method, path = words[0], words[1].partition(b"?")[0] if len(words) == 3 else b""
        if path != b"/healthz":
            return _http("404 Not Found", {"problems": ["there is only /healthz"]})
        if method not in (b"GET", b"HEAD"):
            return _http("405 Method Not Allowed", {"problems": ["only GET and HEAD"]})
        report = self._report()
        return _http("503 Service Unavailable" if report["problems"] else "200 OK", report, body=method == b"GET")


def probe(folder: Path) -> str | None:
    """Write a byte to disk in a folder, as the journal does, and take it away; return what went wrong. Blocks."""
    path = folder / "health"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        path.unlink()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _http(status: str, report: dict[str, Any], *, body: bool = True) -> bytes:
    text = json.dumps(report).encode() + b"\n"
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(text)}"]
    head += ["Cache-Control: no-store", "Connection: close"]
    return "\r\n".join([*head, "", ""]).encode() + (text if body else b"")
