"""Who takes part: servers and agents that are killed and started again, and the people who ask and decide."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar
from uuid import UUID

from bench.model.database import Database, Session
from bench.model.loop import Process, SimulatedLoop
from bench.model.plan import WORKS, Job, Schedule
from bench.model.promises import Effect, Promises
from bench.model.wires import Wire
from chargehand.agent.offers import Agent, Outcome
from chargehand.agent.runtime.machine import Gauges
from chargehand.agent.runtime.runtime import AgentRuntime
from chargehand.agent.secrets.lookup import Chain
from chargehand.agent.work import Work
from chargehand.domain.envelopes import derive_key
from chargehand.domain.errors import (
    ChargehandError,
    PermanentError,
    TaskFailed,
    TaskFailedHere,
    TaskInterrupted,
    TransientError,
)
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.llm import Ask, Reply
from chargehand.domain.ports import control_queue, work_queue
from chargehand.domain.risks import Risk
from chargehand.domain.tiers import models
from chargehand.engine.engine import Engine
from chargehand.engine.loops import Loops, Wake
from chargehand.engine.request_control import RequestControl
from chargehand.engine.sweep import Sweep
from chargehand.settings import Settings

T = TypeVar("T")

SIZE = Resources(estimated_duration_seconds=0, cpu_cores=8, memory_mb=16_384)
GAUGES = Gauges(total=lambda: SIZE, free=lambda: SIZE, load=lambda: 0.1)
SPECS = {
    work.intent: IntentSpec(
        intent=work.intent,
        work_type="run_automation",
        risk=Risk(work.risk),
        retry_safe=work.retry_safe,
        exclusive_keys=work.keys,
        parameters={"type": "object", "properties": {name: {"type": "string"} for name in work.takes}},
        outputs=(
            {"type": "object", "properties": {work.returns: {"type": "string"}}, "required": [work.returns]}
            if work.returns
            else {}
        ),
        content_hash=f"hash-of-{work.intent}",
    )
    for work in WORKS
}
RETURNS = {work.intent: work.returns for work in WORKS if work.returns}


class World(Protocol):
    """What a process of the simulation stands in; `bench.model.world` makes one for each schedule."""

    schedule: Schedule
    home: Path
    random: Random
    loop: SimulatedLoop
    database: Database
    promises: Promises
    broker_process: Process
    settings: Settings
    master: bytes
    agent_ids: dict[str, UUID]

    def session(self, process: Process) -> Session:
        """Return a process's way to the database."""

    def wire(self, process: Process) -> Wire:
        """Return a process's way to the broker."""

    def tell(self, line: str) -> None:
        """Write a line of the schedule, where somebody reads it."""


class Reader:
    """The tier that reads requests: what was written for their words, after a while, or not at all."""

    tier, model, timeout = models()[0].name, "simulated", 5.0

    def __init__(self, world: World) -> None:
        self._world = world

    async def structured(self, ask: Ask) -> Reply:
        """Answer late, or with a failure, as models do."""
        chance = self._world.random
        await asyncio.sleep(chance.uniform(0.01, 1.0) if chance.random() < 0.9 else 4.0)
        if chance.random() < 0.1 and not self._world.schedule.fair:
            return Reply(tier=self.tier, model=self.model, error="busy", error_class="ModelUnavailable")
        return Reply(tier=self.tier, model=self.model, value=_understood(ask.text))


def _understood(words: str) -> dict[str, Any]:
    subtasks = [
        {
            "order": n, "name": intent.replace("_", " "), "intent": intent, "confidence": 0.95, "parameters": {},
            "depends_on": [], "words": intent, "flags": [],
        }
        for n, intent in enumerate(words.rsplit(": ", maxsplit=1)[-1].split(", "), 1)
    ]  # fmt: skip
    return {"subtasks": subtasks, "ambiguities": [], "out_of_scope": [], "assumptions": []}


class ServerHost:
    """One orchestrator process after the other, under one name."""

    def __init__(self, world: World, name: str) -> None:
        self.name, self._world = name, world
        self.process: Process | None = None
        self.session = world.session(Process(name))
        self._wake = Wake()

    def start(self) -> None:
        """Start a process: what `chargehand server` does."""
        world = self._world
        self.process = process = Process(self.name, world.schedule.rates[self.name])
        self.session, self._wire, self._wake = world.session(process), world.wire(process), Wake()
        self.engine = Engine(self.session, self._wire, {Reader.tier: Reader(world)}, world.master, world.settings)
        world.tell(f"{self.name} starts")
        world.loop.start(process, self._serve())

    def kill(self) -> None:
        """As kill -9 does; the operating system ends its connections."""
        if self.process is not None:
            self._world.loop.kill(self.process)
            self.process = None
            self.session.hang_up()
            self._wire.hang_up()

    def cut(self, seconds: float) -> None:
        """Cut it off from the broker."""
        if self.process is not None:
            _cut(self._world, self._wire, seconds)

    def lose_database(self, seconds: float) -> None:
        """Cut it off from the database; notifications are lost meanwhile."""
        session, wake, process = self.session, self._wake, self.process
        if process is None:
            return
        session.hang_up()
        session.away = True

        def back() -> None:
            session.away = False
            if process.alive:
                self._world.loop.call_soon(wake.all, context=process.context.copy())

        self._world.loop.call_later(seconds, back)

    def wake(self, steps: str) -> None:
        """Be notified."""
        if self.process is not None and not self.session.away:
            self._world.loop.call_soon(self._wake.steps, steps, context=self.process.context.copy())

    async def _serve(self) -> None:
        world = self._world
        patience = 1.5 * world.settings.heartbeat_seconds  # as in worker.py
        sweep = Sweep(self.engine, RequestControl(self.engine), patience=patience, clock=world.loop.time)
        loops = Loops(self.engine, sweep, self._wire, self._wake)
        await _persist(self._wire.start)
        for agent_id in self._world.agent_ids.values():
            for queue in (work_queue(str(agent_id)), control_queue(str(agent_id))):
                await _persist(lambda queue=queue: self._wire.declare(queue))  # type: ignore[misc]
        await _persist(self._enrol)
        await _persist(loops.receive)
        await loops.work()

    async def _enrol(self) -> None:
        async with self.session.transaction() as tx:
            for name, agent_id in self._world.agent_ids.items():
                await tx.enrol(agent_id, name, agent_type="infra", pool="simulated", grant_policy="simulated")


class AgentHost:
    """One life of an agent after the other, over one home."""

    def __init__(self, world: World, name: str) -> None:
        self.name, self._world = name, world
        self.process: Process | None = None
        self.session = world.session(Process(name))  # an agent has none; it makes hosts alike
        self._runtime: AgentRuntime | None = None

    def start(self) -> None:
        """Start a life."""
        world, agent_id = self._world, self._world.agent_ids[self.name]
        self.process = process = Process(self.name, world.schedule.rates[self.name])
        self._wire = world.wire(process)
        agent = Agent(self.name, pool="simulated", slots=world.schedule.agents[self.name])
        for spec in SPECS.values():
            agent.offer(spec, self._work)
        home = world.home / self.name
        home.mkdir(exist_ok=True)
        self._runtime = AgentRuntime(
            agent,
            self._wire,
            agent_id=str(agent_id),
            key=derive_key(world.master, str(agent_id), 1),
            home=home,
            heartbeat_seconds=world.settings.heartbeat_seconds,
            secrets=Chain(),
            gauges=GAUGES,
        )
        world.tell(f"{self.name} starts")
        world.loop.start(process, self._begin(self._runtime))

    def kill(self) -> None:
        """As kill -9 does: the operating system closes its files; its keeper ends what it ran."""
        runtime, process = self._runtime, self.process
        if process is None or runtime is None:
            return
        self._world.loop.kill(process)
        self.process = self._runtime = None
        self._wire.hang_up()
        for effect in [e for e in self._world.promises.running if e.process is process]:
            self._world.promises.stopped(effect, self._world.loop.now)
        if runtime._stopped.is_set():
            return  # it had given everything back by itself
        runtime._log_filter.detach()
        journal = getattr(runtime, "_journal", None)
        if journal is not None:
            journal._file.close()
            _close(journal)

    def cut(self, seconds: float) -> None:
        """Cut it off from the broker."""
        if self.process is not None:
            _cut(self._world, self._wire, seconds)

    async def _begin(self, runtime: AgentRuntime) -> None:
        try:
            await runtime.start()
        except TransientError:  # the program ends, and its machine starts it again
            world = self._world
            world.loop.call_later(0.7, self._again, context=world.broker_process.context.copy())

    def _again(self) -> None:
        self.kill()
        self.start()

    async def _work(self, work: Work) -> Outcome:
        """Do some work: what counts is when it begins and ends."""
        world, chance = self._world, self._world.random
        keys = SPECS[work.intent].exclusive_keys
        assert self.process is not None
        effect = Effect(work.order, self.name, keys, self.process, world.loop.now)
        world.tell(f"{self.name} BEGINS {work.intent} (attempt {str(work.attempt_id)[:8]})")
        world.promises.starting(effect)
        long = chance.random() < 0.15
        luck = 1.0 if world.schedule.fair else chance.random()
        try:
            await asyncio.sleep(chance.uniform(10.0, 45.0) if long else chance.uniform(0.05, 5.0))
        except asyncio.CancelledError:
            await asyncio.sleep(chance.uniform(0.0, 0.8))  # it ends in its own time
            raise
        finally:
            world.promises.stopped(effect, world.loop.now)
            world.tell(f"{self.name} ENDS {work.intent} (attempt {str(work.attempt_id)[:8]})")
        if luck < 0.06:
            raise TaskInterrupted("the host did not answer")
        if luck < 0.10:
            # As programs do, it fails for a reason that may be this agent's; every other time for one that is not.
            raise (TaskFailedHere if work.order.number % 2 else TaskFailed)("it does not work")
        name = RETURNS.get(work.intent)
        if name is None or luck < 0.15:  # now and then it does not return what it declares
            return Outcome("done", changed=True)
        return Outcome("done", changed=True, outputs={name: f"{name} of {work.attempt_id}"})


class Person:
    """Asks for one job, and decides about it."""

    def __init__(self, world: World, job: Job) -> None:
        self.content = False  # whether there is nothing more this person wants
        self._world, self._job = world, job
        self._process = Process(f"person-{job.number}")
        self._session = world.session(self._process)
        self._engine = Engine(self._session, world.wire(self._process), {}, world.master, world.settings)
        self._control = RequestControl(self._engine)
        self._reworded = self._cancelled = self._paused = False

    def start(self) -> None:
        """Begin."""
        self._world.loop.start(self._process, self._live())
        if self._job.twice:
            self._world.loop.start(self._process, self._ask())

    async def _live(self) -> None:
        await self._ask()
        request_id = next(iter(self._world.promises.accepted[self._key]))
        asked_at = self._world.loop.now
        while True:
            row = self._world.database.tables["requests"].get(request_id)
            if row is None:
                self._world.promises.breach("kept", f"request {request_id} is gone")
                return
            self.content = row["ended_at"] is not None or (row["status"] == "in_review" and self._job.review == "leave")
            if not self.content:
                await self._attend(request_id, row["status"], self._world.loop.now - asked_at)
            elif row["ended_at"] is not None:
                return
            await asyncio.sleep(self._world.random.uniform(0.3, 1.5))

    @property
    def _key(self) -> str:
        return f"key-{self._job.number}"

    async def _ask(self) -> None:
        await asyncio.sleep(self._job.at)
        words = f"{name_of(self._job.number)}: {', '.join(self._job.works)}"
        request_id = await _persist(
            lambda: self._engine.submit(words, requester="ann", key=self._key, mode=self._job.mode)
        )
        self._world.promises.accepted.setdefault(self._key, set()).add(request_id)

    async def _attend(self, request_id: UUID, status: str, age: float) -> None:
        job = self._job
        try:
            if status == "awaiting_approval":
                await self._decide(request_id)
            elif status == "in_review" and job.review != "leave":
                await self._settle(request_id)
            elif status == "asking":
                await self._control.answer(request_id, f"{name_of(job.number)}: {job.works[0]}", "ann")
            elif job.cancel_after is not None and age > job.cancel_after and not self._cancelled:
                self._cancelled = True
                await self._control.cancel(request_id, "ann")
            elif job.pause_after is not None and age > job.pause_after and not self._paused:
                await self._control.pause(request_id, "ann")
                self._paused = True
            elif status == "paused":
                await self._control.resume(request_id, "ann")
        except ChargehandError as error:
            self._world.tell(f"{self._process}: {error}")

    async def _decide(self, request_id: UUID) -> None:
        tables = self._world.database.tables
        plan = max((p for p in tables["plans"].values() if p["request_id"] == request_id), key=lambda p: p["version"])
        if self._job.verdict == "reject":
            await self._control.reject(request_id, plan["digest"], "ann")
        elif self._job.verdict == "reword" and not self._reworded:
            words = f"{name_of(self._job.number)}: {self._job.works[0]}"
            await self._control.reject(request_id, plan["digest"], "ann", words)
            self._reworded = True
        else:
            self._world.promises.approvals[plan["plan_id"]] = plan["digest"]
            await self._control.approve(request_id, plan["digest"], "ann")

    async def _settle(self, request_id: UUID) -> None:
        tables = self._world.database.tables
        tasks = [t for t in tables["tasks"].values() if t["request_id"] == request_id]
        done = self._job.review == "done"
        if not done and any(row["kind"] == "missing_output" for row in _open_reviews(tables, request_id)):
            await self._control.cancel(request_id, "ann")  # run again it would miss the same
            return
        for task in tasks:
            if task["status"] in ("in_review", "failed"):
                self._world.promises.rerun[task["task_id"]] += 1
        await self._control.retry(request_id, "ann", assume_done=done)


def _open_reviews(tables: Any, request_id: UUID) -> list[Any]:
    rows = tables["reviews"].values()
    return [row for row in rows if row["request_id"] == request_id and row["status"] == "open"]


async def _persist(step: Callable[[], Awaitable[T]]) -> T:
    """Try again until it succeeds, as everybody does who waits for a server; what cannot succeed is raised."""
    while True:
        try:
            return await step()
        except PermanentError:
            raise
        except TransientError:
            await asyncio.sleep(0.7)


def _cut(world: World, wire: Any, seconds: float) -> None:
    wire.sever()
    world.loop.call_later(seconds, lambda: wire.mend() if wire.alive else None)


def _close(journal: Any) -> None:
    import os

    os.close(journal._lock)


def name_of(number: int) -> str:
    """Name a job without a digit: a number in a request that no step takes is a question."""
    return "job " + "".join("abcdefghij"[int(digit)] for digit in str(number))
