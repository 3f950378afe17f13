"""The process that does the work: the loops, and on one machine without a broker the local agent too."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from chargehand import folders
from chargehand.app.application import TAKE_OVER
from chargehand.app.fleet import LOCAL_AGENT
from chargehand.domain.envelopes import derive_key
from chargehand.domain.errors import ChargehandError, TransientError
from chargehand.domain.ports import control_queue, work_queue
from chargehand.engine.loops import Loops
from chargehand.engine.sweep import Sweep

if TYPE_CHECKING:
    from chargehand.agent.runtime.runtime import AgentRuntime
    from chargehand.app.application import Application

log = logging.getLogger("chargehand.app.worker")

REGAIN = 0.7
"""How much of a lease may pass without the lock: heartbeats are not recorded meanwhile, so leases run out."""

REGISTRATION = 30.0
"""Seconds the local agent may take to register; it takes milliseconds unless the database has stopped."""


class Worker:
    """The process that does the work: of all that share a database without a broker, one at a time."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._stopping = asyncio.Event()
        self._lost = asyncio.Event()
        self.holding = asyncio.Event()
        """Set while this process is the one that works."""
        self.staffed = asyncio.Event()
        """Set once somebody works, here or elsewhere: what agents offer is then up to date."""
        self.drain = True
        """Whether running work may be finished when this stops; clear it to stop at once."""
        self.trouble: ChargehandError | None = None
        """Why it cannot work just now, for whoever waits for it."""
        self.task: asyncio.Task[None] | None = None
        self._runtime: AgentRuntime | None = None
        self._release: Callable[[], Awaitable[None]] | None = None

    async def run(self) -> None:
        """Work whenever no other process does, until `stop`. Where a broker is shared, servers do the work."""
        while self._app.transport.shared and not self._stopping.is_set():
            self.trouble = None if await self._app.store.served() else NO_SERVER
            self.staffed.set()
            await self._pause()
        while not self._stopping.is_set():
            try:
                release = await self._app.store.try_hold(self._lost.set)
                if release is None:
                    self.staffed.set()
                    await self._pause()
                    continue
                self._release = release
                try:
                    await self._hold()
                finally:
                    await self._let_go()
            except ChargehandError as error:
                self.trouble = error
                log.warning("cannot work now: %s", error)
                await self._pause()

    @property
    def agent_id(self) -> str | None:
        """The id of the agent that runs in this process, while one does."""
        return self._runtime.agent_id if self._runtime else None

    async def stop(self) -> None:
        """Stop working after what runs now is done (or at once, without `drain`)."""
        self._stopping.set()

    async def stop_at_once(self) -> None:
        """End what runs now, also when `stop` is already waiting for it. Its outcome is then unknown."""
        self.drain = False
        self._stopping.set()
        if self._runtime is not None:
            await self._runtime.stop(drain=False)

    async def _let_go(self) -> None:
        if self._release is not None:
            release, self._release = self._release, None
            await release()

    async def _pause(self) -> None:
        await _wait_for(self._stopping, TAKE_OVER)

    async def _hold(self) -> None:
        self._lost.clear()
        app = self._app
        loops = _loops(app)
        await app.broker.start()
        try:
            await loops.receive()
            async with _local_agent(app) as runtime:
                self._runtime, self.trouble = runtime, None
                async with app.store.transaction() as tx:
                    await tx.end_claims()  # only one process works at a time, so whoever had them is dead
                self.holding.set()
                self.staffed.set()
                await loops.work()
                async with _preparing(app):
                    await self._until_told()
                self.holding.clear()
                await loops.rest()
                await runtime.stop(drain=self.drain and not self._lost.is_set())
                await loops.settled()
        finally:
            self._runtime = None
            self.holding.clear()
            await loops.stop()
            await app.broker.stop()

    async def _until_told(self) -> None:
        """Return when this process is to stop, or somebody else works now."""
        while True:
            await first_of(self._stopping, self._lost)
            if self._stopping.is_set() or not await self._regain():
                return

    async def _regain(self) -> bool:
        """Take the lock again after its connection ended: a restart of the database must not end the step that runs.

        While the database is away nobody else can take it. Whoever finds it taken stops at once, and so does who could
        not take it for most of a lease: its work may by then be somebody else's.
        """
        until = time.monotonic() + REGAIN * self._app.settings.lease_seconds
        while not self._stopping.is_set() and time.monotonic() < until:
            self._lost.clear()
            try:
                release = await self._app.store.try_hold(self._lost.set)
            except ChargehandError as error:
                self.trouble = error
                log.warning("the lock of this process is lost, and is asked for again: %s", error)
                await self._pause()
                continue
            if release is None:
                break
            self._release, self.trouble = release, None
            log.warning("the connection that holds this process's lock had ended; it has the lock again")
            self._app.wake.all()
            return True
        self._lost.set()
        return False


@asynccontextmanager
async def worker_beside(app: Application) -> AsyncIterator[Worker]:
    """Run the loops and the local agent while the block lasts, unless another process does; take over from it."""
    worker = Worker(app)
    worker.task = asyncio.create_task(worker.run(), name="chargehand worker")
    try:
        yield worker
    finally:
        await worker.stop()
        await worker.task


NO_SERVER = TransientError("no server works on this database", hint="Start one: `chargehand server`.")


async def first_of(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def serve(app: Application, stopping: asyncio.Event) -> None:
    """Be one of any number of servers over one database and one shared broker, until told to stop.

    What cannot be reached is tried again for as long as it takes; every step is another process's as well.
    """
    pause = TAKE_OVER
    while not stopping.is_set():
        try:
            await _serve_once(app, stopping)
            pause = TAKE_OVER
        except TransientError as error:
            log.warning("cannot work now: %s %s", error, error.hint)
            await _wait_for(stopping, pause)
            pause = min(2 * pause, 15.0)


async def _serve_once(app: Application, stopping: asyncio.Event) -> None:
    lost = asyncio.Event()
    leave = await app.store.announce(lost.set)
    loops = _loops(app)
    try:
        await app.broker.start()
        await _declare_queues(app)
        await loops.receive()
        await loops.work()
        log.info("this server works")
        async with _preparing(app):
            await first_of(stopping, lost)
        await loops.rest()
        await loops.settled()
    finally:
        await loops.stop()
        await app.broker.stop()
        await leave()


@asynccontextmanager
async def _preparing(app: Application) -> AsyncIterator[None]:
    """Beside the work, load the models' client (no request then waits for it) and learn what people made of plans."""
    tasks = [
        asyncio.create_task(app.prepare_models(), name="chargehand models"),
        asyncio.create_task(app.calibrate(), name="chargehand calibration"),
        asyncio.create_task(app.learn_catalog(), name="chargehand catalog"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _declare_queues(app: Application) -> None:
    """Make the queues of every enrolled agent: one with a broker user of its own may not make any."""
    for agent in await app.agents():
        for queue in (work_queue(str(agent.agent_id)), control_queue(str(agent.agent_id))):
            await app.broker.declare(queue)


def _loops(app: Application) -> Loops:
    patience = 1.5 * app.settings.heartbeat_seconds  # one heartbeat, and the time it takes to arrive
    sweep = Sweep(app.engine, app.control, patience=patience, heads=app.heads)
    return Loops(app.engine, sweep, app.broker, app.wake)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


@asynccontextmanager
async def _local_agent(app: Application) -> AsyncIterator[AgentRuntime]:
    """Run the infra agent of this machine, enrolled and granted what it offers: its owner is who runs this."""
    from chargehand.agent.runtime.main import watch_offers
    from chargehand.agent.runtime.runtime import AgentRuntime
    from chargehand.agents.infra import InfraAgent
    from chargehand.agents.loading import infra_options

    settings = app.settings
    home = settings.home / "agents" / LOCAL_AGENT
    infra = await asyncio.to_thread(InfraAgent, infra_options(settings, home, LOCAL_AGENT))
    agent_id = await asyncio.to_thread(_agent_id, home)
    async with app.store.transaction() as tx:
        namesakes = [row["agent_id"] for row in await tx.fetch("agent_by_name", LOCAL_AGENT)]
        # Another home on the same database has one of that name already.
        name = LOCAL_AGENT if namesakes in ([], [agent_id]) else f"{LOCAL_AGENT}-{str(agent_id)[:4]}"
        generation = await tx.enrol(agent_id, name, agent_type="infra", pool="local", grant_policy="local agent")
        await tx.mark_gone(agent_id)  # without a broker one process works at a time: its former life is over
    runtime = AgentRuntime(
        infra.agent,
        app.broker,
        agent_id=str(agent_id),
        key=derive_key(app.master, str(agent_id), generation),
        generation=generation,
        home=home,
        heartbeat_seconds=settings.heartbeat_seconds,
    )
    await runtime.start()
    watcher = asyncio.create_task(watch_offers(runtime, infra.rescan), name="chargehand offers")
    try:
        await _registered(app, agent_id, runtime.incarnation)
        yield runtime
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        await runtime.stop(drain=False)


async def _registered(app: Application, agent_id: UUID, incarnation: str) -> None:
    """Wait until the registry knows this life of the agent: before, nothing can be planned."""
    async with asyncio.timeout(REGISTRATION):
        while True:
            async with app.store.transaction() as tx:
                known = await tx.known_agents([agent_id])
            if known[agent_id].incarnation == incarnation:
                return
            await asyncio.sleep(0.01)


def _agent_id(home: Path) -> UUID:
    """Return this machine's agent id; a lost file means a new agent, and the old one's leases run out."""
    path = home / "agent-id"
    try:
        return UUID(path.read_text().strip())
    except (FileNotFoundError, ValueError):
        folders.make(home)
        agent_id = uuid4()
        folders.write(path, f"{agent_id}\n".encode())
        return agent_id
