"""What must hold before a task may be handed out: it is what was approved, and what it takes from others is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from chargehand.catalog import outputs
from chargehand.domain.errors import MissingOutput
from chargehand.domain.records import PlanRecord, RequestRecord, Review, ReviewKind, TaskMove, TaskRecord
from chargehand.domain.states import PlanStatus, TaskStatus

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction

UNBOUND = "this is not the plan that was approved; nothing of it was run"


async def admit(
    tx: Transaction, requests: Mapping[UUID, RequestRecord], tasks: Sequence[TaskRecord]
) -> tuple[list[TaskRecord], list[TaskRecord]]:
    """Return the tasks that may be handed out, with all their parameters, and those that went to a person instead."""
    plans = await tx.plans(task.plan_id for task in tasks)
    unbound = [task for task in tasks if not is_bound(task, plans[task.plan_id])]
    for task in unbound:
        await _stop(tx, task, TaskStatus.IN_REVIEW, UNBOUND, "quarantine")
    ready, missing = await supply(tx, [task for task in tasks if task not in unbound])
    for task, error in missing:
        # In a dry run nothing was done that could return anything: that needs no decision.
        dry = requests[task.request_id].dry_run
        new = TaskStatus.FAILED if dry else TaskStatus.IN_REVIEW
        text = f"{error}; in a dry run it may not be there" if dry else f"{error}; nothing of this task was run"
        await _stop(tx, task, new, text, "missing_output")
    return ready, [*unbound, *(task for task, _ in missing)]


def is_bound(task: TaskRecord, plan: PlanRecord) -> bool:
    """Whether the task is exactly part of the plan whose digest was approved."""
    if plan.status is not PlanStatus.APPROVED or not plan.intact:
        return False
    return any(task.spec == approved for approved in plan.plan.tasks if approved.order == task.order)


async def supply(
    tx: Transaction, tasks: Sequence[TaskRecord]
) -> tuple[list[TaskRecord], list[tuple[TaskRecord, MissingOutput]]]:
    """Return the tasks with the values they take from earlier ones, and those whose values are not there.

    What a task returned never changes once it has succeeded, so that this gives the same for every repeat of an order.
    """
    wanted = {(t.request_id, t.plan_id, ref.task) for t in tasks for ref in t.spec.inputs.values()}
    returned = await tx.returned(wanted) if wanted else {}
    ready: list[TaskRecord] = []
    missing: list[tuple[TaskRecord, MissingOutput]] = []
    for task in tasks:
        try:
            values = outputs.resolve(task.spec, returned.get(task.plan_id, {})) if task.spec.inputs else {}
        except MissingOutput as error:
            missing.append((task, error))
        else:
            ready.append(replace(task, supplied=values) if values else task)
    return ready, missing


async def _stop(tx: Transaction, task: TaskRecord, new: TaskStatus, reason: str, kind: ReviewKind) -> None:
    await tx.move_tasks([TaskMove(task.task_id, task.request_id, task.status, new, reason)])
    if new is TaskStatus.IN_REVIEW:
        context = {"task": task.spec.model_dump(mode="json")} if kind == "missing_output" else {}
        await tx.add_review(Review(task.request_id, kind, reason, context, task.task_id))
