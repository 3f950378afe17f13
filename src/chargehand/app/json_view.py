"""Requests as JSON values, for scripts. Names and meanings are stable; docs/cli.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chargehand.cli.show import Row, Rows
from chargehand.cli.show.inputs import taken


def request_value(
    request: Row, plan: Row | None, tasks: Rows, attempts: Rows, questions: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a request with its newest plan and what became of each step."""
    names = ("text", "wording", "requester", "mode", "dry_run", "status", "created_at", "ended_at")
    return {
        "request_id": str(request["request_id"]),
        **{name: request[name] for name in names},
        "key": request["idempotency_key"],
        "reason": request["status_reason"],
        "questions": list(questions),
        "plan": _plan(plan) if plan else None,
        "tasks": [_task(task, tasks, attempts) for task in tasks],
    }


def error_value(code: str, message: str, hint: str) -> dict[str, Any]:
    """Return an error as every command writes it."""
    return {"error": {"code": code, "message": message, "hint": hint}}


def _plan(plan: Row) -> dict[str, Any]:
    names = ("version", "digest", "status", "ruling", "expires_at")
    return {**{name: plan[name] for name in names}, **_kept(plan["plan"])}


def _kept(plan: Mapping[str, Any]) -> dict[str, Any]:
    names = ("tasks", "notes", "out_of_scope", "mode", "dry_run", "estimated_duration_seconds", "complexity_level")
    return {name: plan[name] for name in names}


def _task(task: Row, tasks: Rows, attempts: Rows) -> dict[str, Any]:
    own = [a for a in attempts if a["task_id"] == task["task_id"]]
    result: Mapping[str, Any] = task["result"] or {}
    return {
        "task_id": str(task["task_id"]),
        "order": task["task_order"],
        "name": task["spec"]["name"],
        "intent": task["intent"],
        "status": task["status"],
        "reason": task["status_reason"],
        "agent": own[-1]["agent"] if own else None,
        "attempts": len(own),
        "duration_ms": own[-1]["duration_ms"] if own else None,
        "changed": result.get("changed"),
        "inputs": taken(task, tasks),
        "outputs": result.get("outputs") or {},
        "unfit_outputs": result.get("unfit_outputs"),
        "data": result.get("data") or {},
    }
