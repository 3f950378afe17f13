"""One simulation: the processes of a schedule, what goes wrong with them, and what is found."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid5

from bench.model.cast import AgentHost, Person, ServerHost
from bench.model.database import Database, Session, Transaction
from bench.model.loop import Process, SimulatedLoop
from bench.model.plan import Fault, Schedule, Sky, Weather, draw
from bench.model.promises import Promises
from bench.model.statements_all import MODELLED
from bench.model.wires import Wire, at_once
from chargehand.broker.memory import MemoryBroker
from chargehand.domain import seals
from chargehand.domain.errors import TransientError
from chargehand.domain.risks import Risk
from chargehand.settings import Settings
from chargehand.store import planning_statements, transaction

MASTER = b"m" * 32
IDS = UUID("5b3a1f4e-8f1c-4b57-9d0a-6a1e3c9f7d21")
HORIZON = 900.0
"""Seconds after the storm until everything must have come to rest: three attempts of each task, to their deadlines."""
LINGER = 8.0
"""Seconds to look on after that, for what comes late: more than the longest delay and a heartbeat."""
MOST_STEPS = 400_000
"""Callbacks of one schedule; the longest honest ones need a tenth of it."""

SETTINGS = Settings(
    home=Path("/nonexistent"), database_url=None, amqp_url=None, auto_approve=frozenset({Risk.READ}),
    lease_seconds=15.0, lease_grace=3.0, heartbeat_seconds=4.0, start_deadline=40.0, task_deadline=60.0,
    no_agent_timeout=60.0, claim_seconds=10.0, sweep_seconds=5.0, batch_size=10, circuit_seconds=15.0,
    approval_expires=200.0,
)  # fmt: skip
"""A quarter of the defaults, in the same proportions: the clock is simulated, but every heartbeat costs real time."""


@dataclass(slots=True)
class Verdict:
    """What came of one schedule."""

    seed: int
    broken: str = ""  # the promise
    detail: str = ""
    seconds: float = 0.0  # simulated
    steps: int = 0
    checks: int = 0
    starts: int = 0
    crashes: int = 0
    statuses: dict[str, int] = field(default_factory=dict)


class World:
    """Everything of one schedule."""

    def __init__(self, schedule: Schedule, home: Path, tell: list[str] | None = None) -> None:
        seed = schedule.seed
        self.schedule, self.home = schedule, home
        self.told = tell
        self.random = Random(f"chances {seed}")
        self.loop = SimulatedLoop(Random(f"order {seed}"))
        self.database = Database(lambda: self.loop.now, MODELLED)
        self._seal_key = seals.seal_key(MASTER)
        self.promises = Promises(self.database, self._seal_key)
        self.weather = Weather(Random(f"weather {seed}"), schedule.sky)
        self.broker = MemoryBroker(self.weather)
        self.broker_process = Process("broker")
        self.settings, self.master = SETTINGS, MASTER
        self.agent_ids = {name: uuid5(IDS, name) for name in schedule.agents}
        self.hosts: dict[str, ServerHost | AgentHost] = {}
        self.people: list[Person] = []
        self.calm = False
        self._looked_at = -1.0
        self.crashes = 0
        self._aimed = [fault for fault in schedule.faults if fault.point]
        self._seen: dict[Fault, int] = {}

    # --- what the processes have -------------------------------------------------------------------------------------

    def session(self, process: Process) -> Session:
        """Return a process's way to the database."""
        return Session(self.database, process, self._seal_key, lambda point: self._reach(process, point))

    def wire(self, process: Process) -> Wire:
        """Return a process's way to the broker."""
        wire = Wire(self.loop, self.broker, self.broker_process, process, lambda point: self._reach(process, point))
        wire.sent = self._sent
        return wire

    def tell(self, line: str) -> None:
        """Write a line of the schedule, where somebody reads it."""
        if self.told is not None:
            self.told.append(f"{self.loop.now:9.3f}  {line}")

    async def _reach(self, process: Process, point: str) -> None:
        """Come to a point where a process may die; take as long as a round trip does."""
        if self.told is not None and not point.startswith("statement"):
            self.tell(f"{process}: {point}")
        if self._aimed and self._is_hit(process, point):
            self.crash(process.name, next(f for f in self._aimed if self._seen.get(f, 0) >= f.nth))
            self._aimed = [fault for fault in self._aimed if self._seen.get(fault, 0) < fault.nth]
        slow = self.weather.sky.slow
        if not slow and point.startswith("statement") and self.random.random() < 0.6:
            return  # it is not overtaken by anybody
        await asyncio.sleep(self.random.random() * 0.2 if slow and self.random.random() < slow else 0)

    def _is_hit(self, process: Process, point: str) -> bool:
        for fault in self._aimed:
            if fault.who == process.name and self.loop.now >= fault.at and point.startswith(fault.point):
                self._seen[fault] = self._seen.get(fault, 0) + 1
                if self._seen[fault] >= fault.nth:
                    return True
        return False

    def _sent(self, queue: str, body: bytes, confirmed: bool) -> None:
        if confirmed:
            self.promises.confirmed.add(body)
        if self.told is not None:
            self.tell(f"  -> {queue}: {_kind(body)}{'' if confirmed else ' (unconfirmed)'}")

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Verdict:
        """Run the schedule to its end and return what was found."""
        director = Process("director")
        at_once(self.broker_process.context, self.broker.start())
        self.database.notify = self._notify
        if self.told is not None:
            self._narrate()
        self.loop.start(director, self._direct())
        promises = self.promises
        with _listening(self):
            limit = self.schedule.storm + HORIZON
            why = self.loop.run(
                lambda: promises.broken is not None or (self.calm and self._is_over()), limit, MOST_STEPS
            )
            if promises.broken is None and why != "done":
                promises.breach("comes_to_rest", f"after {self.loop.now:.0f} s ({why}): {promises.resting()}")
            if promises.broken is None:
                end = self.loop.now + LINGER
                self.loop.run(lambda: promises.broken is not None, end, MOST_STEPS)
                # An agent may just have repeated a result: the answer to it is on its way for a moment.
                self.loop.run(lambda: promises.broken is not None or promises.resting() is None, end + 30, MOST_STEPS)
                if (left := promises.resting()) is not None:
                    promises.breach("comes_to_rest", f"it began again: {left}")
                promises.finally_(fair=self.schedule.fair)
            for complaint in self.loop.complaints:
                promises.breach("no_mistake", f"{complaint.get('message')}: {complaint.get('exception')!r}")
        verdict = self._verdict()
        self._leave()
        return verdict

    async def _direct(self) -> None:
        """Start everybody, let everything go wrong when it must, and clear the weather."""
        loop = asyncio.get_running_loop()
        for name in self.schedule.servers:
            self.hosts[name] = ServerHost(self, name)
            self.hosts[name].start()
        for name in self.schedule.agents:
            self.hosts[name] = AgentHost(self, name)
            # An agent whose first word finds no queue says it again with its next heartbeat; in fair weather none does.
            loop.call_later(0.3 if self.schedule.fair else 0.0, self.hosts[name].start)
        for fault in self.schedule.faults:
            if not fault.point:
                loop.call_later(fault.at, self._strike, fault)
        self.people = [Person(self, job) for job in self.schedule.jobs]
        for person in self.people:
            person.start()
        await asyncio.sleep(self.schedule.storm)
        self._clear()

    def crash(self, name: str, fault: Fault) -> None:
        """Kill a process, and start it again after a while."""
        host = self.hosts.get(name)
        if host is None or host.process is None:
            return
        self.crashes += 1
        self.tell(f"!! {fault}")
        host.kill()
        later = self.broker_process.context  # of a process that lives on
        self.loop.call_later(fault.seconds, host.start, context=later.copy())

    def _strike(self, fault: Fault) -> None:
        everybody = [self.hosts[fault.who]] if fault.who else list(self.hosts.values())
        if fault.kind == "crash":
            self.crash(fault.who, fault)
            return
        self.tell(f"!! {fault}")
        if fault.kind == "wipe":
            for queue in self.broker._queues.values():  # nothing but the broker itself can lose them
                queue.ready.clear()
        elif fault.kind == "database_restart":
            for host in everybody:
                host.session.hang_up()
        for host in everybody:
            if fault.kind in ("cut", "broker_restart"):
                host.cut(fault.seconds)
            elif fault.kind in ("no_database", "database_restart") and isinstance(host, ServerHost):
                host.lose_database(fault.seconds)

    def _clear(self) -> None:
        self.tell("-- the weather clears --")
        self.weather.sky = Sky()
        self._aimed = []
        self.calm = True

    def _may_end(self) -> bool:
        return self.promises.broken is not None or (self.calm and self._is_over())

    def _is_over(self) -> bool:
        """Whether everything has come to rest. Cheap enough to be asked before every step."""
        if self._looked_at == self.loop.now:
            return False
        self._looked_at = self.loop.now
        if self.database.locks or not all(person.content for person in self.people):
            return False
        return self.promises.resting() is None

    def _notify(self, wakes: str) -> None:
        for host in self.hosts.values():
            if isinstance(host, ServerHost) and self.random.random() >= self.weather.sky.notice_lost:
                host.wake(wakes)

    def _narrate(self) -> None:
        check = self.database.on_commit

        def narrate(tx: Transaction) -> None:
            for row in tx.changed.get("events", {}).values():
                if row:
                    about = row["attempt_id"] or row["task_id"] or row["request_id"]
                    self.tell(f"  = {row['kind']} {str(about)[:8]} {row['data'].get('reason', '')}")
            check(tx)

        self.database.on_commit = narrate

    def _verdict(self) -> Verdict:
        promises, tables = self.promises, self.database.tables
        statuses: dict[str, int] = {}
        for row in tables["requests"].values():
            statuses[row["status"]] = statuses.get(row["status"], 0) + 1
        found = promises.broken
        if found is not None:
            self.tell(f"## broken: {found.promise}: {found}")
        return Verdict(
            self.schedule.seed, found.promise if found else "", str(found or ""), self.loop.now, self.loop.steps,
            promises.checked, len(promises.effects), self.crashes, statuses,
        )  # fmt: skip

    def _leave(self) -> None:
        for host in self.hosts.values():
            host.kill()
        self.loop.leave()


def simulate(seed: int, tell: list[str] | None = None, transcript: list[tuple[Any, ...]] | None = None) -> Verdict:
    """Run the schedule of a seed. `tell` gets it line by line, `transcript` what was asked of the database."""
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="chargehand-sim-", dir=memory if memory.is_dir() else None))
    try:
        with seeded_ids(Random(f"ids {seed}")):
            transaction._SPECS.clear()
            planning_statements._CHECKED.clear()  # this process may have run the same schedule before
            schedule = draw(seed)
            if tell is not None:
                tell.append(f"schedule {seed}: storm of {schedule.storm:.1f} s")
                tell += [f"  {job}" for job in schedule.jobs] + [f"  {fault}" for fault in schedule.faults]
                tell.append(f"  {schedule.sky}")
            world = World(schedule, home, tell)
            world.database.transcript = transcript
            return world.run()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def seeded_ids(random: Random) -> Iterator[None]:
    """Let the standard library's `uuid4` draw from a seed: it takes its bytes from the operating system."""
    real = os.urandom
    os.urandom = random.randbytes
    try:
        yield
    finally:
        os.urandom = real


class _Mistakes(logging.Handler):
    """Finds errors that no loop should see: those that are not a passing trouble."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        told = [arg for arg in record.args if isinstance(arg, BaseException)] if isinstance(record.args, tuple) else []
        for error in [*told, record.exc_info[1] if record.exc_info else None]:
            if error is not None and not isinstance(error, TransientError):
                self._world.promises.breach("no_mistake", f"{record.getMessage()} ({type(error).__name__})")
        self._world.tell(f"  log: {record.getMessage()}")


@contextmanager
def _listening(world: World) -> Iterator[None]:
    log = logging.getLogger("chargehand")
    mistakes, level, propagate = _Mistakes(world), log.level, log.propagate
    log.addHandler(mistakes)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(mistakes)
        log.setLevel(level)
        log.propagate = propagate


def _kind(body: bytes) -> str:
    text = body.partition(b"\n")[2].decode()
    at = text.find('"type":"')
    return text[at + 8 : text.find('"', at + 8)] if at >= 0 else "?"
