"""What happens while it happens: a line per event, and the board that a terminal keeps up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from chargehand.app.history import HistoryEvent
from chargehand.app.snapshot import Task
from chargehand.cli.show.ending import part_words
from chargehand.cli.terminal.lines import Line, clock, cut, lasting
from chargehand.domain.states import TaskStatus as T


def _again(event: HistoryEvent) -> str:
    return f"again: {event.reason}" if event.came_from in (T.DISPATCHED, T.RUNNING) else ""


def _done(event: HistoryEvent) -> str:
    return f"{'done in part' if event.data.get('in_part') else 'done'}: {event.reason}"


FOLLOWED: Mapping[str, tuple[Callable[[HistoryEvent], str], str]] = {
    "task.running": (lambda event: f"started {event.reason}", ""),
    "task.progress": (lambda event: f"  {event.message}", "dim"),
    "task.ready": (_again, "warn"),
    "task.succeeded": (_done, "good"),
    "task.failed": (lambda event: f"failed: {event.reason}", "bad"),
    "task.paused": (lambda event: f"held back: {event.reason}", "warn"),
    "task.skipped": (lambda event: f"skipped: {event.reason}", "warn"),
    "task.cancelled": (lambda event: f"cancelled: {event.reason}", "warn"),
    "task.in_review": (lambda event: f"a person must look: {event.reason}", "warn"),
    "request.cancelling": (lambda event: event.reason, "warn"),
    "request.paused": (lambda event: f"paused: {event.reason}", "warn"),
}
"""The events worth a line while somebody watches; `logs` shows them all."""

MARKS: Mapping[T, tuple[str, str]] = {
    T.SUCCEEDED: ("✓", "good"),
    T.FAILED: ("✗", "bad"),
    T.SKIPPED: ("–", "warn"),
    T.CANCELLED: ("–", "warn"),
    T.IN_REVIEW: ("?", "warn"),
    T.PENDING: ("·", "dim"),
    T.PAUSED: ("–", "warn"),
    T.READY: ("·", ""),
    T.DISPATCHED: ("·", ""),
}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def event_line(event: HistoryEvent, step: int | None) -> Line | None:
    """Return the line for whoever follows, prefixed by the step's number; None when it is not worth one."""
    if event.kind not in FOLLOWED:
        return None
    words, style = FOLLOWED[event.kind]
    text = words(event)
    return Line(f"{step if step is not None else '*'} {text}", style) if text else None


def log_line(event: HistoryEvent, step: int | None) -> Line:
    """Return any event of a request's history."""
    who = f"{step}" if step is not None else " "
    style = event_line(event, step)
    return Line(f"{clock(event.at)}  {who}  {event.kind:<26} {event.detail}", style.style if style else "")


def board(tasks: Sequence[Task], latest: Mapping[UUID, str], elapsed: Mapping[UUID, float], tick: int) -> list[Line]:
    """Return one line per step, and what a running one said last."""
    lines = []
    for task in tasks:
        running = task.status is T.RUNNING
        mark, style = (SPINNER[tick % len(SPINNER)], "") if running else MARKS[task.status]
        if part := part_words(task):
            style = part[1]
        lines.append(Line(f"{mark} {task.task_order}. {task.spec.name}{_state(task, elapsed)}", style))
        if running and task.task_id in latest:
            lines.append(Line(latest[task.task_id], "dim", 5))
    return lines


def _state(task: Task, elapsed: Mapping[UUID, float]) -> str:
    seconds = elapsed.get(task.task_id)
    took = f"  {lasting(seconds)}" if seconds is not None else ""
    quiet = task.status in (T.RUNNING, T.PENDING)
    part = part_words(task)
    words = f"{part[0]}: " if part else ""
    return took + ("" if quiet or not task.status_reason else f"  {words}{cut(task.status_reason, 300)}")
