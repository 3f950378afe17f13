"""What becomes of a task that got no agent: it waits, lets another one go first, or has waited for too long. Pure.

    decide(unplaced, behind, able, timeout) -> Waiting

Whether something may go first is known only when it has been routed as well: `may_give_way` says of which tasks that is
worth asking, `task_flow.overtakers` who could go before each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from uuid import UUID

from chargehand.domain.records import RequestRecord, TaskMove, TaskRecord
from chargehand.domain.routing import RoutingDecision
from chargehand.domain.states import TaskStatus
from chargehand.execution.task_flow import GOES_BEFORE

CAPACITY_WAIT = 2.0
"""Seconds until a task that found no agent looks again by itself; a freed slot or key wakes it earlier."""

Unplaced = tuple[TaskRecord, RoutingDecision]
Wait = tuple[TaskRecord, float, str, UUID | None]
"""The task, for how many seconds, why, and the agent that it waits for by choice."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is to be written about tasks that got no agent. `news` are decisions that say something new.

    `settle`: requests of which a task has failed.
    """

    news: Sequence[Unplaced]
    moves: Sequence[TaskMove]
    waits: Sequence[Wait]
    settle: Set[UUID]


def decide(
    unplaced: Sequence[Unplaced], behind: Mapping[UUID, Sequence[TaskRecord]], able: Set[UUID], timeout: float
) -> Waiting:
    """Return what becomes of tasks without an agent.

    `behind` are those that may go before a task, by its id and in order, `able` those that somebody can take now.
    `timeout` is for how many seconds a task looks for an agent before it fails.
    """
    lost = [(task, decision) for task, decision in unplaced if is_lost(task, decision, timeout)]
    gone = {task.task_id for task, _ in lost}
    passed = [
        move
        for task, decision in unplaced
        if task.task_id not in gone
        for move in _let_pass(task, decision, behind.get(task.task_id, ()), able)
    ]
    gone |= {move.task_id for move in passed}
    return Waiting(
        news=[(task, decision) for task, decision in unplaced if decision.reason != task.status_reason],
        moves=[*(_move(task, TaskStatus.FAILED, _gave_up(task, decision)) for task, decision in lost), *passed],
        waits=[_wait(task, decision) for task, decision in unplaced if task.task_id not in gone],
        settle={task.request_id for task, _ in lost},
    )


def may_give_way(
    unplaced: Sequence[Unplaced], requests: Mapping[UUID, RequestRecord], timeout: float
) -> list[TaskRecord]:
    """Return the tasks before which something else may go: of requests done step by step, and waiting for anybody."""
    return [
        task
        for task, decision in unplaced
        if requests[task.request_id].mode == "sequential"
        and not decision.waits_for
        and not is_lost(task, decision, timeout)
    ]


def is_lost(task: TaskRecord, decision: RoutingDecision, timeout: float) -> bool:
    """Whether a task fails for want of an agent: at once where none could ever come, else after `timeout` seconds.

    Not while it waits by choice, and not where it was approved that it waits for as long as it takes.
    """
    too_long = task.stranded > timeout and not task.spec.may_wait and not decision.waits_for
    return decision.infeasible or too_long


def _let_pass(
    task: TaskRecord, decision: RoutingDecision, behind: Sequence[TaskRecord], able: Set[UUID]
) -> list[TaskMove]:
    """Let the first go that somebody can take now: two tasks that both wait would change places for ever."""
    first = next((other for other in behind if other.task_id in able), None)
    if first is None:
        return []
    return [
        _move(task, TaskStatus.PENDING, f"task {first.order} goes first: {decision.reason}"),
        _move(first, TaskStatus.READY, f"{GOES_BEFORE} task {task.order}, which waits: {decision.reason}"),
    ]


def _wait(task: TaskRecord, decision: RoutingDecision) -> Wait:
    """Let a task wait for the agent of its choice as long as it may, else look again soon."""
    if decision.waits_for is None:
        return task, CAPACITY_WAIT, decision.reason, None
    return task, decision.wait_limit, decision.reason, UUID(decision.waits_for)


def _gave_up(task: TaskRecord, decision: RoutingDecision) -> str:
    return decision.reason if decision.infeasible else f"no agent came in {task.stranded:.0f} s: {decision.reason}"


def _move(task: TaskRecord, new: TaskStatus, reason: str) -> TaskMove:
    return TaskMove(task.task_id, task.request_id, task.status, new, reason)
