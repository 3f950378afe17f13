"""Where requests stand: all that are open, or one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from chargehand.app.snapshot import Attempt, Request, Review, Task
from chargehand.cli.show.ending import next_steps, task_lines
from chargehand.cli.terminal.lines import BLANK, Line, clock, columns, cut, lasting, short
from chargehand.domain.records import ReviewKind
from chargehand.domain.states import RequestStatus as R

MAX_WORDS = 80  # of a request in a list
WAITING: Mapping[R, tuple[tuple[str, str], ...]] = {
    R.ASKING: (('answer ID "..."', "say it again, more plainly"), ("cancel", "forget it")),
    R.AWAITING_APPROVAL: (("approve", "look at the plan and agree to it"), ("reject", "say no")),
    R.IN_REVIEW: (("why", "what happened"),),  # its reviews say what can be done
    R.PAUSED: (("cancel", "stop it"),),
    R.RUNNING: (("watch", "follow it, and work on it if nobody does"), ("cancel", "stop it")),
    R.CANCELLING: (("watch", "follow it"),),
    R.ACCEPTED: (("watch", "go on with it"), ("cancel", "forget it")),
    R.DECOMPOSING: (("watch", "go on with it"), ("cancel", "forget it")),
}
"""What can be done with a request that is open: (command, what it does)."""


def overview(open_requests: Sequence[Request], reviews: Sequence[Review], now: datetime) -> list[Line]:
    """Return the open requests, those that wait for a person marked by what they wait for."""
    if not open_requests:
        return [Line("Nothing waits and nothing runs. `chargehand requests` shows what has ended.", "dim")]
    lines = request_list(open_requests, now)
    waits = [r for r in open_requests if r.status in (R.ASKING, R.AWAITING_APPROVAL, R.IN_REVIEW)]
    if waits:
        lines += [BLANK, Line("These wait for a person:", "warn")]
        for request in waits:
            command = _step(WAITING[request.status][0][0], short(request.request_id))
            lines.append(Line(f"chargehand {command}   {request.status_reason}", "", 2))
    if reviews:
        lines.append(Line("`chargehand reviews` shows what went wrong with those in review.", "dim"))
    return lines


def request_list(requests: Sequence[Request], now: datetime) -> list[Line]:
    """Return requests as a table, as ordered."""
    rows = [
        (
            short(r.request_id),
            r.status + (" (dry run)" if r.dry_run else ""),
            f"{lasting((now - r.created_at).total_seconds())} ago",
            r.requester,
            cut(r.wording, MAX_WORDS),
        )
        for r in requests
    ]
    return columns(rows, ("REQUEST", "STATUS", "ASKED", "BY", "WORDS"))


def _reworded(request: Request) -> str:
    return f", in other words by {', '.join(request.reworded_by)}," if request.reworded_by else ""


def head(request: Request) -> list[Line]:
    """Return what was asked, by whom, and where it stands."""
    lines = [
        Line(f"Request {request.request_id}", "title"),
        Line(f"“{request.text}”", "", 2),
    ]
    if request.wording != request.text:
        lines.append(Line(f"said again as “{request.wording}”", "", 2))
    dry = ", dry run" if request.dry_run else ""
    lines.append(
        Line(f"asked by {request.requester}{_reworded(request)} at {clock(request.created_at)}{dry}", "dim", 2)
    )
    if request.not_before:
        lines.append(Line(f"starts at {clock(request.not_before)}, or later", "dim", 2))
    reason = f": {request.status_reason}" if request.status_reason else ""
    return [*lines, Line(f"{request.status}{reason}", "warn" if request.status in WAITING else "", 2)]


def standing(
    request: Request,
    tasks: Sequence[Task],
    attempts: Sequence[Attempt],
    reviews: Sequence[Review],
    questions: tuple[str, ...],
) -> list[Line]:
    """Return an open request in detail, with what can be done about it."""
    lines = head(request)
    if request.status is R.ASKING:
        lines += [Line(question, "warn", 2) for question in questions]
    for task in tasks:
        lines += task_lines(task, tasks, attempts, dry_run=request.dry_run)
    lines += [line for review in reviews for line in review_lines(review)]
    return lines + what_now(request)


def what_now(request: Request) -> list[Line]:
    """Return the commands that fit an open request's status."""
    lines = []
    for command, what in WAITING[request.status]:
        if " ID" in command:
            lines.append(Line(f"chargehand {_step(command, short(request.request_id))}   {what}", "dim", 2))
        else:
            lines += next_steps(request.request_id, ((command, what),))
    return lines


def review_lines(review: Review) -> Iterator[Line]:
    """Return one thing a person must look at, and the ways out of it."""
    request_id, context = short(review.request_id), review.context
    yield Line(f"Review {review.review_id} of request {request_id}: {review.reason}", "warn", 2)
    for tried in context.tried:
        yield Line(f"{tried.tier} ({tried.model}): {tried.error}", "dim", 5)
    if context.task:
        yield Line(f"step {context.task.order}, {context.task.name}", "", 5)
    if context.failure:
        yield Line(context.failure.message, "", 5)
    for command, what in WAYS_OUT[review.kind]:
        yield Line(f"chargehand {_step(command, request_id)}   {what}", "dim", 5)


WAYS_OUT: Mapping[ReviewKind, tuple[tuple[str, str], ...]] = {
    "no_plan": (
        ('answer ID "..."', "say it in other words"),
        ("review ID --edit", "write its steps yourself"),
        ("retry ID", "have it read again"),
        ("review ID --discard", "forget it"),
    ),
    "unknown_outcome": (
        ("retry ID --done", "you have looked, and it is done"),
        ("retry ID", "you have looked, and it must run again"),
        ("cancel ID", "leave it as it is"),
    ),
    "missing_output": (
        ("retry ID --done", "you have done this step yourself"),
        ("cancel ID", "leave it as it is; then ask for the rest, with the value in words"),
    ),
    "quarantine": (("retry ID", "try again"), ("cancel ID", "forget it")),
}
"""By kind of review, what a person can do."""


def _step(command: str, request_id: str) -> str:
    return command.replace("ID", request_id) if "ID" in command else f"{command} {request_id}"
