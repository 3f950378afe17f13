"""Which agent gets a task, and why: `filters.py` says who can, the scorers here who should.

    route(task, facts of every known agent) -> RoutingDecision

The decision keeps every agent it looked at with its facts, and its score term by term or the reason it was rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import copysign, gcd
from typing import NamedTuple

from chargehand.domain.errors import BadConfiguration
from chargehand.domain.plans import WorkTask
from chargehand.domain.risks import RISKS
from chargehand.domain.routing import AgentFacts, Candidate, Figures, Policy, RoutingDecision
from chargehand.routing.filters import WAITABLE, counted, is_sized, never, one_line, passes, rejections
from chargehand.routing.performance import OPTIMISM, UNKNOWN_RATE, expected_success, figures_of, is_tricky

SCORER = 4  # raised by whoever changes what the same facts come to, in here, in filters.py or in performance.py

RECENT_SECONDS = 4 * 3600  # a work type done within four hours is still "in the hand"
SPECIALIST_PRIOR = 2.0  # a declared specialization counts like two successes, until real ones say otherwise
TRICKY_PRIOR = 2.0  # times that, where the work has shown to be tricky: it is what specialists are for


@dataclass(frozen=True, slots=True)
class Scorer:
    """One consideration, as a number that grows with what its name says; with `from_runs`, it is told on how many."""

    value: Callable[[WorkTask, AgentFacts, Policy], float]
    from_runs: bool = False


def _chance(task: WorkTask, agent: AgentFacts, policy: Policy) -> float:
    mean, deviation = _expected(task, agent, policy)
    # Nobody tries out a new agent on work that cannot be undone.
    hoped = mean if RISKS[task.risk].final else mean + OPTIMISM * deviation
    return hoped if hoped < 1.0 else 1.0


def _observed(task: WorkTask, agent: AgentFacts, policy: Policy) -> float:
    runs = agent.success_count + agent.failure_count
    return agent.success_count / runs if runs and runs >= policy.minimum_runs else UNKNOWN_RATE


def _expected(task: WorkTask, agent: AgentFacts, policy: Policy) -> tuple[float, float]:
    return expected_success(
        agent.lately_successes,
        agent.lately_runs,
        (agent.overall_successes, agent.overall_runs),
        agent.usual_rate,
        _declared(agent, policy) if agent.specializations and specialized(task, agent) else 0.0,
    )


def _declared(agent: AgentFacts, policy: Policy) -> float:
    """How many successes the agent's own word counts for."""
    tricky = is_tricky(agent.usual_difficulty, agent.judged_runs, policy.minimum_runs)
    return SPECIALIST_PRIOR * (TRICKY_PRIOR if tricky else 1.0)


SCORERS: Mapping[str, Scorer] = {
    "context": Scorer(lambda t, a, p: recent_context(a)),
    "success": Scorer(_observed, from_runs=True),
    "specialization": Scorer(lambda t, a, p: specialized(t, a)),
    "load": Scorer(lambda t, a, p: float(max(0, 10 - a.in_flight))),
    "chance": Scorer(_chance, from_runs=True),
    "queue": Scorer(lambda t, a, p: a.in_flight / (a.slots - a.in_flight if a.slots > a.in_flight else 1)),
}

FROM_RUNS = frozenset(name for name, scorer in SCORERS.items() if scorer.from_runs)

ADDITIVE = Policy("additive", (("context", 30.0), ("success", 40.0), ("specialization", 20.0), ("load", 1.0)), digits=1)
WEIGHTED = Policy("weighted", (("success", 0.6), ("context", 0.4)))
LEARNED = Policy("learned", (("chance", 1.0), ("queue", -0.05), ("context", 0.02)), line=0.15)
POLICIES = {policy.name: policy for policy in (LEARNED, ADDITIVE, WEIGHTED)}
DEFAULT = LEARNED


def policy_named(name: str, weights: Mapping[str, float], minimum_runs: int) -> Policy:
    """Return a policy as it is set: its weights apart from those given. Raises `BadConfiguration`."""
    policy = POLICIES.get(name)
    if policy is None:
        raise BadConfiguration(
            f"there is no routing policy {one_line(name)!r}",
            hint=f"Set CHARGEHAND_ROUTING_POLICY to one of {', '.join(POLICIES)}.",
        )
    unknown = sorted(weights.keys() - dict(policy.weights).keys())
    if unknown:
        raise BadConfiguration(
            f"the routing policy {name} does not weigh {', '.join(map(one_line, unknown))}",
            hint=f"CHARGEHAND_ROUTING_WEIGHTS may name {', '.join(dict(policy.weights))}.",
        )
    weighed = tuple((scorer, weights.get(scorer, usual)) for scorer, usual in policy.weights)
    return policy._replace(weights=weighed, minimum_runs=minimum_runs)


def route(
    task: WorkTask,
    agents: Sequence[AgentFacts],
    *,
    policy: Policy = DEFAULT,
    retried: bool = False,
    draw: int = 0,
    others: int = 0,
    wait_limit: float = 0.0,
) -> RoutingDecision:
    """Choose an agent for a task. Equal scores go to the more experienced, then to the one with fewer tasks, then to
    the less loaded machine, then by id.

    An agent that was tried for this task is chosen again only when nobody else can have it now. Nobody able to have
    it now is a decision too: `selected` is None, and `infeasible` when waiting would not help either. In a pool larger
    than `policy.look_at_all`, `draw` decides who is looked at. `others` is how many agents there are beside these,
    which do not offer it: they are counted when it is said that nobody can. For `wait_limit` seconds the task may wait
    for a full agent that is better than any free one: then nobody is selected, and `waits_for` says for whom.
    """
    sampled = len(agents) > policy.look_at_all
    seen = sample(task, agents, draw, policy.able) if sampled else agents
    return score(task, seen, policy, Around(retried, len(agents), draw if sampled else None, others, wait_limit))


def sample(task: WorkTask, agents: Sequence[AgentFacts], draw: int, able: int) -> list[AgentFacts]:
    """Walk through a pool from a drawn place with a drawn stride until that many can have the task.

    The stride shares no factor with the size of the pool, so the walk comes by everybody before it ends.
    """
    size, seen, found = len(agents), list[AgentFacts](), 0
    sized = is_sized(task.need)
    start, stride = draw % size, 1 + (draw // size) % (size - 1)
    while gcd(stride, size) != 1:
        stride += 1
    for step in range(size):
        agent = agents[(start + step * stride) % size]
        seen.append(agent)
        found += passes(task, agent, sized) and not agent.tried
        if found >= able:
            break
    return seen


class Around(NamedTuple):
    """What a decision keeps about how it came to be taken: again after a failure, from how many, by which draw."""

    retried: bool = False
    pool_size: int | None = None  # None: all were looked at
    draw: int | None = None
    others: int = 0  # agents that do not offer it and were not looked at
    wait_limit: float = 0.0  # seconds that the task may still wait for somebody better than who is free


ALL_AT_ONCE = Around()


def score(
    task: WorkTask, agents: Sequence[AgentFacts], policy: Policy, around: Around = ALL_AT_ONCE
) -> RoutingDecision:
    """Decide among exactly these agents. The same facts and policy always give the same decision."""
    parts = _parts(policy)
    candidates = tuple(
        [why or _score(task, agent, policy, parts) for agent, why in zip(agents, rejections(task, agents), strict=True)]
    )
    scored = [candidate for candidate in candidates if candidate.rejected_by is None]
    if not scored:
        return _nobody(task, candidates, policy, around)
    if around.wait_limit > 0 and policy.line is not None:
        waiting = _worth_waiting_for(task, scored, candidates, policy)
        if waiting is not None:
            return _waits(task, waiting, candidates, policy, around)
        scored = [candidate for candidate in scored if not _is_kept(candidate)] or scored
    first, second_reader = _best_two(scored)
    best = first.facts
    assert best is not None
    runs = best.success_count + best.failure_count
    figures = figures_of(best, policy.minimum_runs)
    return RoutingDecision(
        task_id=task.task_id,
        intent=task.intent,
        work_type=task.work_type,
        policy=policy.name,
        selected=best.agent_id,
        candidates=candidates,
        reason=_explained(first, runs, second_reader, policy) + _said_of_tricky(task, scored, policy),
        retried=around.retried,
        success_rate_percent=round(100 * best.success_count / runs) if runs else 0,
        specialization_match=specialized(task, best),
        recent_context_match=recent_context(best),
        agent_pool=best.pool_name,
        pool_size=len(agents) if around.pool_size is None else around.pool_size,
        draw=around.draw,
        wait_limit=around.wait_limit,
        rules=policy,
        predicted_success=round(_expected(task, best, policy)[0], 6),
        predicted_ms=None if figures.p50_ms is None else round(figures.p50_ms),
        figures=figures,
        prediction=_predicted_by(task, best, figures, policy),
    )


def _nobody(task: WorkTask, candidates: tuple[Candidate, ...], policy: Policy, around: Around) -> RoutingDecision:
    return RoutingDecision(
        task_id=task.task_id,
        intent=task.intent,
        work_type=task.work_type,
        policy=policy.name,
        selected=None,
        candidates=candidates,
        reason=counted(candidates, task.intent, others=around.others),
        infeasible=bool(candidates) and all(map(never, candidates)),
        retried=around.retried,
        pool_size=len(candidates) if around.pool_size is None else around.pool_size,
        draw=around.draw,
        others=around.others,
        wait_limit=around.wait_limit,
        rules=policy,
    )


def _worth_waiting_for(
    task: WorkTask, able: Sequence[Candidate], seen: Iterable[Candidate], policy: Policy
) -> tuple[Candidate, Candidate] | None:
    """Return the agent to wait for, scored with its line instead of its queue, and the free one that is given up.

    None when a free one is at least as good, or when all that are free are kept for those who wait for them.
    """
    free = [candidate for candidate in able if not _is_kept(candidate)]
    full = [c.facts for c in seen if c.rejected_by == WAITABLE and c.facts is not None and not c.facts.tried]
    kept = [candidate.facts for candidate in able if candidate.facts is not None and _is_kept(candidate)]
    if not free or not (full or kept):
        return None
    parts = _parts_in_line(policy)
    there, later = _best(free), _best([_score(task, agent, policy, parts) for agent in [*full, *kept]])
    return (later, there) if (later.score or 0.0) > (there.score or 0.0) else None


def _is_kept(candidate: Candidate) -> bool:
    """Whether every free slot of the agent is for a task that waits for it."""
    agent = candidate.facts
    return agent is not None and 0 < agent.in_line >= agent.slots - agent.in_flight


def _rounds(task: WorkTask, agent: AgentFacts, policy: Policy) -> float:
    """How many runs of the agent must end until it is the task's turn, as parts of all that it runs side by side."""
    return max(0, agent.in_flight + agent.in_line + 1 - agent.slots) / agent.slots


def _waits(
    task: WorkTask,
    waiting: tuple[Candidate, Candidate],
    candidates: tuple[Candidate, ...],
    policy: Policy,
    around: Around,
) -> RoutingDecision:
    later, there = waiting
    agent = later.facts
    assert agent is not None
    told = _told(later, agent.success_count + agent.failure_count, policy)
    return RoutingDecision(
        task_id=task.task_id,
        intent=task.intent,
        work_type=task.work_type,
        policy=policy.name,
        selected=None,
        candidates=candidates,
        reason=f"waits for {told}; free now {there.name} {there.score:.{policy.digits}f}",
        retried=around.retried,
        agent_pool=agent.pool_name,
        pool_size=len(candidates) if around.pool_size is None else around.pool_size,
        draw=around.draw,
        wait_limit=around.wait_limit,
        waits_for=later.agent_id,
        rules=policy,
    )


def with_others(decision: RoutingDecision, others: int) -> RoutingDecision:
    """Return a decision that found nobody as `route` takes it when there are so many other agents."""
    reason = counted(decision.candidates, decision.intent, others=others)
    return decision._replace(others=others, reason=reason)


HELD_BACK = "held back"
"""What stands for the policy where none was asked."""


def held_back(task: WorkTask, reason: str) -> RoutingDecision:
    """Decide to look at nobody yet: something else than an agent is missing, as the reason says."""
    return RoutingDecision(
        task_id=task.task_id,
        intent=task.intent,
        work_type=task.work_type,
        policy=HELD_BACK,
        selected=None,
        candidates=(),
        reason=reason,
    )


Part = tuple[str, float, Callable[[WorkTask, AgentFacts, Policy], float]]


@lru_cache(maxsize=8)  # of the few policies that are in use, so that the table is looked into once
def _parts(policy: Policy) -> tuple[Part, ...]:
    return tuple((name, weight, SCORERS[name].value) for name, weight in policy.weights)


@lru_cache(maxsize=8)
def _parts_in_line(policy: Policy) -> tuple[Part, ...]:
    """Return the parts for an agent that is waited for: its line takes the place of its queue."""
    others = tuple(part for part in _parts(policy) if part[0] != "queue")
    return (*others, ("line", -(policy.line or 0.0), _rounds))


def _score(task: WorkTask, agent: AgentFacts, policy: Policy, parts: Sequence[Part]) -> Candidate:
    terms, total = {}, 0.0
    for name, weight, value in parts:
        terms[name] = term = weight * value(task, agent, policy)
        total += term
    # Rounded, so that terms that sum to the same are a tie and not a matter of floating point.
    return Candidate(agent.agent_id, agent.name, None, "", terms, round(total, 6), agent)


def _best(scored: Sequence[Candidate]) -> Candidate:
    """Return the first by `_rank`, which is only asked where scores are equal."""
    scores = [candidate.score or 0.0 for candidate in scored]
    highest = max(scores)
    if scores.count(highest) == 1:
        return scored[scores.index(highest)]
    equal = [candidate for candidate, score in zip(scored, scores, strict=True) if score == highest]
    return min(equal, key=_rank)


def _best_two(scored: Sequence[Candidate]) -> tuple[Candidate, Candidate | None]:
    """Return the first and the second by `_rank`."""
    first = _best(scored)
    others = [candidate for candidate in scored if candidate is not first]
    return first, _best(others) if others else None


def _rank(candidate: Candidate) -> tuple[float, int, int, float, str]:
    agent = candidate.facts
    if agent is None:
        return (0.0, 0, 0, 0.0, candidate.agent_id)
    runs = agent.success_count + agent.failure_count
    return (-(candidate.score or 0.0), -runs, agent.in_flight, agent.load, agent.agent_id)


def _explained(best: Candidate, runs: int, runner_up: Candidate | None, policy: Policy) -> str:
    """`infra-3: context 30 + success 36.4 (46 runs) + specialization 0 + load 9 = 75.4; runner-up infra-1 68.0`."""
    rival = f"runner-up {runner_up.name} {runner_up.score:.{policy.digits}f}" if runner_up else "no other candidate"
    return f"{_told(best, runs, policy)}; {rival}"


def _said_of_tricky(task: WorkTask, scored: Sequence[Candidate], policy: Policy) -> str:
    """Say that a specialization counted for more, where any agent has one that matters."""
    one = scored[0].facts
    if one is None or not is_tricky(one.usual_difficulty, one.judged_runs, policy.minimum_runs):
        return ""
    declared = any(specialized(task, candidate.facts) for candidate in scored if candidate.facts is not None)
    if not declared or "chance" not in dict(policy.weights):
        return ""
    return f"; tricky work ({counted_runs(one.judged_runs)}), so a declared specialization counts double"


def _predicted_by(task: WorkTask, agent: AgentFacts, seen: Figures, policy: Policy) -> str:
    """Name the runs that a duration is predicted from: those of the intent, or why it is those of its work type."""
    own = agent.of_intent.runs if agent.of_intent else 0
    spread = f", give or take {seen.deviation_ms / 1000:.1f} s" if seen.deviation_ms else ""
    if own and own >= policy.minimum_runs:
        return f"{counted_runs(own)} of {task.intent}{spread}"
    few = f"{counted_runs(own)} of {task.intent}, fewer than {policy.minimum_runs}"
    return f"{counted_runs(seen.runs)} of {task.work_type}{spread} ({few})" if seen.runs else ""


def counted_runs(runs: int) -> str:
    """Return `1 run`, `12 runs`."""
    return f"{runs} run{'' if runs == 1 else 's'}"


def _told(candidate: Candidate, runs: int, policy: Policy) -> str:
    shown = f".{policy.digits}f"
    terms = "".join([_term(name, value, runs, shown) for name, value in candidate.terms.items()])
    return f"{candidate.name}: {terms.removeprefix(' + ')} = {format(candidate.score, shown)}"


def _term(name: str, value: float, runs: int, shown: str) -> str:
    size = format(abs(value), ".0f" if value == int(value) else shown)
    evidence = f" ({counted_runs(runs)})" if name in FROM_RUNS else ""
    sign = "-" if copysign(1, value) < 0 else "+"  # a negative weight on nothing is -0.0
    return f" {sign} {name} {size}{evidence}"


def specialized(task: WorkTask, agent: AgentFacts) -> bool:
    """Whether the agent says that this work type, or this very intent, is what it is for."""
    declared = agent.specializations
    return bool(declared) and (task.work_type in declared or task.intent in declared)


def recent_context(agent: AgentFacts) -> bool:
    """Whether it has just worked for this request, or did this work type within `RECENT_SECONDS`."""
    age = agent.recent_context_age
    return agent.recent_request or (age is not None and age <= RECENT_SECONDS)
