"""Which agent each task of a transaction gets: facts are read once for all, and every choice counts for the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chargehand.domain.records import TaskRecord
from chargehand.domain.routing import AgentFacts, RoutingDecision
from chargehand.routing import router
from chargehand.routing.reservations import Reservations, needs_memory
from chargehand.routing.wait_policy import WaitPolicy
from chargehand.settings import Settings

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction

DRAWS = 2**31
"""A task's id was drawn when it was made, so who is looked at in a large pool is drawn with it, and can be checked."""

Decided = list[tuple[TaskRecord, RoutingDecision]]


class Assignment:
    """Routes the tasks of a transaction by the configured policy. Raises `BadConfiguration` for an unknown one."""

    def __init__(self, settings: Settings) -> None:
        self._policy = router.policy_named(
            settings.routing_policy, settings.routing_weights or {}, settings.routing_minimum_runs
        )
        self.patience = WaitPolicy(settings.routing_patience)

    async def decide(self, tx: Transaction, tasks: Sequence[TaskRecord]) -> Decided:
        """Decide for each task, in this order, what it gets. Nothing is written."""
        pool = await tx.pool((task.intent, task.work_type) for task in tasks)
        worked = await tx.recent_agents(task.request_id for task in tasks)
        held = await tx.held_keys(key for task in tasks for key in task.spec.exclusive_keys)
        reservations = Reservations(await tx.promised() if any(map(needs_memory, tasks)) else {}, worked)
        decided = []
        for task in tasks:
            busy = next((key for key in task.spec.exclusive_keys if key in held), None)
            if busy is not None:
                decided.append((task, router.held_back(task.spec, f"{busy} is in use by request {held[busy]}")))
                continue
            decision = self._route(task, reservations.seen_for(task, pool[task.intent]))
            if decision.selected:
                reservations.take(decision.selected, task.spec.resource_requirements)
                held.update(dict.fromkeys(task.spec.exclusive_keys, task.request_id))
            elif decision.waits_for:
                reservations.wait(decision.waits_for)
            elif not decision.others:
                # Whoever does not offer it is not among the facts, and is counted only for whoever asks why.
                others = await tx.count_agents() - len(pool[task.intent])
                decision = (
                    self._route(task, reservations.seen_for(task, pool[task.intent]), others) if others else decision
                )
            decided.append((task, decision))
        return decided

    def _route(self, task: TaskRecord, agents: Sequence[AgentFacts], others: int = 0) -> RoutingDecision:
        return router.route(
            task.spec,
            agents,
            policy=self._policy,
            retried=task.attempts_made > task.forgiven,
            draw=(task.task_id.int + task.attempts_made) % DRAWS,
            others=others,
            patience=self.patience.left(task.intent, task.waited),
        )

    def learn(self, decided: Decided) -> None:
        """Take note of how long these tasks, as they were decided on, had to wait before anybody was free."""
        for task, decision in decided:
            somebody = decision.selected or decision.waits_for
            # Work that waits for a key, or for one agent alone, says nothing about how busy agents are. Nor does what
            # chose to wait: it was counted then, and has waited for its choice since.
            if somebody and not task.chose and not task.spec.exclusive_keys and task.spec.pinned_agent is None:
                self.patience.saw(task.intent, task.waited)
