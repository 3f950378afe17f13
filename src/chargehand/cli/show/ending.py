"""How a request ended: what changed and where, what failed and why, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from chargehand.app.snapshot import Attempt, Request, Said, Task, attempts_of, taken
from chargehand.cli.show.inputs import taken_lines
from chargehand.cli.terminal.lines import Line, count, cut, lasting, said, short
from chargehand.domain.states import RequestStatus as R
from chargehand.domain.states import TaskStatus as T

WORDS: Mapping[T, tuple[str, str]] = {
    T.SUCCEEDED: ("done", "good"),
    T.FAILED: ("failed", "bad"),
    T.SKIPPED: ("skipped", "warn"),
    T.CANCELLED: ("cancelled", "warn"),
    T.IN_REVIEW: ("a person must look", "warn"),
    T.PENDING: ("waits", "dim"),
    T.PAUSED: ("held back", "warn"),
    T.READY: ("waits for an agent", "dim"),
    T.DISPATCHED: ("handed out", ""),
    T.RUNNING: ("runs", ""),
}
HEADS: Mapping[R, tuple[str, str]] = {
    R.COMPLETED: ("Done", "good"),
    R.FAILED: ("Failed", "bad"),
    R.CANCELLED: ("Cancelled", "warn"),
    R.REJECTED: ("Rejected", "warn"),
    R.EXPIRED: ("Expired", "warn"),
    R.REFUSED: ("Refused", "bad"),
}
WHY = ("why", "every decision with its reason")
NEXT: Mapping[R, tuple[tuple[str, str], ...]] = {
    R.FAILED: (("retry", "continue from the failed step"), WHY),
    R.REJECTED: (WHY,),
    R.CANCELLED: (WHY,),
    R.EXPIRED: (WHY,),
    R.REFUSED: (WHY,),
    R.COMPLETED: (WHY,),
}
CHANGED: dict[tuple[bool, object], str] = {  # by whether it was a dry run, and what the agent says about it
    (False, True): ", changed",
    (False, False): ", nothing to change",
    (True, True): ", would change",
    (True, False): ", would change nothing",
}
IN_PART: Mapping[T, tuple[str, str]] = {
    T.SUCCEEDED: ("done in part", "warn"),
    T.FAILED: ("failed, because it was done in part", "bad"),
}
"""The words for a step of which something was left undone, where it is not under way again."""
MOST_SAID = 30  # lines of what a step said; `logs ID --output` has all
MAX_DIFF = 200  # lines of one dry run's diff on a screen; `status --json` has all
MAX_OUTPUT = 500  # characters


def ending_lines(
    request: Request, tasks: Sequence[Task], attempts: Sequence[Attempt], seconds: float | None, hint: str = ""
) -> list[Line]:
    """Return the last word on a request that has ended. `hint` is what a refusal advises."""
    status = request.status
    head, style = HEADS[status]
    took = f" in {lasting(seconds)}" if seconds is not None and status in (R.COMPLETED, R.FAILED) else ""
    reason = _changes(tasks, request.dry_run) if status is R.COMPLETED else request.status_reason
    if status is R.COMPLETED and any(task.returned.in_part for task in tasks):
        head, style = "Done in part", "warn"
    lines = [Line(f"{head}{took}: {reason}", style)]
    lines += [Line(hint, "", 2)] if hint else []
    for task in tasks:
        lines += task_lines(task, tasks, attempts, dry_run=request.dry_run)
    return lines + next_steps(request.request_id, NEXT[status])


def task_lines(
    task: Task, tasks: Sequence[Task], attempts: Sequence[Attempt], *, dry_run: bool = False
) -> Iterator[Line]:
    """Return one step: how it stands, where it ran, what it said and gave."""
    result = task.returned
    word, style = part_words(task) or WORDS[task.status]
    changed = CHANGED.get((dry_run, result.changed), "")
    where = _where(attempts_of(task, attempts))
    yield Line(f"{task.task_order}. {task.spec.name}: {word}{changed}{where}", style, 2)
    if task.status_reason:
        yield Line(task.status_reason, "", 5)
    yield from taken_lines(taken(task, tasks), 5)
    if result.unfit_outputs is not None:
        yield Line(f"its outputs differ from its declaration: {result.unfit_outputs}", "warn", 5)
    for name, value in result.outputs.items():
        if name != "summary":  # it is in the reason
            yield Line(f"{name}: {cut(said(value), MAX_OUTPUT)}", "", 5)
    yield from said_lines(task)
    yield from _diff(result.data.get("diff"))


def part_words(task: Task) -> tuple[str, str] | None:
    """Return the words and the style for a step that was done in part; None for any other."""
    return IN_PART.get(task.status) if task.returned.in_part else None


def said_lines(task: Task, most: int | None = MOST_SAID) -> Iterator[Line]:
    """Return what a step said: what was there to be said, else what its programs printed. `most` None: all of it."""
    told = [part for part in task.said if part.told]
    parts = task.said if most is None else told or task.said
    lines = [line for part in parts for line in _said(part)]
    yield from (Line(line, "", 5) for line in lines[:most])
    if left := len(lines) - len(lines[:most]):
        yield Line(f"... and {count(left, 'more line')}: chargehand logs {short(task.request_id)} --output", "dim", 5)


def output_lines(tasks: Sequence[Task]) -> Iterator[Line]:
    """Return all that the steps of a request said, task by task."""
    for task in tasks:
        yield Line(f"{task.task_order}. {task.spec.name}", "title")
        lines = list(said_lines(task, None))
        yield from lines or [Line("it said nothing that is kept", "dim", 5)]
        if unsaid := task.returned.data.get("unsaid"):
            yield Line(f"{unsaid} of its tasks said more than is kept", "warn", 5)


def _said(part: Said) -> Iterator[str]:
    first, *more = part.text.splitlines() or [""]
    where = f"{part.host}: " if part.host else ""
    yield f"{where}{first}"
    yield from (f"  {line}" for line in more)


def next_steps(request_id: object, steps: tuple[tuple[str, str], ...]) -> list[Line]:
    """Return the commands that make sense now: (command, what it does)."""
    return [Line(f"chargehand {command} {short(request_id)}   {what}", "dim", 2) for command, what in steps]


def _changes(tasks: Sequence[Task], dry_run: bool) -> str:
    said = [task.returned.changed for task in tasks]
    changed, steps = said.count(True), count(len(tasks), "step")
    left = sum(bool(task.returned.in_part) for task in tasks)
    parts = f"; {left} done in part" if left else ""
    if dry_run:
        return f"{steps} tried, {changed or 'none'} would change something; nothing was changed{parts}"
    if changed:
        return f"{steps}, {changed} changed something{parts}"
    return f"{steps}{', nothing had to be changed' if said.count(False) == len(said) else ''}{parts}"


def _where(attempts: Sequence[Attempt]) -> str:
    if not attempts:
        return ""
    last = attempts[-1]
    took = f"{lasting(last.seconds)} " if last.seconds is not None else ""
    times = f", attempt {len(attempts)}" if len(attempts) > 1 else ""
    return f" ({took}on {last.agent}{times})"


def _diff(diff: object) -> Iterator[Line]:
    if not isinstance(diff, str) or not diff.strip():
        return
    lines = diff.splitlines()
    for line in lines[:MAX_DIFF]:
        style = {"+": "good", "-": "bad"}.get(line[:1], "dim")
        yield Line(line, style, 7)
    if len(lines) > MAX_DIFF:
        yield Line(f"... and {len(lines) - MAX_DIFF} more lines", "dim", 7)
