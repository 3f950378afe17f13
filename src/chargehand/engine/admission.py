"""What must hold before a task may be handed out: it is what was approved, and what it takes from others is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from chargehand.catalog import outputs
from chargehand.domain.errors import MissingOutput
from chargehand.domain.records import Anomaly, PlanRecord, RequestRecord, Review, ReviewKind, TaskMove, TaskRecord
from chargehand.domain.states import PlanStatus, TaskStatus
from chargehand.planning import approval

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction


async def admit(
    tx: Transaction, requests: Mapping[UUID, RequestRecord], tasks: Sequence[TaskRecord]
) -> tuple[list[TaskRecord], list[TaskRecord]]:
    """Return the tasks that may be handed out, with all their parameters, and those that went to a person instead."""
    withheld = await unapproved(tx, requests, tasks)
    for task in tasks:
        if reason := withheld.get(task.task_id):
            await _stop(tx, task, TaskStatus.IN_REVIEW, reason, "quarantine")
    ready, missing = await supply(tx, [task for task in tasks if task.task_id not in withheld])
    for task, error in missing:
        # In a dry run nothing was done that could return anything: that needs no decision.
        dry = requests[task.request_id].dry_run
        new = TaskStatus.FAILED if dry else TaskStatus.IN_REVIEW
        text = f"{error}; in a dry run it may not be there" if dry else f"{error}; nothing of this task was run"
        await _stop(tx, task, new, text, "missing_output")
    return ready, [task for task in tasks if task.task_id in withheld] + [task for task, _ in missing]


async def unapproved(
    tx: Transaction, requests: Mapping[UUID, RequestRecord], tasks: Sequence[TaskRecord]
) -> dict[UUID, str]:
    """Return the tasks that nobody has approved, by id, each with the reason; that they were there is kept."""
    plans = await tx.plans(task.plan_id for task in tasks)
    found = {}
    for task in tasks:
        if reason := why_withheld(task, requests[task.request_id], plans[task.plan_id]):
            found[task.task_id] = reason
    anomalies = {plans[task.plan_id].plan_id: (task, found[task.task_id]) for task in tasks if task.task_id in found}
    await tx.keep_anomalies([_anomaly(plans[plan_id], *about) for plan_id, about in anomalies.items()])
    return found


def why_withheld(task: TaskRecord, request: RequestRecord, plan: PlanRecord) -> str | None:
    """Return why a task may not be handed out: it is not exactly part of a plan with every approval that it needs."""
    if plan.status is not PlanStatus.APPROVED:
        return approval.UNBOUND
    if missing := approval.missing_consent(request, plan):
        return missing
    bound = any(task.spec == approved for approved in plan.plan.tasks if approved.order == task.order)
    return None if bound else approval.UNBOUND


def _anomaly(plan: PlanRecord, task: TaskRecord, reason: str) -> Anomaly:
    detail = {"plan_id": str(plan.plan_id), "task_id": str(task.task_id), "unsigned": list(plan.unsigned)}
    kind = "forged_approval" if plan.unsigned else "unapproved_work"
    return Anomaly(kind, {**detail, "reason": reason}, request_id=task.request_id)


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
