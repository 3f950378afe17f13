"""Which agent each task of a batch gets: every choice counts for the next one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from chargehand.domain.records import TaskRecord
from chargehand.domain.routing import AgentFacts, Policy, RoutingDecision
from chargehand.routing import router
from chargehand.routing.reservations import Promised, Reservations
from chargehand.routing.wait_policy import WaitPolicy

DRAWS = 2**31
"""A task's id was drawn when it was made, so who is looked at in a large pool is drawn with it, and can be checked."""

Decided = list[tuple[TaskRecord, RoutingDecision]]


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What is known when a batch is decided on.

    `pool` holds the agents by intent, `worked` the (request, agent) pairs that have worked together, `held` the request
    that holds each exclusive key, `promised` the memory of each agent's open attempts.
    """

    pool: Mapping[str, Sequence[AgentFacts]]
    worked: set[tuple[UUID, UUID]]
    held: Mapping[str, UUID]
    promised: Promised


def assign(tasks: Sequence[TaskRecord], facts: BatchFacts, policy: Policy, waits: WaitPolicy) -> Decided:
    """Decide for each task, in this order, what it gets. `waits` says for how long it may wait for somebody better."""
    reservations, held = Reservations(facts.promised, facts.worked), dict(facts.held)
    decided = []
    for task in tasks:
        busy = next((key for key in task.spec.exclusive_keys if key in held), None)
        if busy is None:
            agents = reservations.seen_for(task, facts.pool[task.intent])
            decision = _route(task, agents, policy, waits.left(task.intent, task.waited))
        else:
            decision = router.held_back(task.spec, f"{busy} is in use by request {held[busy]}")
        if decision.selected:
            reservations.take(decision.selected, task.spec.need)
            held.update(dict.fromkeys(task.spec.exclusive_keys, task.request_id))
        elif decision.waits_for:
            reservations.wait(decision.waits_for)
        decided.append((task, decision))
    return decided


def found_nobody(decision: RoutingDecision) -> bool:
    """Whether agents were looked at and none can have the task now."""
    return not (decision.selected or decision.waits_for or decision.policy == router.HELD_BACK)


def counting_all(decided: Decided, pool: Mapping[str, Sequence[AgentFacts]], enrolled: int) -> Decided:
    """Count, where nobody was found, also the agents that do not offer the work: they are not among the facts."""
    return [
        (task, router.with_others(decision, enrolled - len(pool[task.intent])) if found_nobody(decision) else decision)
        for task, decision in decided
    ]


def shows_how_busy(task: TaskRecord, decision: RoutingDecision) -> bool:
    """Whether the time that a task has waited says how long tasks of its intent must wait until somebody is free.

    Work that waits for a key, or for one agent alone, says nothing about that. Nor does what chose to wait: it was
    counted then, and has waited for its choice since.
    """
    somebody = decision.selected or decision.waits_for
    return bool(somebody) and not task.chose and not task.spec.exclusive_keys and task.spec.pinned_agent is None


def _route(task: TaskRecord, agents: Sequence[AgentFacts], policy: Policy, wait_limit: float) -> RoutingDecision:
    return router.route(
        task.spec,
        agents,
        policy=policy,
        retried=task.attempts_made > task.forgiven,
        draw=(task.task_id.int + task.attempts_made) % DRAWS,
        wait_limit=wait_limit,
    )
