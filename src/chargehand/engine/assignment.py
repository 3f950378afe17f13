"""Which agent each task of a batch gets: the facts are read at once for all, `routing.batch_assignment` decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chargehand.domain.records import TaskRecord
from chargehand.routing import batch_assignment, router
from chargehand.routing.batch_assignment import BatchFacts, Decided
from chargehand.routing.reservations import needs_memory
from chargehand.routing.wait_policy import WaitPolicy
from chargehand.settings import Settings

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction


class Assignment:
    """Routes the tasks of a transaction by the configured policy. Raises `BadConfiguration` for an unknown one."""

    def __init__(self, settings: Settings) -> None:
        self._policy = router.policy_named(
            settings.routing_policy, settings.routing_weights or {}, settings.routing_minimum_runs
        )
        self.waits = WaitPolicy(settings.routing_wait_limit)

    async def decide(self, tx: Transaction, tasks: Sequence[TaskRecord]) -> Decided:
        """Decide for each task, in this order, what it gets. Nothing is written."""
        if not tasks:
            return []
        facts = await self._facts(tx, tasks)
        decided = batch_assignment.assign(tasks, facts, self._policy, self.waits)
        if not any(batch_assignment.found_nobody(decision) for _, decision in decided):
            return decided
        return batch_assignment.counting_all(decided, facts.pool, await tx.count_agents())

    async def _facts(self, tx: Transaction, tasks: Sequence[TaskRecord]) -> BatchFacts:
        return BatchFacts(
            pool=await tx.pool((task.intent, task.work_type) for task in tasks),
            worked=await tx.recent_agents(task.request_id for task in tasks),
            held=await tx.held_keys(key for task in tasks for key in task.spec.exclusive_keys),
            promised=await tx.promised() if any(map(needs_memory, tasks)) else {},
        )

    def learn(self, decided: Decided) -> None:
        """Take note of how long these tasks, as they were decided on, had to wait before anybody was free."""
        for task, decision in decided:
            if batch_assignment.shows_how_busy(task, decision):
                self.waits.saw(task.intent, task.waited)
