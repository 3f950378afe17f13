"""Requests as JSON values, for scripts. Names and meanings are stable; docs/cli.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chargehand.store.queries import Row, Rows


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


def taken(task: Row, tasks: Rows) -> dict[str, dict[str, Any]]:
    """Return what a step takes, by parameter: from which task and output, and the value where there is one."""
    plan = {other["task_order"]: other for other in tasks if other["plan_id"] == task["plan_id"]}
    found = {}
    for name, ref in task["spec"].get("inputs", {}).items():
        giver = plan[ref["task"]]
        outputs = _outputs(giver)
        value = {"value": outputs[ref["output"]]} if ref["output"] in outputs else {}
        found[name] = {**ref, "intent": giver["intent"], **value}
    return found


def _outputs(task: Row) -> Mapping[str, Any]:
    result = task["result"] or {}
    return result.get("outputs") or {} if task["status"] == "succeeded" and result.get("ok") else {}
