"""How a request ended: what changed and where, what failed and why, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chargehand.app.json_view import taken
from chargehand.cli.show.inputs import taken_lines
from chargehand.cli.terminal.lines import Line, count, cut, lasting, said, short
from chargehand.store.queries import Row, Rows

WORDS = {
    "succeeded": ("done", "good"),
    "failed": ("failed", "bad"),
    "skipped": ("skipped", "warn"),
    "cancelled": ("cancelled", "warn"),
    "in_review": ("a person must look", "warn"),
    "pending": ("waits", "dim"),
    "paused": ("held back", "warn"),
    "ready": ("waits for an agent", "dim"),
    "dispatched": ("handed out", ""),
    "running": ("runs", ""),
}
HEADS = {
    "completed": ("Done", "good"),
    "failed": ("Failed", "bad"),
    "cancelled": ("Cancelled", "warn"),
    "rejected": ("Rejected", "warn"),
    "expired": ("Expired", "warn"),
    "refused": ("Refused", "bad"),
}
NEXT = {
    "failed": (("retry", "continue from the failed step"), ("why", "every decision with its reason")),
    "rejected": (("why", "every decision with its reason"),),
    "cancelled": (("why", "every decision with its reason"),),
    "expired": (("why", "every decision with its reason"),),
    "refused": (("why", "every decision with its reason"),),
    "completed": (("why", "every decision with its reason"),),
}
CHANGED: dict[tuple[bool, object], str] = {  # by whether it was a dry run, and what the agent says about it
    (False, True): ", changed",
    (False, False): ", nothing to change",
    (True, True): ", would change",
    (True, False): ", would change nothing",
}
MAX_DIFF = 200  # lines of one dry run's diff on a screen; `status --json` has all
MAX_OUTPUT = 500  # characters


def ending_lines(request: Row, tasks: Rows, attempts: Rows, seconds: float | None, hint: str = "") -> list[Line]:
    """Return the last word on a request that has ended. `hint` is what a refusal advises."""
    status = request["status"]
    head, style = HEADS[status]
    took = f" in {lasting(seconds)}" if seconds is not None and status in ("completed", "failed") else ""
    reason = f": {_changes(tasks, request['dry_run'])}" if status == "completed" else f": {request['status_reason']}"
    lines = [Line(f"{head}{took}{reason}", style)]
    lines += [Line(hint, "", 2)] if hint else []
    for task in tasks:
        lines += task_lines(task, tasks, attempts, dry_run=request["dry_run"])
    return lines + next_steps(request["request_id"], NEXT[status])


def task_lines(task: Row, tasks: Rows, attempts: Rows, *, dry_run: bool = False) -> Iterator[Line]:
    """Return one step: how it stands, where it ran, what it said and gave."""
    own = [a for a in attempts if a["task_id"] == task["task_id"]]
    word, style = WORDS[task["status"]]
    result: Mapping[str, Any] = task["result"] or {}
    changed = CHANGED.get((dry_run, result.get("changed")), "")
    yield Line(f"{task['task_order']}. {task['spec']['name']}: {word}{changed}{_where(own)}", style, 2)
    if task["status_reason"]:
        yield Line(task["status_reason"], "", 5)
    yield from taken_lines(taken(task, tasks), 5)
    if "unfit_outputs" in result:
        yield Line(f"its outputs differ from its declaration: {result['unfit_outputs']}", "warn", 5)
    for name, value in (result.get("outputs") or {}).items():
        if name != "summary":  # it is in the reason
            yield Line(f"{name}: {cut(said(value), MAX_OUTPUT)}", "", 5)
    yield from _diff((result.get("data") or {}).get("diff"))


def next_steps(request_id: object, steps: tuple[tuple[str, str], ...]) -> list[Line]:
    """Return the commands that make sense now: (command, what it does)."""
    return [Line(f"chargehand {command} {short(request_id)}   {what}", "dim", 2) for command, what in steps]


def _changes(tasks: Rows, dry_run: bool) -> str:
    said = [(task["result"] or {}).get("changed") for task in tasks]
    changed, steps = said.count(True), count(len(tasks), "step")
    if dry_run:
        return f"{steps} tried, {changed or 'none'} would change something; nothing was changed"
    if changed:
        return f"{steps}, {changed} changed something"
    return f"{steps}, nothing had to be changed" if said.count(False) == len(said) else steps


def _where(attempts: Rows) -> str:
    if not attempts:
        return ""
    last = attempts[-1]
    took = f"{lasting(last['duration_ms'] / 1000)} " if last["duration_ms"] is not None else ""
    times = f", attempt {len(attempts)}" if len(attempts) > 1 else ""
    return f" ({took}on {last['agent']}{times})"


def _diff(diff: object) -> Iterator[Line]:
    if not isinstance(diff, str) or not diff.strip():
        return
    lines = diff.splitlines()
    for line in lines[:MAX_DIFF]:
        style = {"+": "good", "-": "bad"}.get(line[:1], "dim")
        yield Line(line, style, 7)
    if len(lines) > MAX_DIFF:
        yield Line(f"... and {len(lines) - MAX_DIFF} more lines", "dim", 7)
