"""One policy in one world: what it does to first tries, to waiting, and to the spread of work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, Protocol

from bench.routing.scenario import Agent, Job, Scenario, World

UNNOTICED = 30.0  # seconds until three missed heartbeats have an agent offline
ATTEMPTS = 3
LOOK_AGAIN = 4  # of those that wait, for each slot that is freed: as many as the engine wakes
CONTEXT = 4 * 3600.0


@dataclass(slots=True, eq=False)
class Desk:
    """One agent as the orchestrator knows it, and the work that it has."""

    agent: Agent
    online: bool = False  # as far as is known
    up: bool = False
    at_work: list[Attempt] = field(default_factory=list)
    queue: deque[Attempt] = field(default_factory=deque)
    fresh: int = 0  # runs since it came
    last_of_type: dict[int, float] = field(default_factory=dict)
    busy_seconds: float = 0.0
    handed: int = 0
    held: int = 0  # jobs that wait at the orchestrator for this agent

    @property
    def load(self) -> int:
        """How many attempts it runs or holds."""
        return len(self.at_work) + len(self.queue)


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of a job. `desk` is the agent it is bound to; `tried` those that it failed on.

    `awaits` is the agent that it waits for at the orchestrator, `until` when it stops that (0: as long as it takes),
    `place` the one that it waited for when it looks again, `chose` whether it ever waited though somebody was free.
    """

    job: Job
    number: int
    since: float
    tried: tuple[int, ...] = ()
    desk: Desk | None = None
    awaits: Desk | None = None
    until: float = 0.0
    place: Desk | None = None
    chose: bool = False
    void: bool = False


class Chooser(Protocol):
    """A policy. With `binds_late`, a job goes to agents with a free slot only, and may wait at the orchestrator.

    It waits for the one that was chosen when that one is full, or when `until` was set to a time to come.
    """

    binds_late: bool

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None: ...

    def learn(self, desk: Desk, attempt: Attempt, ok: bool, now: float) -> None: ...


@dataclass(slots=True)
class Outcome:
    """What came of it, before it is turned into figures."""

    first_tries: list[bool] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    late_first: int = 0
    late_fair: float = 0.0
    loads: list[float] = field(default_factory=list)  # busy seconds per slot and second that the agent was known


class Simulation:
    """Runs a world to its end. Events: (time, serial, what, subject)."""

    def __init__(self, world: World, chooser: Chooser) -> None:
        self.world, self.chooser, self.scenario = world, chooser, world.scenario
        self.desks = [Desk(agent) for agent in world.agents]
        self.there: list[Desk] = []
        self.waiting: deque[Attempt] = deque()
        self.outcome = Outcome()
        self._do: dict[str, Callable[[float, Any], None]] = {
            "came": self._came,
            "went": self._went,
            "missed": self._missed,
            "asked": self._asked,
            "again": self._again,
            "until": self._until,
            "ended": self._ended,
            "lost": self._lost,
        }
        self._serial = 0
        self._events: list[tuple[float, int, str, object]] = []

    def run(self) -> Outcome:
        """Return the outcome of every first try."""
        self._events = [(at, n, what, subject) for n, (at, what, subject) in enumerate(self._timetable())]
        self._serial = len(self._events)
        heapify(self._events)
        now = 0.0
        while self._events:
            now, _, what, subject = heappop(self._events)
            self._do[what](now, subject)
        self.outcome.loads = [
            desk.busy_seconds / desk.agent.slots / max(1.0, now - desk.agent.joins) for desk in self.desks
        ]
        return self.outcome

    def _timetable(self) -> Iterator[tuple[float, str, object]]:
        for desk in self.desks:
            yield desk.agent.joins, "came", desk
            for since, until in desk.agent.down:
                yield since, "went", desk
                yield min(since + UNNOTICED, until), "missed", desk
                yield until, "came", desk
        for job in self.world.jobs:
            yield job.at, "asked", job

    def _later(self, at: float, what: str, subject: object) -> None:
        self._serial += 1
        heappush(self._events, (at, self._serial, what, subject))

    # --- agents come and go --------------------------------------------------------------------------------------

    def _came(self, now: float, desk: Desk) -> None:
        desk.up = desk.online = True
        desk.fresh = 0
        if desk not in self.there:
            self.there.append(desk)
            self.there.sort(key=lambda d: d.agent.number)
        for _ in range(desk.agent.slots):
            self._freed(now, desk)

    def _went(self, now: float, desk: Desk) -> None:
        desk.up = False
        for attempt in desk.at_work:
            if not attempt.void:  # nobody may have noticed yet that it was lost the last time
                attempt.void = True
                self._later(now + UNNOTICED, "lost", attempt)

    def _missed(self, now: float, desk: Desk) -> None:
        if desk.up:
            return
        desk.online = False
        if desk in self.there:
            self.there.remove(desk)
        queued = list(desk.queue)
        desk.queue.clear()
        for attempt in queued:
            attempt.desk = None
            self._place(now, attempt)
        for attempt in [attempt for attempt in self.waiting if attempt.awaits is desk and attempt.until]:
            self._look_again(now, attempt)

    # --- work comes, is bound, begins and ends -------------------------------------------------------------------

    def _asked(self, now: float, job: Job) -> None:
        self._count_fair_share()
        self._place(now, Attempt(job, 0, now))

    def _again(self, now: float, attempt: Attempt) -> None:
        self._place(now, attempt)

    def _until(self, now: float, attempt: Attempt) -> None:
        if attempt in self.waiting and attempt.until <= now:
            self._look_again(now, attempt)

    def _look_again(self, now: float, attempt: Attempt) -> None:
        if self._bind(now, attempt):
            self.waiting.remove(attempt)

    def _place(self, now: float, attempt: Attempt) -> None:
        if not self._bind(now, attempt):
            self.waiting.append(attempt)

    def _bind(self, now: float, attempt: Attempt) -> bool:
        desks = self.there
        if attempt.tried and any(d.agent.number not in attempt.tried for d in desks):
            desks = [d for d in desks if d.agent.number not in attempt.tried]
        attempt.place = attempt.awaits
        if attempt.awaits:
            attempt.awaits.held -= 1
            attempt.awaits = None
        attempt.until = 0.0
        desk = self.chooser.choose(attempt, desks, now) if desks else None
        if desk is None:
            return False
        if self.chooser.binds_late and (attempt.until or desk.load >= desk.agent.slots):
            attempt.awaits = desk
            desk.held += 1
            if attempt.until:
                self._later(attempt.until, "until", attempt)
            return False
        desk.queue.append(attempt)
        attempt.desk = desk
        if attempt.number == 0:
            desk.handed += 1
        self._begin(now, desk)
        return True

    def _begin(self, now: float, desk: Desk) -> None:
        while desk.up and desk.queue and len(desk.at_work) < desk.agent.slots:
            attempt = desk.queue.popleft()
            desk.at_work.append(attempt)
            if attempt.number == 0:
                self.outcome.waits.append(now - attempt.since)
                self.outcome.late_first += desk.agent.joins > 0
            seconds = attempt.job.seconds * desk.agent.slow
            desk.busy_seconds += seconds
            self._later(now + seconds, "ended", attempt)

    def _ended(self, now: float, attempt: Attempt) -> None:
        desk = attempt.desk
        if attempt.void or desk is None:
            return
        chance = true_chance(self.scenario, desk, attempt.job.work_type, now)
        desk.fresh += 1
        desk.last_of_type[attempt.job.work_type] = now
        self._close(now, attempt, ok=attempt.job.luck[attempt.number] < chance)

    def _lost(self, now: float, attempt: Attempt) -> None:
        self._close(now, attempt, ok=False)  # its lease has run out

    def _close(self, now: float, attempt: Attempt, *, ok: bool) -> None:
        desk = attempt.desk
        if desk is None:
            return
        desk.at_work.remove(attempt)
        self.chooser.learn(desk, attempt, ok, now)
        if attempt.number == 0:
            self.outcome.first_tries.append(ok)
        if not ok and attempt.number + 1 < ATTEMPTS:
            again = Attempt(attempt.job, attempt.number + 1, now, (*attempt.tried, desk.agent.number))
            self._later(now + 1.0 + attempt.number, "again", again)
        self._begin(now, desk)
        self._freed(now, desk)

    def _freed(self, now: float, desk: Desk) -> None:
        self._begin(now, desk)
        if not self.waiting:
            return
        for attempt in self._who_looks_again(desk):
            self._look_again(now, attempt)

    def _who_looks_again(self, desk: Desk) -> list[Attempt]:
        """Those that have waited longest, and before them the first that waits for this very agent.

        Who waits for another agent until some time is left alone.
        """
        first = [attempt for attempt in self.waiting if attempt.awaits is desk][:1]
        called = (attempt for attempt in self.waiting if attempt.awaits in (None, desk) or not attempt.until)
        return first + [attempt for attempt in islice(called, LOOK_AGAIN) if attempt not in first]

    def _count_fair_share(self) -> None:
        slots = sum(desk.agent.slots for desk in self.there)
        if slots:
            late = sum(desk.agent.slots for desk in self.there if desk.agent.joins > 0)
            self.outcome.late_fair += late / slots


def true_chance(scenario: Scenario, desk: Desk, work_type: int, now: float) -> float:
    """Return how likely this agent is to succeed with such work now: what only the oracle knows."""
    chance = desk.agent.level(work_type, now)
    if desk.fresh < scenario.cold_start.runs:
        chance -= scenario.cold_start.penalty
    last = desk.last_of_type.get(work_type)
    if last is not None and now - last <= CONTEXT:
        chance += scenario.success.context_bonus
    return min(0.995, max(0.02, chance))
