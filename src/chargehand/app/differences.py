"""Where the tables of a request say something else than its events. Pure.

Events are sealed and the other tables are not, so a difference is named before anything is told from a table. What no
event tells of (calls of models, agents that were looked at and not taken) cannot be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from chargehand.app.history import HistoryEvent
from chargehand.app.snapshot import Attempt, Decomposition, Plan, Request, Review, Task
from chargehand.app.trail import Approval
from chargehand.domain.states import AttemptStatus, PlanStatus, RequestStatus, TaskStatus
from chargehand.planning.digest import digest

RENAMED = {"mishap": "quarantine"}
"""Kinds of reviews as events have them for ever -> as the table has them since."""

MALFORMED = (KeyError, TypeError, ValueError, AttributeError)
"""What reading an event raises that Chargehand did not write."""

Rows = Iterable[Mapping[str, Any]]
Events = Sequence[HistoryEvent]


def approvals_told(events: Events, rows: Rows) -> tuple[Approval, ...]:
    """Return who agreed to, or rejected, which digest, as the events say; `rows` only lend their ids."""
    versions = {said.get("plan_id"): said.get("version") for said in _plans_told(events)}
    ids = {_approval(row): row["approval_id"] for row in rows}
    told: list[Approval] = []
    for event in events:
        try:
            told += _approval_told(event, versions, ids)
        except MALFORMED:
            continue  # `of_events` names it
    return tuple(told)


def _approval_told(event: HistoryEvent, versions: Mapping[Any, Any], ids: Mapping[Any, int]) -> Iterator[Approval]:
    if event.kind not in ("approval.approved", "approval.rejected"):
        return
    decision, data = event.kind.removeprefix("approval."), event.data
    plan_id = UUID(data["plan_id"])
    about = (plan_id, data["digest"], data["approver"], decision, data["words"])
    yield Approval(
        approval_id=ids.get(about),
        plan_id=plan_id,
        digest=data["digest"],
        approver=data["approver"],
        decision="approved" if decision == "approved" else "rejected",
        words=data["words"],
        created_at=event.at,
        version=versions[data["plan_id"]],
    )


def of_events(events: Events) -> Iterator[str]:
    """Yield the approvals among the events that are none."""
    versions = {said.get("plan_id"): said.get("version") for said in _plans_told(events)}
    for event in events:
        try:
            list(_approval_told(event, versions, {}))
        except MALFORMED:
            yield f"event {event.seq} ({event.kind}) is not one that Chargehand writes"


def compared(parts: Iterable[Iterator[str]]) -> Iterator[str]:
    """Yield what these find. One that stops at an event that Chargehand did not write stops no other."""
    for part in parts:
        try:
            yield from part
        except MALFORMED as error:
            yield f"an event is not one that Chargehand writes ({type(error).__name__}: {error})"


def of_request(request: Request, events: Events) -> Iterator[str]:
    """Yield where the row of a request differs."""
    first = events[0] if events else None
    if first is None or first.kind != "request.accepted":
        yield "no event says that this request was accepted"
        return
    wordings = [event.data["wording"] for event in events if event.kind == "request.reworded"]
    told = {"text": first.data["text"], "requester": first.data["requester"], "dry_run": first.data["dry_run"]}
    told |= {"wording": wordings[-1] if wordings else first.data["text"], "status": _status(events, RequestStatus)}
    for name, said in told.items():
        yield from _differs(f"the {name} of the request", getattr(request, name), said)


def of_plans(plans: Sequence[Plan], events: Events) -> Iterator[str]:
    """Yield where the plans differ."""
    told = {UUID(said["plan_id"]): said for said in _plans_told(events)}
    rulings = {UUID(e.data["plan"]["plan_id"]): e.data["ruling"] for e in events if e.kind == "plan.pending_approval"}
    yield from (f"no row is left of plan {said['version']}" for key, said in told.items() if key not in _ids(plans))
    for plan in plans:
        name = f"plan {plan.version}"
        if plan.plan_id not in told:
            yield f"{name} is in the table, and no event tells of it"
            continue
        yield from _differs(f"the digest of {name}", plan.digest, told[plan.plan_id]["digest"])
        yield from _differs(f"the digest of what is in {name}", digest(plan.plan), told[plan.plan_id]["digest"])
        yield from _differs(f"the ruling on {name}", plan.ruling.action, rulings[plan.plan_id]["action"])
        own = [event for event in events if event.data.get("plan_id") == str(plan.plan_id)]
        said = _status(own, PlanStatus, "plan") or PlanStatus.PENDING_APPROVAL
        yield from _differs(f"the status of {name}", plan.status, said)


def of_approvals(rows: Rows, events: Events, unsigned: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield where the table of approvals differs, and which of its rows are not signed with this home's key."""
    there = {_approval(row): row for row in rows}
    told = {(a.plan_id, a.digest, a.approver, a.decision, a.words) for a in approvals_told(events, ())}
    for key, row in there.items():
        if key not in told:
            yield f"“{row['decision']} by {row['approver']}” is in the table, and no event tells of it"
    said = {(key[0], key[2], key[3]) for key in there}
    for plan_id, _, approver, decision, _ in sorted(told, key=str):
        if (plan_id, approver, decision) not in said:
            yield f"no row is left of “{decision} by {approver}”"
    for row in unsigned:
        yield f"“{row['decision']} by {row['approver']}” is not signed with this home's key: it does not count"


def of_tasks(tasks: Sequence[Task], plans: Sequence[Plan], events: Events) -> Iterator[str]:
    """Yield where the tasks differ from their events and from the plan."""
    specs = {(plan.plan_id, step.order): step for plan in plans for step in plan.plan.tasks}
    for task in tasks:
        name = f"step {task.task_order}"
        own = [event for event in events if event.task_id == task.task_id]
        said = _status(own, TaskStatus, "task") or TaskStatus.PENDING
        yield from _differs(f"the status of {name}", task.status, said)
        if specs.get((task.plan_id, task.task_order)) != task.spec:
            yield f"{name} is not what its plan has there"
    gone = {e.task_id for e in events if e.task_id and e.kind.startswith("task.")} - {task.task_id for task in tasks}
    if gone:
        yield f"{len(gone)} steps that events tell of are not in the table"


def of_attempts(attempts: Sequence[Attempt], events: Events) -> Iterator[str]:
    """Yield where the attempts differ."""
    leased = {event.attempt_id: event for event in events if event.kind == "attempt.leased"}
    for attempt in attempts:
        name = f"attempt {attempt.attempt_id}"
        event = leased.pop(attempt.attempt_id, None)
        if event is None:
            yield f"{name} is in the table, and no event tells of it"
            continue
        yield from _differs(f"the agent of {name}", str(attempt.agent_id), event.data["agent_id"])
        own = [event for event in events if event.attempt_id == attempt.attempt_id]
        yield from _differs(f"the status of {name}", attempt.status, _status(own, AttemptStatus, "attempt"))
    yield from (f"no row is left of attempt {attempt_id}" for attempt_id in leased)


def of_reviews(reviews: Sequence[Review], events: Events) -> Iterator[str]:
    """Yield where the reviews differ."""
    opened = [event.data for event in events if event.kind == "review.opened"]
    told: Counter[tuple[Any, Any]] = Counter(
        (RENAMED.get(data["kind"], data["kind"]), data["reason"]) for data in opened
    )
    there: Counter[tuple[Any, Any]] = Counter((str(review.kind), review.reason) for review in reviews)
    yield from (f"the review “{reason}” is in the table, and no event tells of it" for _, reason in there - told)
    yield from (f"no row is left of the review “{reason}”" for _, reason in told - there)
    resolved = {(e.data["resolution"], e.data["by"]) for e in events if e.kind == "review.resolved"}
    for review in reviews:
        if review.resolution is not None and (review.resolution, review.resolved_by) not in resolved:
            yield f"no event tells that {review.resolved_by} resolved the review “{review.reason}”"


def of_decompositions(readings: Sequence[Decomposition], events: Events) -> Iterator[str]:
    """Yield where what was understood differs."""
    told = Counter(
        (e.data["model"], str([(s["intent"], s["parameters"]) for s in e.data["subtasks"]]))
        for e in events
        if e.kind == "request.decomposed"
    )
    there = Counter((r.model, str([(s.intent, s.parameters) for s in r.value.subtasks])) for r in readings)
    if told != there:
        yield "what was understood is not what the events say"


def _plans_told(events: Events) -> Iterator[Mapping[str, Any]]:
    said = (event.data.get("plan") for event in events if event.kind == "plan.pending_approval")
    return (plan for plan in said if isinstance(plan, dict))


def _approval(row: Mapping[str, Any]) -> tuple[UUID, str, str, str, str]:
    return row["plan_id"], row["digest"], row["approver"], row["decision"], row["words"]


def _ids(plans: Sequence[Plan]) -> set[UUID]:
    return {plan.plan_id for plan in plans}


def _status(events: Events, statuses: type[StrEnum], what: str = "request") -> str | None:
    """Return the status that the last event moved it to; None where none did."""
    names = {f"{what}.{status}": str(status) for status in statuses}
    return next((names[event.kind] for event in reversed(events) if event.kind in names), None)


def _differs(what: str, there: object, told: object) -> Iterator[str]:
    if there != told:
        yield f"{what} is “{there}” in the table, and “{told}” in the events"
