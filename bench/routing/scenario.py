"""What a simulated pool is like: the scenario as written in a file, and one drawing of it. See docs/routing.md."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log, sqrt
from typing import Literal

from pydantic import Field

from chargehand.domain.value import Value


class Success(Value):
    """How often work succeeds: a mean over agents, how far agents differ, and how far an agent's work types differ."""

    mean: float = Field(default=0.70, gt=0, lt=1)
    agent_spread: float = Field(default=0.12, ge=0)
    type_spread: float = Field(default=0.05, ge=0)
    specialist_bonus: float = 0.0  # on the work types an agent declares, where what it declares is true
    honest: float = Field(default=1.0, ge=0, le=1)  # share of declarations that are true
    context_bonus: float = 0.0  # when it did the same work type within the last four hours


class Durations(Value):
    """Seconds of work, lognormal; `agent_spread` is the coefficient of variation of agents' speeds."""

    mean: float = Field(default=120.0, gt=0)
    variation: float = Field(default=0.8, ge=0)
    agent_spread: float = Field(default=0.2, ge=0)


class Changes(Value):
    """Rates that do not stay: every `every` seconds on average, an agent's is drawn again.

    `size` 1 forgets what it was; less moves it towards the new one; more draws it from that many times the spread.
    """

    every: float | None = Field(default=None, gt=0)
    size: float = Field(default=1.0, ge=0)


class Outages(Value):
    """Agents that are gone for `seconds` on average, every `every` seconds on average."""

    every: float | None = Field(default=None, gt=0)
    seconds: float = Field(default=900.0, gt=0)


class ColdStart(Value):
    """An agent's first `runs` after it came (or came back) succeed less often, by `penalty`."""

    runs: int = Field(default=0, ge=0)
    penalty: float = Field(default=0.0, ge=0, le=1)


class LateJoiners(Value):
    """A share of the agents that come only after these parts of the time."""

    share: float = Field(default=0.0, ge=0, lt=1)
    after: tuple[float, float] = (0.3, 0.6)
    better: float = 0.0  # how much more often they succeed than the others


class Scenario(Value):
    """A pool and its work. `load` is the share of all slots' time that first attempts take."""

    name: str
    agents: int = Field(default=12, ge=2, le=1000)
    slots: tuple[int, ...] = (1, 2, 3)  # drawn for each agent
    tasks: int = Field(default=4000, ge=100, le=200_000)
    work_types: int = Field(default=4, ge=1, le=50)
    declared: int = Field(default=1, ge=0)  # work types an agent declares as its specialization
    load: float = Field(default=0.6, gt=0, lt=2)
    arrivals: Literal["steady", "bursts", "daily"] = "steady"
    success: Success = Success()
    durations: Durations = Durations()
    changes: Changes = Changes()
    outages: Outages = Outages()
    cold_start: ColdStart = ColdStart()
    late_joiners: LateJoiners = LateJoiners()


@dataclass(slots=True)
class Agent:
    """One agent as it truly is. `levels` are its rates from `times` on, `down` its outages (from, until)."""

    number: int
    slots: int
    joins: float
    slow: float
    declared: frozenset[int]
    offsets: tuple[float, ...]
    times: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    down: list[tuple[float, float]] = field(default_factory=list)

    def level(self, work_type: int, now: float) -> float:
        """Return how often this work succeeds then."""
        return min(0.995, max(0.02, self.levels[bisect_right(self.times, now) - 1] + self.offsets[work_type]))


@dataclass(frozen=True, slots=True)
class Job:
    """A task with its luck, drawn before any policy sees it: every policy meets the same luck."""

    number: int
    at: float
    work_type: int
    seconds: float
    luck: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class World:
    """One drawing of a scenario."""

    scenario: Scenario
    agents: tuple[Agent, ...]
    jobs: tuple[Job, ...]


def draw(scenario: Scenario, seed: int) -> World:
    """Draw a world. The same scenario and seed give the same world."""
    chance = random.Random(f"{scenario.name} {seed}")
    capacity = _slots(scenario, chance)
    mean = scenario.durations.mean
    rate = scenario.load * sum(capacity) / mean
    end = scenario.tasks / rate
    agents = tuple(_agent(scenario, number, slots, end, chance) for number, slots in enumerate(capacity))
    return World(scenario, agents, tuple(_jobs(scenario, rate, chance)))


def _slots(scenario: Scenario, chance: random.Random) -> list[int]:
    return [chance.choice(scenario.slots) for _ in range(scenario.agents)]


def _agent(scenario: Scenario, number: int, slots: int, end: float, chance: random.Random) -> Agent:
    success, late = scenario.success, scenario.late_joiners
    is_late = number >= scenario.agents - round(late.share * scenario.agents)
    joins = end * chance.uniform(*late.after) if is_late else 0.0
    declared = frozenset(chance.sample(range(scenario.work_types), min(scenario.declared, scenario.work_types)))
    true = frozenset(work_type for work_type in declared if chance.random() < success.honest)
    offsets = tuple(
        chance.gauss(0, success.type_spread) + success.specialist_bonus * (work_type in true)
        for work_type in range(scenario.work_types)
    )
    agent = Agent(number, slots, joins, _lognormal(1.0, scenario.durations.agent_spread, chance), declared, offsets)
    mean = success.mean + late.better * is_late
    agent.times, agent.levels = _levels(scenario, mean, end, chance)
    agent.down = list(_outages(scenario.outages, joins, end, chance))
    return agent


def _levels(scenario: Scenario, mean: float, end: float, chance: random.Random) -> tuple[list[float], list[float]]:
    spread, changes = scenario.success.agent_spread, scenario.changes
    times, levels = [0.0], [chance.gauss(mean, spread)]
    while changes.every:
        at = times[-1] + chance.expovariate(1 / changes.every)
        if at > end:
            break
        times.append(at)
        kept = max(0.0, 1 - changes.size)  # size 1 forgets what it was; less moves it towards a new drawing
        levels.append(kept * levels[-1] + (1 - kept) * chance.gauss(mean, spread * max(1.0, changes.size)))
    return times, levels


def _outages(outages: Outages, joins: float, end: float, chance: random.Random) -> Iterator[tuple[float, float]]:
    at = joins
    while outages.every:
        at += chance.expovariate(1 / outages.every)
        if at > end:
            return
        until = at + chance.expovariate(1 / outages.seconds)
        yield at, until
        at = until


def _jobs(scenario: Scenario, rate: float, chance: random.Random) -> Iterator[Job]:
    at = 0.0
    weights = [1 / (1 + work_type) for work_type in range(scenario.work_types)]  # some work is asked for more often
    end = scenario.tasks / rate
    for number in range(scenario.tasks):
        at += chance.expovariate(rate * _pace(scenario.arrivals, at / end))
        work_type = chance.choices(range(scenario.work_types), weights)[0]
        seconds = _lognormal(scenario.durations.mean, scenario.durations.variation, chance)
        yield Job(number, at, work_type, seconds, (chance.random(), chance.random(), chance.random()))


def _pace(arrivals: str, part: float) -> float:
    """Return how much faster than on average work comes at this part of the time."""
    if arrivals == "bursts":  # a fifth of the time at three times the pace of the rest
        return 3 / 1.4 if (part * 40) % 1 < 0.2 else 1 / 1.4
    if arrivals == "daily":
        return 1.5 if (part * 6) % 1 < 0.5 else 0.5
    return 1.0


def _lognormal(mean: float, variation: float, chance: random.Random) -> float:
    if variation == 0:
        return mean
    sigma2 = log(1 + variation**2)
    return chance.lognormvariate(log(mean) - sigma2 / 2, sqrt(sigma2))
