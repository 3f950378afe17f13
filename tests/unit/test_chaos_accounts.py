"""The accounts of the chaos benchmark find every promise that is broken: one that finds none proves nothing."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from bench.chaos.accounts import Books, Line, audit, broken, parse

REQUEST, SAFE, UNSAFE = UUID(int=1), UUID(int=2), UUID(int=3)
FIRST, SECOND, OTHER = UUID(int=11), UUID(int=12), UUID(int=13)
ACCEPTED = {"key": REQUEST}

KEPT = Books(
    requests={REQUEST: ("key", "completed")},
    tasks={SAFE: (REQUEST, "succeeded", True), UNSAFE: (REQUEST, "succeeded", False)},
    attempts={FIRST: (SAFE, 1, "lost"), SECOND: (SAFE, 2, "succeeded"), OTHER: (UNSAFE, 3, "succeeded")},
    planned=frozenset({REQUEST}),
    recorded=frozenset({REQUEST}),
)
"""A plan of two tasks; the first was attempted twice, which is allowed: it is safe to repeat."""


def ran(task: UUID, attempt: UUID, token: int, at: int, *whats: str, intent: str = "job") -> list[Line]:
    return [Line(what, at + n, task, attempt, token, "agent", intent) for n, what in enumerate(whats)]


ONCE = ran(UNSAFE, OTHER, 3, 300, "start", "effect", "end")
LINES = [
    *ran(SAFE, FIRST, 1, 100, "start", "effect"),
    *ran(SAFE, SECOND, 2, 200, "start", "effect", "end"),
    *ONCE,
]


def test_what_is_allowed_is_counted_and_breaks_nothing() -> None:
    counts = audit(LINES, ACCEPTED, KEPT)
    assert broken(counts) == []
    assert (counts["accepted"], counts["completed"]) == (1, 1)
    assert (counts["retried_effects"], counts["second_starts_new_lease"]) == (1, 1)


def test_the_agents_file_is_read_as_it_is_written() -> None:
    text = "".join(f"{x.what} {x.at} {x.task_id} {x.attempt_id} {x.token} {x.agent} {x.intent}\n" for x in LINES)
    assert parse(text) == LINES


@pytest.mark.parametrize(
    ("promise", "lines", "books"),
    [
        ("doubled_same_lease", [*LINES, *ran(SAFE, SECOND, 2, 400, "effect")], KEPT),
        ("second_starts_same_lease", [*LINES, *ran(SAFE, SECOND, 2, 400, "start")], KEPT),
        ("doubled_not_retry_safe", [*LINES, *ran(UNSAFE, OTHER, 4, 400, "effect")], KEPT),
        ("second_starts_not_retry_safe", [*LINES, *ran(UNSAFE, OTHER, 4, 400, "start")], KEPT),
        ("effects_without_lease", [*LINES, *ran(SAFE, SECOND, 9, 400, "start")], KEPT),
        ("lost", LINES, replace(KEPT, requests={})),
        ("lost", LINES, replace(KEPT, requests={REQUEST: ("another key", "completed")})),
        ("lost", LINES, replace(KEPT, recorded=frozenset())),
        ("lost", LINES, replace(KEPT, planned=frozenset())),
        ("lost", LINES[:-3], KEPT),  # said to be done, and never was
        ("stuck", LINES, replace(KEPT, requests={REQUEST: ("key", "running")})),
        ("effects_denied", LINES, replace(KEPT, tasks=KEPT.tasks | {UNSAFE: (REQUEST, "failed", False)})),
        ("leftovers", LINES, replace(KEPT, leftovers={"slots": 1, "exclusive_keys": 0})),
        ("bad_seals", LINES, replace(KEPT, bad_seals=1)),
    ],
)
def test_each_broken_promise_is_found(promise: str, lines: list[Line], books: Books) -> None:
    assert promise in broken(audit(lines, ACCEPTED, books))


def test_work_in_review_is_with_a_person_and_not_stuck() -> None:
    books = replace(
        KEPT,
        requests={REQUEST: ("key", "in_review")},
        tasks=KEPT.tasks | {UNSAFE: (REQUEST, "in_review", False)},
        attempts=KEPT.attempts | {OTHER: (UNSAFE, 3, "lost")},
    )
    counts = audit(LINES, ACCEPTED, books)
    assert broken(counts) == []
    assert counts["in_review"] == 1


def test_two_attempts_with_one_exclusive_key_may_not_overlap() -> None:
    one = ran(UNSAFE, OTHER, 3, 100, "start", "effect", "end", intent="gate")
    apart = [*one, *ran(SAFE, FIRST, 1, 103, "start", "effect", intent="gate")]
    beside = [*one, *ran(SAFE, FIRST, 1, 101, "start", "effect", intent="gate")]
    assert audit(apart, {}, KEPT, ["gate"])["exclusive_overlaps"] == 0
    assert audit(beside, {}, KEPT, ["gate"])["exclusive_overlaps"] == 1


def test_an_effect_after_a_successor_began_is_late() -> None:
    assert audit([*LINES, *ran(SAFE, FIRST, 1, 250, "effect")], ACCEPTED, KEPT)["late_effects"] == 1
    assert audit(LINES, ACCEPTED, KEPT)["late_effects"] == 0
