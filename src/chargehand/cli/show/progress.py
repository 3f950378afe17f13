"""What happens while it happens: a line per event, and the board that a terminal keeps up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from chargehand.cli.terminal.lines import Line, clock, cut, lasting
from chargehand.store.queries import Row, Rows

Data = Mapping[str, Any]


def _again(data: Data) -> str:
    return f"again: {data['reason']}" if data.get("from") in ("dispatched", "running") else ""


FOLLOWED: dict[str, tuple[Callable[[Data], str], str]] = {
    "task.running": (lambda data: f"started {data['reason']}", ""),
    "task.progress": (lambda data: f"  {data['message']}", "dim"),
    "task.ready": (_again, "warn"),
    "task.succeeded": (lambda data: f"done: {data['reason']}", "good"),
    "task.failed": (lambda data: f"failed: {data['reason']}", "bad"),
    "task.paused": (lambda data: f"held back: {data['reason']}", "warn"),
    "task.skipped": (lambda data: f"skipped: {data['reason']}", "warn"),
    "task.cancelled": (lambda data: f"cancelled: {data['reason']}", "warn"),
    "task.in_review": (lambda data: f"a person must look: {data['reason']}", "warn"),
    "request.cancelling": (lambda data: data["reason"], "warn"),
    "request.paused": (lambda data: f"paused: {data['reason']}", "warn"),
}
"""The events worth a line while somebody watches; `logs` shows them all."""

MARKS = {
    "succeeded": ("✓", "good"),
    "failed": ("✗", "bad"),
    "skipped": ("–", "warn"),
    "cancelled": ("–", "warn"),
    "in_review": ("?", "warn"),
    "pending": ("·", "dim"),
    "paused": ("–", "warn"),
    "ready": ("·", ""),
    "dispatched": ("·", ""),
}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
DETAILS = ("reason", "message", "text", "wording", "resolution", "approver", "digest", "kind")
"""What an event is about, first that is there."""


def event_line(kind: str, data: Data, step: int | None) -> Line | None:
    """Return the line for whoever follows, prefixed by the step's number; None when it is not worth one."""
    if kind not in FOLLOWED:
        return None
    words, style = FOLLOWED[kind]
    text = words(data)
    return Line(f"{step if step is not None else '*'} {text}", style) if text else None


def log_line(event: Any, step: int | None) -> Line:
    """Return any event of a request's history."""
    detail = _detail(event.kind, event.data)
    who = f"{step}" if step is not None else " "
    style = event_line(event.kind, event.data, step)
    return Line(f"{clock(event.at)}  {who}  {event.kind:<26} {detail}", style.style if style else "")


def board(tasks: Rows, latest: Mapping[UUID, str], elapsed: Mapping[UUID, float], tick: int) -> list[Line]:
    """Return one line per step, and what a running one said last."""
    lines = []
    for task in tasks:
        running = task["status"] == "running"
        mark, style = (SPINNER[tick % len(SPINNER)], "") if running else MARKS[task["status"]]
        lines.append(Line(f"{mark} {task['task_order']}. {task['spec']['name']}{_state(task, elapsed)}", style))
        if running and task["task_id"] in latest:
            lines.append(Line(latest[task["task_id"]], "dim", 5))
    return lines


def _detail(kind: str, data: Data) -> str:
    if kind == "request.decomposed":
        return f"{data['model']}: {', '.join(s['intent'] for s in data['subtasks']) or 'nothing that can be done'}"
    if kind == "plan.pending_approval":
        return f"plan {data['plan']['version']}: {data['ruling']['reason']}"
    return next((str(data[name]) for name in DETAILS if data.get(name)), "")


def _state(task: Row, elapsed: Mapping[UUID, float]) -> str:
    seconds = elapsed.get(task["task_id"])
    took = f"  {lasting(seconds)}" if seconds is not None else ""
    quiet = task["status"] in ("running", "pending")
    return took + ("" if quiet or not task["status_reason"] else f"  {cut(task['status_reason'], 300)}")
