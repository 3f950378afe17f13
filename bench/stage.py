"""Servers and agents as programs of their own on a private PostgreSQL and RabbitMQ, ready to be measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import Load
from bench.programs import Programs
from bench.rabbit import PrivateRabbitMQ
from chargehand.agent.identity import Identity
from chargehand.app.application import Application, open_application
from chargehand.private_postgres import PrivatePostgres
from chargehand.settings import Settings

SERVERS, AGENTS = 1, 2
READY_SECONDS = 90.0  # a few Pythons start at once


@dataclass(frozen=True, slots=True)
class Stage:
    """What plans are submitted through, and the processes whose CPU counts, by what they are."""

    app: Application
    load: Load
    groups: Mapping[str, Sequence[int]]


@asynccontextmanager
async def stage(home: Path, dsn: str, rabbit: PrivateRabbitMQ) -> AsyncIterator[Stage]:
    """Start a server and agents for no-op plans; they are ended afterwards."""
    settings = {
        "CHARGEHAND_HOME": str(home),
        "CHARGEHAND_DATABASE_URL": dsn,
        "CHARGEHAND_AMQP_URL": rabbit.url,
        "CHARGEHAND_AUTO_APPROVE": "read",
    }
    own = Settings(home=home, database_url=dsn, amqp_url=rabbit.url, auto_approve=frozenset({"read"}))
    with Programs(home, settings) as programs:
        async with open_application(own) as app:
            await _start(programs, app, home)
            groups = infrastructure(home, rabbit) | {
                "servers": programs.pids("server"),
                "agents": programs.pids("agent"),
            }
            yield Stage(app, Load(app.engine, app.store, app.wake), groups)
            for name in programs.names:
                programs.stop(name)


def infrastructure(home: Path, rabbit: PrivateRabbitMQ) -> dict[str, Sequence[int]]:
    """Return the processes of the database and the broker."""
    return {"postgres": [PrivatePostgres(home).status().pid or 0], "rabbitmq": rabbit.pids}


async def _start(programs: Programs, app: Application, home: Path) -> None:
    for number in range(1, SERVERS + 1):
        programs.start(f"server-{number}", module="bench.steady")
    for number in range(1, AGENTS + 1):
        name = f"agent-{number}"
        agent_id, key, generation = await app.registry.enrol(name, accept_all=True)
        Identity(str(agent_id), name, key, generation).save(home / name)
        programs.start(name, "agent", "run", "bench.noop:agent", "--home", str(home / name))
    async with asyncio.timeout(READY_SECONDS):
        while sum(agent["status"] == "online" for agent in await app.queries.agents()) < AGENTS:
            await app.changed(0.5)
