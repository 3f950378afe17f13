"""Other products, doing the same plans: three no-op steps one after the other in another process.

Each comes from its own packages in an environment of its own, made at the first run below the user's cache. None of
them decides who works, has leases, or keeps a history, so this compares prices and not goods.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.rabbit import free_ports
from bench.timing import DidNotRun, timed

PEERS: Mapping[str, tuple[str, ...]] = {
    "dramatiq": ("dramatiq[rabbitmq,redis]==2.2.1", "pika==1.4.4", "redis==8.1.0"),
    "celery": ("celery[sqlalchemy]==5.7.0", "kombu==5.7.0", "psycopg[binary]==3.3.9", "sqlalchemy==2.1.9"),
    "dbos": ("dbos==3.4.0", "psycopg[binary]==3.3.9", "sqlalchemy==2.1.9"),
    "taskiq": ("taskiq==0.13.0", "taskiq-aio-pika==0.6.1", "taskiq-postgres[asyncpg]==0.9.1", "aio-pika==10.2.1"),
    "procrastinate": ("procrastinate==3.10.0", "psycopg[binary]==3.3.9"),
}
"""Each peer with what is installed for it. Each has a module `NAME_plans` here."""

ROOT = Path(__file__).parents[2]
IN_FLIGHT = 16
PLANS, QUICK_PLANS = 200, 20
INSTALL_SECONDS = 180

Servers = Mapping[str, Sequence[int]]


async def run(amqp: str, databases: Mapping[str, str], servers: Servers, *, quick: bool) -> dict[str, Any]:
    """Return each peer's figures, or null and the reason. `databases`: an empty one for each peer."""
    figures: dict[str, Any] = {}
    with redis() as (url, pids):
        for name in PEERS:
            where = {"PEER_AMQP": amqp, "PEER_DSN": databases[name], "PEER_REDIS": url or ""}
            counted = {**servers, "redis": pids}
            try:
                if name == "dramatiq" and url is None:
                    raise DidNotRun("there is no redis-server on this machine")
                figures[name] = await _one(name, where, counted, QUICK_PLANS if quick else PLANS)
            except DidNotRun as error:
                figures[name] = {"cpu_ms": None, "reason": str(error).strip()}
    return figures


async def _one(name: str, where: Mapping[str, str], servers: Servers, plans: int) -> dict[str, Any]:
    python = environment(name)
    source = f"{ROOT}:{ROOT / 'src'}"
    command = [str(python), "-m", f"{__name__}.{name}_plans"]
    made = await timed(command, plans, IN_FLIGHT, servers, {"PYTHONPATH": source, **where})
    return {"plans": plans, **asdict(made)}


def environment(name: str) -> Path:
    """Return the Python of a peer's environment, made if need be. Raises `DidNotRun` when it cannot be."""
    pins = PEERS[name]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chargehand" / "bench-peers"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    folder = cache / f"{name}-{hashlib.sha256(' '.join((version, *pins)).encode()).hexdigest()[:10]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _install(["-m", "venv", str(folder)], sys.executable)
        _install(["-m", "pip", "install", "-q", "--only-binary", ":all:", *pins], str(python))
        (folder / "ready").touch()
    return python


def _install(arguments: Sequence[str], python: str) -> None:
    try:
        done = subprocess.run(
            [python, *arguments], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DidNotRun(f"its environment cannot be made: {type(error).__name__}") from error
    if done.returncode != 0:
        raise DidNotRun(f"its environment cannot be made: {done.stderr[-300:]}")


@contextmanager
def redis() -> Iterator[tuple[str | None, list[int]]]:
    """Yield the URL and the process of a private Redis that keeps nothing on disk; None where there is no Redis."""
    program = shutil.which("redis-server")
    if program is None:
        yield None, []
        return
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="chargehand-bench-redis-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            yield f"redis://127.0.0.1:{port}/0", [process.pid]
        finally:
            process.terminate()
            process.wait(20)
