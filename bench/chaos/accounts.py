"""Compares what happened (the agents' file), what was promised (the callers' list) and what the database says. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

from chargehand.domain.states import REQUEST_ENDED, RequestStatus, TaskStatus


class Line(NamedTuple):
    """One line of the agents' file. `what` is start, effect or end; `at` is CLOCK_MONOTONIC in nanoseconds."""

    what: str
    at: int
    task_id: UUID
    attempt_id: UUID
    token: int
    agent: str
    intent: str


class Lease(NamedTuple):
    """What a start may happen under: a task's attempt with its token."""

    task_id: UUID
    attempt_id: UUID
    token: int


@dataclass(frozen=True)
class Books:
    """What the database says after everything has come to rest. Statuses are its words."""

    requests: Mapping[UUID, tuple[str | None, str]]  # its idempotency key, its status
    tasks: Mapping[UUID, tuple[UUID, str, bool]]  # its request, its status, whether it is safe to repeat
    attempts: Mapping[UUID, tuple[UUID, int, str]]  # its task, its token, its status
    planned: frozenset[UUID] = frozenset()  # requests with a plan
    recorded: frozenset[UUID] = frozenset()  # requests with a history
    leftovers: Mapping[str, int] = field(default_factory=dict)  # what should be free and is not, by kind
    bad_seals: int = 0


PROMISES = (
    *("lost", "stuck", "doubled_same_lease", "doubled_not_retry_safe", "second_starts_same_lease"),
    *("second_starts_not_retry_safe", "effects_without_lease", "effects_denied", "keys_doubled", "exclusive_overlaps"),
    *("bad_seals", "leftovers"),
)
"""Counts of which every one is a broken promise."""


def parse(text: str) -> list[Line]:
    """Read the agents' file."""
    return [
        Line(what, int(at), UUID(task), UUID(attempt), int(token), agent, intent)
        for what, at, task, attempt, token, agent, intent in (row.split() for row in text.splitlines())
    ]


def audit(
    lines: Sequence[Line], accepted: Mapping[str, UUID], books: Books, exclusive: Iterable[str] = ()
) -> dict[str, Any]:
    """Return every count. `exclusive` are intents of which only one attempt may run at a time."""
    statuses = Counter(status for _, status in books.requests.values())
    starts, effects = _by_lease(lines, "start"), _by_lease(lines, "effect")
    counts: dict[str, Any] = {
        "accepted": len(accepted),
        "completed": statuses[RequestStatus.COMPLETED],
        "in_review": statuses[RequestStatus.IN_REVIEW],
        "lost": len(lost(effects, accepted, books)),
        "stuck": len(stuck(books)),
        "doubled_same_lease": sum(number > 1 for number in effects.values()),
        "doubled_not_retry_safe": sum(n > 1 for task, n in _by_task(effects).items() if _unsafe(books, task)),
        "retried_effects": sum(n - 1 for task, n in _by_task(effects).items() if not _unsafe(books, task)),
        "second_starts_new_lease": sum(n - 1 for n in Counter(lease.task_id for lease in starts).values()),
        "second_starts_same_lease": sum(number - 1 for number in starts.values()),
        "failed": statuses[RequestStatus.FAILED],
        "refused": statuses[RequestStatus.REFUSED],
        "second_starts_not_retry_safe": sum(n - 1 for task, n in _by_task(starts).items() if _unsafe(books, task)),
        "effects_without_lease": sum(not _granted(lease, books) for lease in {*starts, *effects}),
        "effects_denied": len(denied(effects, books)),
        "exclusive_overlaps": sum(overlaps(lines, books, intent) for intent in exclusive),
        "late_effects": late_effects(lines),
        "starts": sum(starts.values()),
        "effects": sum(effects.values()),
        "bad_seals": books.bad_seals,
        "leftovers": dict(books.leftovers),
    }
    return counts


def broken(counts: Mapping[str, Any]) -> list[str]:
    """Return the names of the promises that were not kept."""
    wrong = []
    for name in PROMISES:
        value = counts.get(name, 0)
        if any(value.values()) if isinstance(value, Mapping) else value:
            wrong.append(name)
    return wrong


def suspects(lines: Sequence[Line], accepted: Mapping[str, UUID], books: Books) -> dict[str, list[UUID]]:
    """Return the requests behind the counts, by promise, for whoever looks for the reason."""
    starts, effects = _by_lease(lines, "start"), _by_lease(lines, "effect")
    repeated = [lease.task_id for found in (starts, effects) for lease, number in found.items() if number > 1]
    unsafe = [
        task for found in (starts, effects) for task, n in _by_task(found).items() if n > 1 and _unsafe(books, task)
    ]
    unknown = [lease.task_id for lease in {*starts, *effects} if not _granted(lease, books)]
    tasks = {"same_lease": repeated, "not_retry_safe": unsafe, "denied": denied(effects, books), "unknown": unknown}
    found = {kind: [books.tasks[task][0] for task in ids if task in books.tasks] for kind, ids in tasks.items()}
    return {**found, "stuck": stuck(books), "lost": [accepted[key] for key in lost(effects, accepted, books)]}


def lost(effects: Mapping[Lease, int], accepted: Mapping[str, UUID], books: Books) -> list[str]:
    """Return the keys of accepted plans of which there is nothing to find, or that are said to be done and are not."""
    tasks_of = defaultdict(list)
    for task_id, (request_id, status, _) in books.tasks.items():
        tasks_of[request_id].append((task_id, status))
    done = {lease.task_id for lease in effects}
    gone = []
    for key, request_id in accepted.items():
        found = books.requests.get(request_id)
        tasks = tasks_of[request_id]
        known = found is not None and found[0] == key and request_id in books.recorded
        complete = found is None or found[1] != RequestStatus.COMPLETED or (request_id in books.planned and tasks)
        if not (known and complete) or any(is_done == TaskStatus.SUCCEEDED and t not in done for t, is_done in tasks):
            gone.append(key)
    return gone


def stuck(books: Books) -> list[UUID]:
    """Return the requests that have neither ended nor reached a person."""
    rest = {*REQUEST_ENDED, RequestStatus.IN_REVIEW}
    return [request for request, (_, status) in books.requests.items() if status not in rest]


def denied(effects: Mapping[Lease, int], books: Books) -> list[UUID]:
    """Return work that is not safe to repeat, had its effect, and is said not to have been done.

    In review is right: nobody knows. A step that another attempt's failure ended would be repeated by `retry`.
    """
    known = {TaskStatus.SUCCEEDED, TaskStatus.IN_REVIEW}
    return [
        task
        for task in _by_task(effects)
        if task in books.tasks and _unsafe(books, task) and _status(books, task) not in known
    ]


def overlaps(lines: Sequence[Line], books: Books, intent: str) -> int:
    """Count how often an attempt did something after another one of the same intent had started, and before its end.

    An attempt whose agent was killed wrote no end; it counts up to its last line.
    """
    spans: dict[UUID, tuple[int, int]] = {}
    for line in lines:
        if line.intent == intent:
            first, last = spans.get(line.attempt_id, (line.at, line.at))
            spans[line.attempt_id] = (min(first, line.at), max(last, line.at))
    ordered = sorted(spans.values())
    return sum(later[0] < earlier[1] for earlier, later in pairwise(ordered))


def late_effects(lines: Sequence[Line]) -> int:
    """Count effects under a lease when a newer one of the same task had started already: an agent that was frozen."""
    newest: dict[UUID, int] = {}
    late = 0
    for line in sorted(lines, key=lambda line: line.at):
        if line.what == "start":
            newest[line.task_id] = max(line.token, newest.get(line.task_id, 0))
        elif line.what == "effect":
            late += line.token < newest.get(line.task_id, 0)
    return late


def _by_lease(lines: Iterable[Line], what: str) -> Counter[Lease]:
    return Counter(Lease(line.task_id, line.attempt_id, line.token) for line in lines if line.what == what)


def _by_task(leases: Mapping[Lease, int]) -> Counter[UUID]:
    found: Counter[UUID] = Counter()
    for lease, number in leases.items():
        found[lease.task_id] += number
    return found


def _granted(lease: Lease, books: Books) -> bool:
    """Whether the database ever gave this lease."""
    found = books.attempts.get(lease.attempt_id)
    return found is not None and found[:2] == (lease.task_id, lease.token)


def _unsafe(books: Books, task_id: UUID) -> bool:
    return task_id in books.tasks and not books.tasks[task_id][2]


def _status(books: Books, task_id: UUID) -> str:
    return books.tasks[task_id][1]
