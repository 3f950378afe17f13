"""What stands in the storm: servers, agents, RabbitMQ and PostgreSQL, each a program, with a cable between any two."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Literal

from bench.cable import Cable
from bench.chaos.jobs import EFFECTS, NAME
from bench.programs import Programs
from bench.rabbit import PrivateRabbitMQ
from bench.skewed import SKEW
from chargehand.agent.identity import Identity
from chargehand.app.application import Application
from chargehand.domain.errors import BrokerUnreachable, ChargehandError
from chargehand.private_postgres import PrivatePostgres
from chargehand.settings import Settings

SERVERS = ("server-1", "server-2")
AGENTS = ("agent-1", "agent-2", "agent-3", "agent-4")
CALLER = "caller"
DATABASE_CABLES = (SERVERS[0], CALLER)
"""Who reaches PostgreSQL by a cable. The other server does not: each cable makes every statement slower."""

SETTINGS = {
    "auto_approve": "read,change",
    "heartbeat_seconds": "1",
    "lease_seconds": "12",  # outages shorter and longer than a lease fit into a minute
    "lease_grace": "2",
    "sweep_seconds": "0.5",
    "claim_seconds": "10",
    "circuit_seconds": "5",
}
WORK = "bench.chaos.jobs:agent"
WORST_SKEW = 3 * 3600.0  # seconds: a wrong time zone; smaller ones are drawn more often
SOCKET = ".s.PGSQL.5432"

Way = Literal["kill", "stop", "wipe"]


class Site:
    """Everything that can be hit. What is restored after a hit is as it was before, but for its clock."""

    def __init__(
        self, home: Path, rabbit: PrivateRabbitMQ, programs: Programs, cables: dict[str, Cable], random: Random
    ) -> None:
        self.home, self.rabbit, self.programs, self.random = home, rabbit, programs, random
        self.broker_cables = {name: cables[f"{name} broker"] for name in (*SERVERS, *AGENTS)}
        self.database_cables = {name: cables[f"{name} database"] for name in DATABASE_CABLES}
        self.worst_skew = 0.0
        self.ended_by_themselves = 0
        self.postgres = PrivatePostgres(home)
        self._dsn = self.postgres.start()  # it runs already
        self._broker, self._database = asyncio.Lock(), asyncio.Lock()
        self._down: set[str] = set()

    def database_url(self, name: str) -> str:
        """Return where the database is for this program: at the end of its cable, if it has one."""
        if name not in self.database_cables:
            return self._dsn
        return f"postgresql://postgres@127.0.0.1:{self.database_cables[name].port}/chargehand"

    async def enrol(self, app: Application) -> tuple[str, ...]:
        """Make the agents known and give each a home; return their ids."""
        ids = []
        for name in AGENTS:
            agent_id, key, generation = await app.registry.enrol(name, accept_all=True)
            Identity(str(agent_id), name, key, generation).save(self.home / name)
            ids.append(str(agent_id))
        return tuple(ids)

    def start(self, name: str) -> None:
        """Start a server or an agent, with a clock that is wrong by some new amount."""
        skew = self.random.choice((0.0, self.random.uniform(-60, 60), self.random.uniform(-WORST_SKEW, WORST_SKEW)))
        self.worst_skew = max(self.worst_skew, abs(skew))
        url = self.rabbit.url_of("server", port=self.broker_cables[name].port)
        settings = {"CHARGEHAND_AMQP_URL": url, SKEW: str(skew), NAME: name}
        command: tuple[str, ...] = ("agent", "run", WORK, "--home", str(self.home / name))
        if name in SERVERS:
            command, settings["CHARGEHAND_DATABASE_URL"] = ("server",), self.database_url(name)
        self.programs.start(name, *command, module="bench.skewed", **settings)
        self._down.discard(name)

    def kill(self, name: str) -> None:
        """kill -9."""
        self._down.add(name)
        self.programs.kill(name)

    async def stop(self, name: str) -> None:
        """Let it end in good order, and kill it when it does not."""
        self._down.add(name)
        try:
            await asyncio.to_thread(self.programs.stop, name)
        except subprocess.TimeoutExpired:
            self.programs.kill(name)

    async def supervise(self) -> None:
        """Start again what has ended by itself (a database or a broker was away when it started), as systemd would."""
        while True:
            await asyncio.sleep(0.5)
            for name in (*SERVERS, *AGENTS):
                if name not in self._down and self.programs.ended(name):
                    self.ended_by_themselves += 1
                    self.start(name)

    async def hit_broker(self, way: Way, seconds: float) -> None:
        """Kill or stop RabbitMQ, lose everything it had with `wipe`, and start it again after some seconds."""
        async with self._broker:
            await asyncio.to_thread(self.rabbit.stop if way == "stop" else self.rabbit.kill)
            if way == "wipe":
                await asyncio.to_thread(self.rabbit.wipe)
            await asyncio.sleep(seconds)
            while True:
                try:
                    return await asyncio.to_thread(self.rabbit.start)
                except BrokerUnreachable:  # a busy machine
                    await asyncio.sleep(1.0)

    async def hit_database(self, way: Way, seconds: float) -> None:
        """kill -9 PostgreSQL's postmaster, or restart it, and start it again after some seconds."""
        async with self._database:
            pid = (await asyncio.to_thread(self.postgres.status)).pid
            if way == "stop" or pid is None:
                await asyncio.to_thread(self.postgres.stop)
            else:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(seconds)
            while True:
                try:
                    await asyncio.to_thread(self.postgres.start)
                    return
                except ChargehandError:  # what the killed one left behind is still ending
                    await asyncio.sleep(0.5)


@asynccontextmanager
async def cabled(ports: Sequence[tuple[str, int | Path]]) -> AsyncIterator[dict[str, Cable]]:
    """Yield a cable for each name, to where it leads."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(Cable(target)) for name, target in ports}


def wiring(rabbit: PrivateRabbitMQ, socket_dir: Path) -> list[tuple[str, int | Path]]:
    """Return which cables there are: from every program to RabbitMQ, from one server and the callers to PostgreSQL."""
    to_broker = [(f"{name} broker", rabbit.port) for name in (*SERVERS, *AGENTS)]
    return [*to_broker, *((f"{name} database", socket_dir / SOCKET) for name in DATABASE_CABLES)]


def environment(home: Path) -> dict[str, str]:
    """Return what every program is told."""
    told = {f"CHARGEHAND_{name.upper()}": value for name, value in SETTINGS.items()}
    return {**told, "CHARGEHAND_HOME": str(home), EFFECTS: str(home / "effects")}


def settings(home: Path, database_url: str, amqp_url: str) -> Settings:
    """Return the same for this process."""
    return Settings.model_validate({**SETTINGS, "home": home, "database_url": database_url, "amqp_url": amqp_url})
