"""The typed values as JSON, for scripts. Names and meanings are stable; docs/cli.md lists them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from chargehand.app.fleet import CatalogEntry
from chargehand.app.history import HistoryEvent
from chargehand.app.reports import Appraisal, Replayed, Report
from chargehand.app.snapshot import (
    Plan,
    Request,
    Result,
    ReviewContext,
    Routed,
    Snapshot,
    TakenInput,
    Task,
    attempts_of,
    taken,
)
from chargehand.app.trail import DecisionTrail
from chargehand.domain.value import Value

if TYPE_CHECKING:
    from chargehand.app.audit import Audit
    from chargehand.app.backup_restore import Restored
    from chargehand.app.doctor import Check
    from chargehand.backup.manifest import Manifest

AS_RETURNED = (Result, ReviewContext)
"""Their fields depend on their kind: one that was not there is left out."""


def request_value(found: Snapshot) -> dict[str, Any]:
    """Return a request with its newest plan and what became of each step."""
    request = found.request
    names = ("text", "wording", "requester", "mode", "dry_run", "status", "created_at", "not_before", "ended_at")
    return {
        "request_id": str(request.request_id),
        **{name: getattr(request, name) for name in names},
        "key": request.idempotency_key,
        "trace_id": str(request.trace_id),
        "reason": request.status_reason,
        "in_part": [task.task_order for task in found.tasks if task.returned.in_part],
        "questions": list(found.questions),
        "plan": _plan(found.plan) if found.plan else None,
        "tasks": [_task(task, found) for task in found.tasks],
    }


def request_line(request: Request) -> dict[str, Any]:
    """Return a request as lists have it."""
    names = (
        "request_id",
        "status",
        "status_reason",
        "wording",
        "requester",
        "dry_run",
        "created_at",
        "not_before",
        "ended_at",
    )
    return {name: getattr(request, name) for name in names}


def decided_value(request: Request) -> dict[str, Any]:
    """Return where a request stands after a decision about it."""
    return {"request_id": str(request.request_id), "status": request.status, "reason": request.status_reason}


def output_value(found: Snapshot) -> dict[str, Any]:
    """Return what the tasks of each step said."""
    said = [(task, [part.model_dump() for part in task.said]) for task in found.tasks]
    steps = [{"order": task.task_order, "name": task.spec.name, "said": parts} for task, parts in said]
    return {"request_id": str(found.request.request_id), "output": steps}


def event_value(event: HistoryEvent) -> dict[str, Any]:
    """Return one event of a request's history."""
    return {name: getattr(event, name) for name in ("seq", "at", "kind", "task_id", "attempt_id", "data")}


def trail_value(trail: DecisionTrail) -> dict[str, Any]:
    """Return every decision about a request, with all that is kept of each."""
    other = ("events", "differences", "sealed")
    parts = {field.name: getattr(trail, field.name) for field in fields(trail) if field.name not in other}
    told = {name: row(part) if name == "request" else rows(part) for name, part in parts.items()}
    sealed = asdict(trail.sealed) if trail.sealed else None
    events = [event_value(event) for event in trail.events]
    return {**told, "events": events, "differences": list(trail.differences), "sealed": sealed}


def audit_value(audit: Audit) -> dict[str, Any]:
    """Return what an audit found."""
    wrong = {str(request_id): problem for request_id, problem in audit.wrong.items()}
    head = {"position": audit.head.position, "link": audit.head.link, "key_name": audit.head.key_name}
    return {
        "seals": audit.seals, "waiting": audit.waiting, "wrong": wrong, "chain": list(audit.chain), "head": head,
    }  # fmt: skip


def rows(values: Iterable[Value]) -> list[dict[str, Any]]:
    """Return values with all that is kept of each."""
    return [row(value) for value in values]


def row(value: Value) -> dict[str, Any]:
    """Return a value with all that is kept of it, under the names of its fields."""
    return {name: _plain(getattr(value, name)) for name in type(value).model_fields}


def entry_value(entry: CatalogEntry) -> dict[str, Any]:
    """Return one thing that can be asked for."""
    return entry.model_dump(mode="json")


def report_value(report: Report) -> dict[str, Any]:
    """Return how rightly one model reads. Tuples with names become objects: a place in a list says nothing."""
    return {name: _named(value) for name, value in asdict(report).items()}


def appraisal_value(found: Appraisal) -> dict[str, Any]:
    """Return how choices of agents turned out."""
    return asdict(found)


def replay_value(found: Replayed) -> dict[str, Any]:
    """Return how choices that were taken again compare with the stored ones."""
    return {**asdict(found.comparison), "policy": found.policy}


def checks_value(checks: Iterable[Check], *, sound: bool) -> dict[str, Any]:
    """Return what `doctor` found."""
    return {"sound": sound, "checks": [check._asdict() for check in checks]}


def backup_value(file: Path, manifest: Manifest) -> dict[str, Any]:
    """Return what a backup holds, and where it is."""
    return {"file": str(file), **manifest.model_dump(mode="json")}


def restored_value(done: Restored) -> dict[str, Any]:
    """Return what a restore did, and the manifest of what was brought back."""
    paused = [str(request_id) for request_id in done.paused]
    return {"kept": done.kept, "paused": paused, "wrong": dict(done.wrong), **done.manifest.model_dump(mode="json")}


def error_value(code: str, message: str, hint: str) -> dict[str, Any]:
    """Return an error as every command writes it."""
    return {"error": {"code": code, "message": message, "hint": hint}}


def _named(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    return [_named(each) for each in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=isinstance(value, AS_RETURNED))
    return list(value) if isinstance(value, tuple) else value


def _plan(stored: Plan) -> dict[str, Any]:
    plan = stored.plan.model_dump(mode="json")
    names = ("tasks", "notes", "out_of_scope", "mode", "dry_run", "estimated_duration_seconds", "complexity_level")
    head = {name: _plain(getattr(stored, name)) for name in ("version", "digest", "status", "ruling", "expires_at")}
    return {**head, **{name: plan[name] for name in names}}


def _task(task: Task, found: Snapshot) -> dict[str, Any]:
    own, result = attempts_of(task, found.attempts), task.returned
    return {
        "task_id": str(task.task_id),
        "order": task.task_order,
        "name": task.spec.name,
        "intent": task.intent,
        "status": task.status,
        "reason": task.status_reason,
        "agent": own[-1].agent if own else None,
        "attempts": len(own),
        "duration_ms": own[-1].duration_ms if own else None,
        "changed": result.changed,
        "in_part": result.in_part,
        "inputs": {name: _input(given) for name, given in taken(task, found.tasks).items()},
        "outputs": result.outputs,
        "unfit_outputs": result.unfit_outputs,
        "data": result.data,
        "routing": [_routed(routed) for routed in found.decisions if routed.task_id == task.task_id],
    }


def _routed(routed: Routed) -> dict[str, Any]:
    """Return one choice of an agent: who, why, what was predicted, and why each other one could not have the task."""
    names = ("reason", "retried", "predicted_success", "predicted_ms", "succeeded", "duration_ms")
    choice = routed.choice
    return {
        "at": _plain(routed.created_at),
        "agent": next((c.name for c in choice.candidates if c.agent_id == choice.selected), None),
        "attempt_id": _plain(routed.attempt_id),
        "policy": choice.policy,
        **{name: getattr(routed, name) for name in names},
        "prediction": choice.prediction,
        "candidates": [{"agent": c.name, "score": c.score, "rejected": c.reason or None} for c in choice.candidates],
    }


def _input(given: TakenInput) -> dict[str, Any]:
    value = {"value": given.value} if given.known else {}
    return {"task": given.ref.task, "output": given.ref.output, "intent": given.intent, **value}
