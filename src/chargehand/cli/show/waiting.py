"""What a step waits for, and until when: whoever watches must never wonder whether it will end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from chargehand.app.snapshot import Attempt, Request, Task, attempts_of
from chargehand.cli.terminal.lines import Line, clock, short
from chargehand.domain.states import RequestStatus as R
from chargehand.domain.states import TaskStatus as T

AS_LONG = "for as long as it takes, as was agreed to (`--otherwise wait`)"


BRIEF = 5.0  # seconds; what waits for less is seen to go on, and needs no line


class Around(NamedTuple):
    """What is known around a step: its request, the tries at it, the time, and for how many seconds a step without an
    agent looks for one."""

    request: Request
    attempts: Sequence[Attempt]
    now: datetime
    no_agent: float


def waiting_lines(tasks: Sequence[Task], around: Around) -> list[Line]:
    """Return a line for each step that waits for more than another step, or one for all where they are held back."""
    if around.request.status is R.PAUSED:
        words = f"it is held back until somebody goes on with it: chargehand resume {short(around.request.request_id)}"
        return [Line(words, "warn")]
    told = ((task, waiting_words(task, around)) for task in tasks)
    return [Line(f"{task.task_order} waits {words}{_reason(task)}", "warn") for task, words in told if words]


def waiting_words(task: Task, around: Around) -> str:
    """Return until when a step waits; empty where it waits for nothing by itself, or has ended."""
    return WAITS[task.status](task, around) if task.status in WAITS else ""


def _reason(task: Task) -> str:
    return f": {task.status_reason}" if task.status is T.READY and task.status_reason else ""


def _ready(task: Task, around: Around) -> str:
    if task.waits_for is not None and task.chose_until is not None:
        return f"until {clock(task.chose_until)}, then it takes whoever is free"
    if not task.wants_capacity:
        worth_it = task.due_at is not None and _lasts(around.now, task.due_at)
        return f"until {clock(task.due_at)}" if task.due_at and worth_it else ""
    if task.spec.may_wait:
        return AS_LONG
    return f"until {clock(_gives_up_at(task, around))}, then it fails"


def _gives_up_at(task: Task, around: Around) -> datetime:
    """As the database counts it: from when it was ready, may start, and no longer waited by choice."""
    times = (task.ready_since, task.chose_until, around.request.not_before)
    began = max(time for time in times if time is not None) if any(times) else task.updated_at
    return began + timedelta(seconds=around.no_agent)


def _dispatched(task: Task, around: Around) -> str:
    last = next(reversed(attempts_of(task, around.attempts)), None)
    if last is None or not _lasts(last.created_at, around.now):
        return ""
    return f"for {last.agent} to begin, until {clock(last.start_by)}"


def _lasts(begin: datetime, end: datetime) -> bool:
    return (end - begin).total_seconds() > BRIEF


WAITS: Mapping[T, Callable[[Task, Around], str]] = {T.READY: _ready, T.DISPATCHED: _dispatched}
"""The statuses in which a step waits for something but another step or a person."""
