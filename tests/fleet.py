"""Servers and agents over a private RabbitMQ, as programs of their own: for tests of what happens between them.

`fleet_rabbitmq` closes the channels of readers that do not acknowledge within `ACK_SECONDS`, as any RabbitMQ does after
half an hour, and has users of their own for two agents. Tests may kill it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from bench.programs import Programs
from chargehand.agent.identity import Identity
from chargehand.app.application import Application, open_application
from chargehand.app.worker import serve
from chargehand.broker.rabbitmq import RabbitMQBroker
from chargehand.domain.envelopes import derive_key
from chargehand.domain.ports import EVENTS_QUEUE, HEARTBEATS_QUEUE, control_queue, work_queue
from chargehand.settings import Settings
from tests.rabbitmq import PrivateRabbitMQ, started

AGENT_A, AGENT_B = str(UUID(int=0xA)), str(UUID(int=0xB))
ACK_SECONDS = 3.0
PATIENCE = 60.0  # seconds; a server takes two to start, RabbitMQ eight, and this machine may be busy
COUNTING = Path(__file__).parent / "integration" / "counting_agent.py"


class Line(NamedTuple):
    """What a program started by an agent wrote about itself: `what` is start, tick or end, `at` the clock's time."""

    intent: str
    attempt_id: UUID
    agent: str
    what: str
    at: float


@dataclass
class Fleet:
    """An operator's application over one database and one broker, and the programs that work there."""

    app: Application
    programs: Programs
    folder: Path

    async def enrol(self, name: str, agent_id: str) -> Identity:
        """Make an agent known and give it a home below `folder`."""
        async with self.app.store.transaction() as tx:
            generation = await tx.enrol(
                UUID(agent_id), name, agent_type="infra", pool="test", grant_policy="auto-accept"
            )
        key = derive_key(self.app.master, agent_id, generation)
        identity = Identity(agent_id, name, key, generation)
        identity.save(self.folder / name)
        return identity

    async def start_server(self, name: str) -> None:
        """Start a server and wait until it works."""
        before = self.programs.said(name).count("this server works")
        self.programs.start(name, "server")
        await self.until(lambda: self.programs.said(name).count("this server works") > before)

    async def start_agent(self, name: str, amqp_url: str) -> None:
        """Start the counting agent and wait until it is known to be there."""
        arguments = ("agent", "run", str(COUNTING), "--home", str(self.folder / name))
        self.programs.start(name, *arguments, CHARGEHAND_AMQP_URL=amqp_url, AGENT_NAME=name)
        await self.until(lambda: self._is_online(name))

    async def approved(self, words: str) -> UUID:
        """Submit a request, wait for its plan, and approve it."""
        request_id = await self.app.engine.submit(words, requester="ann")

        async def planned() -> Any:
            return await self.app.queries.plan(request_id)

        plan = await self.until(planned)
        await self.app.control.approve(request_id, plan["digest"], "ann")
        return request_id

    async def reaches(self, request_id: UUID, status: str) -> None:
        async def reached() -> bool:
            return bool((await self.app.queries.request(request_id))["status"] == status)

        await self.until(reached)

    async def begun(self, *intents: str) -> None:
        """Wait until work of each of these intents runs."""
        await self.until(lambda: set(intents) <= {line.intent for line in self.lines("start")})

    def lines(self, *kinds: str) -> list[Line]:
        """Return what the agents' programs have written, oldest first."""
        path = self.folder / "effects" / "lines"
        rows = [row.split() for row in path.read_text().splitlines()] if path.exists() else []
        lines = [Line(intent, UUID(attempt), agent, what, float(at)) for intent, attempt, agent, what, at in rows]
        return [line for line in lines if not kinds or line.what in kinds]

    def hold(self) -> None:
        """Let work run until `release`."""
        (self.folder / "effects").mkdir(exist_ok=True)
        for name in ("release", "lines"):
            (self.folder / "effects" / name).unlink(missing_ok=True)

    def release(self) -> None:
        (self.folder / "effects" / "release").touch()

    async def until(self, check: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Return what `check` returns once that is true."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found = check()
                    found = await found if isinstance(found, Awaitable) else found
                    if found:
                        return found
                    await self.app.changed(0.1)
        except TimeoutError:
            said = {name: self.programs.said(name)[-2000:] for name in self.programs.names}
            raise AssertionError(f"it did not happen in {seconds:g} s; {said}") from None

    async def _is_online(self, name: str) -> bool:
        rows = await self.app.queries.agents()
        return any(row["name"] == name and row["status"] == "online" for row in rows)


@asynccontextmanager
async def open_fleet(folder: Path, dsn: str, rabbit: PrivateRabbitMQ, **settings: Any) -> AsyncIterator[Fleet]:
    """Open an application with two enrolled agents, `near` and `far`; nothing runs yet. Its queues go afterwards."""
    values = {
        "home": folder / "home",
        "database_url": dsn,
        "amqp_url": rabbit.url_of("server"),
        "heartbeat_seconds": 1.0,
        "sweep_seconds": 0.5,
        **settings,
    }
    environment = {f"CHARGEHAND_{name.upper()}": str(value) for name, value in values.items()}
    try:
        with Programs(folder, environment | {"EFFECTS": str(folder / "effects")}) as programs:
            async with open_application(Settings(**values)) as app:
                fleet = Fleet(app, programs, folder)
                fleet.hold()
                for name, agent_id in (("near", AGENT_A), ("far", AGENT_B)):
                    await fleet.enrol(name, agent_id)
                yield fleet
    finally:
        await remove_queues(rabbit)


@asynccontextmanager
async def serving(app: Application) -> AsyncIterator[None]:
    """Be a server in this process, the only one; its loops run when the block begins."""
    stopping = asyncio.Event()
    work = asyncio.create_task(serve(app, stopping))
    async with asyncio.timeout(PATIENCE):
        while "chargehand dispatch" not in {task.get_name() for task in asyncio.all_tasks()}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    try:
        yield
    finally:
        stopping.set()
        await work


async def remove_queues(rabbit: PrivateRabbitMQ) -> None:
    """Leave nothing for the next test."""
    broker = RabbitMQBroker(rabbit.url)
    await broker.start()
    for agent_id in (AGENT_A, AGENT_B):
        await broker.remove(work_queue(agent_id))
        await broker.remove(control_queue(agent_id))
    await broker.remove(EVENTS_QUEUE)
    await broker.remove(HEARTBEATS_QUEUE)
    await broker.stop()


@pytest.fixture(scope="session")
def fleet_rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ with two agents' users that is soon impatient with readers; tests may kill it."""
    impatience = f"-rabbit consumer_timeout {ACK_SECONDS * 1000:.0f} -rabbit channel_tick_interval 500"
    with started(agents=(AGENT_A, AGENT_B), erlang=impatience) as server:
        yield server
