"""The course of one run: build the site, let the storm over it, wait until all is at rest, do the accounts."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import asyncpg

from bench.chaos import accounts
from bench.chaos.books import Auditor
from bench.chaos.gremlin import Gremlin
from bench.chaos.jobs import JOBS
from bench.chaos.site import AGENTS, CALLER, SERVERS, Site, cabled, environment, settings, wiring
from bench.chaos.storm import Storm
from bench.chaos.submitting import Submitters
from bench.load import Load
from bench.meter import private_home
from bench.programs import Programs
from bench.rabbit import PrivateRabbitMQ, private_rabbitmq, version
from chargehand.app.application import Application, open_application
from chargehand.domain.ports import EVENTS_QUEUE, HEARTBEATS_QUEUE, control_queue, work_queue
from chargehand.private_postgres import PrivatePostgres
from chargehand.store import migrate

SECONDS, QUICK_SECONDS = 600.0, 30.0
READY_SECONDS = 120.0  # seven Pythons start at once
DRAIN_SECONDS = 300.0  # what is not at rest by then is stuck; a busy machine needs a minute or two
COUNT_SECONDS = 1.0
WARM_UP = "sweep the yard, then ring the bell, then lock the gate"
ACCEPTED = "accepted"  # the callers' list
FIRST = (
    *("seconds", "kills", "attempted", "accepted", "completed", "in_review", "lost", "stuck"),
    *("doubled_same_lease", "doubled_not_retry_safe", "retried_effects"),
    *("second_starts_new_lease", "second_starts_same_lease", "anomalies"),
)
"""The figures that come first, in this order."""
EXAMPLES = 3  # of each broken promise, kept for whoever looks for the reason


@dataclass(frozen=True)
class Course:
    """How long, from which seed, and where to leave everything if a promise was broken."""

    seconds: float
    seed: int
    keep: Path | None


def run(
    *, quick: bool, seconds: float | None = None, seed: int | None = None, keep: str | None = None
) -> Mapping[str, Any]:
    """Return the figures. Raises `BadConfiguration` (exit 5) where RabbitMQ is not installed."""
    length = seconds if seconds is not None else QUICK_SECONDS if quick else SECONDS
    course = Course(length, secrets.randbelow(1_000_000) if seed is None else seed, Path(keep) if keep else None)
    print(f"chaos for {course.seconds:g} s, seed {course.seed}", file=sys.stderr)
    with private_rabbitmq() as rabbit, private_home() as home:
        dsn = PrivatePostgres(home).start()
        migrate.upgrade(dsn)
        with Programs(home, environment(home)) as programs:
            try:
                return asyncio.run(_weather(course, home, dsn, rabbit, programs))
            finally:
                _leave_files(course.keep, home)


async def _weather(
    course: Course, home: Path, dsn: str, rabbit: PrivateRabbitMQ, programs: Programs
) -> Mapping[str, Any]:
    """Build the site, let the storm over it, wait until all is at rest, and do the accounts."""
    socket_dir = PrivatePostgres(home).status().socket_dir
    assert socket_dir is not None
    async with cabled(wiring(rabbit, socket_dir)) as cables:
        site = Site(home, rabbit, programs, cables, Random(f"{course.seed} clocks"))
        office_at = settings(home, dsn, rabbit.url)
        async with open_application(office_at) as app:
            agents = await _open(site, app)
        auditor = Auditor(dsn)
        async with _supervised(site):
            figures = await _rage(course, site, agents, auditor)
            figures["drained_after"] = await _drain(auditor)
        async with open_application(office_at) as app:
            return await _reckon(course, site, app, auditor, figures)


async def _open(site: Site, app: Application) -> tuple[str, ...]:
    """Start everything, wait until it works, and return the agents' ids."""
    agents = await site.enrol(app)
    for name in (*SERVERS, *AGENTS):
        site.start(name)
    async with asyncio.timeout(READY_SECONDS):
        while sum(agent["status"] == "online" for agent in await app.queries.agents()) < len(AGENTS):
            await app.changed(0.5)
        # The words are learnt and every kind of work is done once before anything is broken.
        everything = await app.engine.submit(WARM_UP, requester="chaos")
        await Load(app.engine, app.store, app.wake).ended([everything])
    return agents


@asynccontextmanager
async def _supervised(site: Site) -> AsyncIterator[None]:
    supervisor = asyncio.create_task(site.supervise(), name="supervisor")
    try:
        yield
    finally:
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)


async def _rage(course: Course, site: Site, agents: tuple[str, ...], auditor: Auditor) -> dict[str, Any]:
    """Submit plans while the storm goes on; return what both have done."""
    queues = [EVENTS_QUEUE, HEARTBEATS_QUEUE, *map(work_queue, agents), *map(control_queue, agents)]
    gremlin = Gremlin(site.rabbit.url, queues, Random(f"{course.seed} messages"))
    storm = Storm(site, gremlin, course.seed)
    began = time.monotonic()
    async with open_application(settings(site.home, site.database_url(CALLER), site.rabbit.url)) as app:
        submitters = Submitters(app.engine, site.home / ACCEPTED, Random(f"{course.seed} plans"))
        counting = asyncio.create_task(_count(auditor, submitters), name="counting")
        async with asyncio.TaskGroup() as going_on:
            going_on.create_task(storm.rage(course.seconds))
            going_on.create_task(submitters.run(course.seconds))
        counting.cancel()
    return {
        "seconds": round(time.monotonic() - began, 1),
        "kills": dict(storm.kills),
        "attempted": submitters.attempted,
        "said_again": submitters.said_again,
        "keys_doubled": len(submitters.doubled),
        "troubles": dict(sorted(storm.troubles.items())),
        "messages": dict(sorted(gremlin.done.items())),
    }


async def _count(auditor: Auditor, submitters: Submitters) -> None:
    """Tell the submitters how much is under way, as far as the database can be asked."""
    while True:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            submitters.open = await auditor.under_way()
        await asyncio.sleep(COUNT_SECONDS)


async def _drain(auditor: Auditor) -> float:
    """Wait until nothing is under way any more, and return how many seconds that took."""
    began = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while left := {kind: number for kind, number in (await auditor.leftovers()).items() if number}:
                print(f"{time.monotonic() - began:5.1f} s after the storm: {left}", file=sys.stderr)
                await asyncio.sleep(2.0)
    return round(time.monotonic() - began, 1)


async def _reckon(
    course: Course, site: Site, app: Application, auditor: Auditor, happened: dict[str, Any]
) -> dict[str, Any]:
    """Do the accounts."""
    home = site.home
    rows = [row.split() for row in (home / ACCEPTED).read_text().splitlines()]
    accepted = {key: UUID(request_id) for key, request_id in rows}
    lines = accounts.parse((home / "effects").read_text())
    books = await auditor.books(app)
    exclusive = [intent for intent, job in JOBS.items() if job.exclusive]
    kinds = await auditor.anomalies()
    figures = happened | accounts.audit(lines, accepted, books, exclusive) | {"anomalies": sum(kinds.values())}
    figures |= {
        "anomaly_kinds": kinds,
        "ended_by_themselves": site.ended_by_themselves,
        "worst_clock_skew": round(site.worst_skew),
        "processes": f"{len(SERVERS)} servers, {len(AGENTS)} agents",
        "versions": f"RabbitMQ {version()}, PostgreSQL {site.postgres.status().version}",
        "seed": course.seed,
        "broken": accounts.broken(figures),
    }
    if figures["broken"] and course.keep is not None:
        await _leave(course.keep, app, accounts.suspects(lines, accepted, books))
    return {name: figures[name] for name in FIRST} | {k: v for k, v in figures.items() if k not in FIRST}


async def _leave(keep: Path, app: Application, suspects: Mapping[str, list[UUID]]) -> None:
    """Write down the history of some requests of each broken promise."""
    _leave_files(keep, app.settings.home)
    for promise, requests in suspects.items():
        for request_id in requests[:EXAMPLES]:
            history = [str(event) for event in await app.queries.events(request_id)]
            (keep / f"{promise}-{request_id}").write_text("\n".join(history) + "\n")


def _leave_files(keep: Path | None, home: Path) -> None:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for file in (*home.glob("*.log"), *home.glob(ACCEPTED), *home.glob("effects"), *home.glob("log/postgres*")):
            shutil.copy(file, keep)
