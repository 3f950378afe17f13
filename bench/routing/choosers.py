"""The policies that are compared, each as it is published; `learned` is the product's own router."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import exp, log, sqrt
from typing import overload
from uuid import UUID

from bench.routing.scenario import Scenario
from bench.routing.simulation import CONTEXT, Attempt, Desk, true_chance
from chargehand.domain.plans import WorkTask
from chargehand.domain.routing import AgentFacts, Policy
from chargehand.routing.performance import Lately
from chargehand.routing.router import route
from chargehand.routing.wait_policy import WaitPolicy
from chargehand.settings import Settings

NOBODY = UUID(int=0)


class Random:
    """Anyone."""

    binds_late = False

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.chance = scenario, random.Random(seed)

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        return self.chance.choice(desks)

    def learn(self, desk: Desk, attempt: Attempt, ok: bool, now: float) -> None: ...


class RoundRobin(Random):
    """One after the other."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self.last = -1

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        after = [desk for desk in desks if desk.agent.number > self.last]
        chosen = (after or desks)[0]
        self.last = chosen.agent.number
        return chosen


class LeastLoaded(Random):
    """The least attempts per slot, any of the least."""

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        least = min(desk.load / desk.agent.slots for desk in desks)
        return self.chance.choice([desk for desk in desks if desk.load / desk.agent.slots == least])


class PeakEwma(Random):
    """The better of two drawn: peak-sensitive moving average of response times (10 s), times what is outstanding."""

    TAU = 600.0

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self.cost: dict[int, tuple[float, float]] = {}

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        two = self.chance.sample(desks, min(2, len(desks)))
        return min(two, key=lambda desk: self._cost(desk, now) * (desk.load + 1) / desk.agent.slots)

    def learn(self, desk: Desk, attempt: Attempt, ok: bool, now: float) -> None:
        took, (old, at) = now - attempt.since, self.cost.get(desk.agent.number, (0.0, now))
        weight = exp(-(now - at) / self.TAU)
        self.cost[desk.agent.number] = (took if took > old else old * weight + took * (1 - weight), now)

    def _cost(self, desk: Desk, now: float) -> float:
        old, at = self.cost.get(desk.agent.number, (1.0, now))
        return old * exp(-(now - at) / self.TAU)


class Counting(Random):
    """What all that count have in common: successes and runs per agent and work type."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self.counts: dict[tuple[int, int], list[float]] = {}

    def learn(self, desk: Desk, attempt: Attempt, ok: bool, now: float) -> None:
        entry = self.counts.setdefault((desk.agent.number, attempt.job.work_type), [0.0, 0.0])
        entry[0] += ok
        entry[1] += 1

    def seen(self, desk: Desk, attempt: Attempt) -> list[float]:
        return self.counts.get((desk.agent.number, attempt.job.work_type), [0.0, 0.0])


def _recent(desk: Desk, attempt: Attempt, now: float) -> bool:
    last = desk.last_of_type.get(attempt.job.work_type)
    return last is not None and now - last <= CONTEXT


class Additive(Counting):
    """30 recent context, 40 success rate (half of it before the tenth run), 20 specialization, 10 less the load."""

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        return max(desks, key=lambda desk: self._score(desk, attempt, now))

    def _score(self, desk: Desk, attempt: Attempt, now: float) -> float:
        ok, runs = self.seen(desk, attempt)
        rate = ok / runs if runs >= 10 else 0.5
        declared = attempt.job.work_type in desk.agent.declared
        return 30 * _recent(desk, attempt, now) + 40 * rate + 20 * declared + max(0, 10 - desk.load)


class Weighted(Counting):
    """0.6 success rate and 0.4 recent context; equal ones by lot."""

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        def score(desk: Desk) -> tuple[float, float]:
            ok, runs = self.seen(desk, attempt)
            return (0.6 * (ok / runs if runs >= 10 else 0.5) + 0.4 * _recent(desk, attempt, now), self.chance.random())

        return max(desks, key=score)


class Ucb1(Counting):
    """Mean plus sqrt(2 ln n / runs); whoever is untried first. Knows no load."""

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        total = log(max(2.0, sum(self.seen(desk, attempt)[1] for desk in desks)))

        def score(desk: Desk) -> float:
            ok, runs = self.seen(desk, attempt)
            return ok / runs + sqrt(2 * total / runs) if runs else 1e9 - desk.load

        return max(desks, key=score)


class DiscountedThompson(Counting):
    """A draw from each Beta posterior, all counts discounted by 0.99 with each run of the work type. Knows no load."""

    KEEP = 0.99

    def learn(self, desk: Desk, attempt: Attempt, ok: bool, now: float) -> None:
        entry = self.counts.setdefault((desk.agent.number, attempt.job.work_type), [0.0, 0.0])
        entry[0] = entry[0] * self.KEEP + ok
        entry[1] = entry[1] * self.KEEP + 1

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        def score(desk: Desk) -> float:
            ok, runs = self.seen(desk, attempt)
            return self.chance.betavariate(1 + ok, 1 + runs - ok)

        return max(desks, key=score)


class Oracle(Random):
    """Knows every true rate at every moment. Takes a tenth of success as worth waiting for a whole round of work."""

    binds_late = True

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        return max(desks, key=lambda desk: self._score(desk, attempt, now))

    def _score(self, desk: Desk, attempt: Attempt, now: float) -> float:
        chance = true_chance(self.scenario, desk, attempt.job.work_type, now)
        return chance - 0.1 * (desk.load + desk.held) / desk.agent.slots


class Product(Random):
    """The product's router, with the facts that its store would give it."""

    binds_late = True

    def __init__(self, scenario: Scenario, seed: int, policy: Policy) -> None:
        super().__init__(scenario, seed)
        self.policy = policy
        self.counts: dict[tuple[int, int], tuple[int, int]] = {}
        self.lately: dict[tuple[int, int], Lately] = {}
        self.overall: dict[int, Lately] = {}
        self.usual: dict[int, Lately] = {}
        self.waits = WaitPolicy(Settings().routing_wait_limit)
        self.tasks = [task_of(work_type) for work_type in range(scenario.work_types)]

    def learn(self, desk: Desk, attempt: Attempt, ok: bool, now: float) -> None:
        number, key = desk.agent.number, (desk.agent.number, attempt.job.work_type)
        good, bad = self.counts.get(key, (0, 0))
        self.counts[key] = (good + ok, bad + (not ok))
        self.overall[number] = self.overall.get(number, Lately()).after(ok)
        before = self.lately.get(key, Lately())
        after = self.lately[key] = before.after(ok)
        of_all = self.usual.get(key[1], Lately())
        self.usual[key[1]] = Lately(
            of_all.successes + after.successes - before.successes, of_all.runs + after.runs - before.runs
        )

    def choose(self, attempt: Attempt, desks: list[Desk], now: float) -> Desk | None:
        pool = Pool(self, desks, attempt, now)
        task, draw = self.tasks[attempt.job.work_type], self.chance.getrandbits(31)
        waited = now - attempt.since
        left = self.waits.left(task.intent, waited)
        decision = route(task, pool, policy=self.policy, draw=draw, wait_limit=left)
        chosen = decision.selected or decision.waits_for
        if chosen is None:
            return None
        if not attempt.chose:
            self.waits.saw(task.intent, waited)
        attempt.chose = attempt.chose or decision.waits_for is not None
        attempt.until = now + left if decision.waits_for else 0.0
        return desks[pool.place(chosen)]

    def facts(self, agent_id: str, desk: Desk, attempt: Attempt, now: float) -> AgentFacts:
        """Return what the store would say of the agent."""
        key = (desk.agent.number, attempt.job.work_type)
        good, bad = self.counts.get(key, (0, 0))
        lately, overall = self.lately.get(key, Lately()), self.overall.get(key[0], Lately())
        usual = self.usual.get(key[1], Lately())
        last = desk.last_of_type.get(attempt.job.work_type)
        return AgentFacts(
            agent_id, agent_id, "infra", "default", "online", True, "hash",
            specializations=tuple([f"type-{n}" for n in desk.agent.declared]),
            slots=desk.agent.slots, in_flight=desk.load,
            success_count=good, failure_count=bad,
            lately_successes=lately.successes, lately_runs=lately.runs,
            overall_successes=overall.successes, overall_runs=overall.runs,
            usual_rate=(usual.successes + 1) / (usual.runs + 2),
            recent_context_age=None if last is None else now - last,
            in_line=0 if desk is attempt.place else desk.held,
        )  # fmt: skip


class Pool(Sequence[AgentFacts]):
    """The facts of those who are there, each made when it is looked at."""

    def __init__(self, product: Product, desks: list[Desk], attempt: Attempt, now: float) -> None:
        self.product, self.desks, self.attempt, self.now = product, desks, attempt, now
        self.places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.desks)

    @overload
    def __getitem__(self, n: int) -> AgentFacts: ...
    @overload
    def __getitem__(self, n: slice) -> Sequence[AgentFacts]: ...
    def __getitem__(self, n: int | slice) -> AgentFacts | Sequence[AgentFacts]:
        if isinstance(n, slice):
            return [self[i] for i in range(*n.indices(len(self)))]
        agent_id = f"{self.desks[n].agent.number:04d}"
        self.places[agent_id] = n
        return self.product.facts(agent_id, self.desks[n], self.attempt, self.now)

    def place(self, agent_id: str) -> int:
        """Return which desk an agent that was looked at has."""
        return self.places[agent_id]


def task_of(work_type: int) -> WorkTask:
    """Return a task of a work type, as the router sees it."""
    name = f"type-{work_type}"
    return WorkTask(
        task_id=NOBODY, order=1, name=name, intent=name, work_type=name, agent_type="infra", content_hash="hash"
    )


def known_agent(number: int, chance: random.Random) -> AgentFacts:
    """Return an agent with a past; one in five cannot have the task now."""
    runs = chance.randrange(1, 200)
    good, lately = round(runs * chance.uniform(0.4, 1.0)), 33 * (1 - 0.97**runs)
    return AgentFacts(
        f"{number:05d}", f"agent-{number}", "infra", "default", "online", True, "hash",
        specializations=("type-0",) if chance.random() < 0.3 else (),
        slots=4, in_flight=chance.choice((0, 1, 2, 3, 4)), success_count=good, failure_count=runs - good,
        lately_successes=lately * good / runs, lately_runs=lately,
        overall_successes=lately * good / runs, overall_runs=lately,
        usual_rate=0.7, recent_context_age=chance.uniform(0, 30_000),
    )  # fmt: skip


Maker = Callable[[Scenario, int], Random]
COMPARED: dict[str, Maker] = {
    "random": Random,
    "round_robin": RoundRobin,
    "least_loaded": LeastLoaded,
    "p2c_peak_ewma": PeakEwma,
    "additive": Additive,
    "weighted": Weighted,
    "ucb1": Ucb1,
    "discounted_thompson": DiscountedThompson,
    "oracle": Oracle,
}
