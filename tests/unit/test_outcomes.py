"""What follows when an attempt ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from chargehand.domain.messages import Failure, WorkResult
from chargehand.domain.records import AttemptRecord, RequestRecord, TaskRecord
from chargehand.domain.states import AttemptStatus, InPart, RequestStatus, TaskStatus
from chargehand.execution.outcomes import Ending, effects_of, lost_result, plain
from chargehand.execution.retry import DONE_IN_PART, RetryPolicy
from tests.builders import make_id, make_task

A, T, R = AttemptStatus, TaskStatus, RequestStatus
REQUEST = RequestRecord(make_id("request"), "do it", "ann", "sequential", False, R.RUNNING, make_id("trace"))


def ending(
    kind: Any = None, *, safe: bool = True, attempt: A = A.STARTED, request: RequestRecord = REQUEST, made: int = 1
) -> Ending:
    spec = make_task(1, retry_safe=safe)
    ids = (make_id("attempt"), spec.task_id, make_id("request"), make_id("agent"))
    record = AttemptRecord(*ids, number=1, lease_token=7, status=attempt, lease_left=30.0)
    task = TaskRecord(
        spec.task_id, ids[2], make_id("plan"), 1, spec.intent, spec.work_type, spec, T.RUNNING, "", made, ()
    )
    failure = Failure(kind=kind, message="it broke") if kind else None
    result = WorkResult(attempt_id=ids[0], lease_token=7, ok=kind is None, summary="fine", failure=failure)
    return Ending(request, task, record, result)


@pytest.mark.parametrize(
    ("kind", "safe", "attempt_becomes", "task_becomes"),
    [
        (None, True, A.SUCCEEDED, T.SUCCEEDED),
        ("permanent", True, A.FAILED, T.FAILED),
        ("content_changed", True, A.FAILED, T.FAILED),
        ("retryable", True, A.FAILED, T.READY),
        ("retryable", False, A.FAILED, T.IN_REVIEW),
        ("infrastructure", True, A.FAILED, T.READY),
        ("infrastructure", False, A.FAILED, T.IN_REVIEW),
        ("unknown", True, A.UNKNOWN, T.READY),
        ("unknown", False, A.UNKNOWN, T.IN_REVIEW),
        ("cancelled", True, A.CANCELLED, T.FAILED),
        ("unstored", True, A.UNKNOWN, T.IN_REVIEW),
    ],
)
def test_what_an_attempt_and_its_task_become(kind: Any, safe: bool, attempt_becomes: A, task_becomes: T) -> None:
    found = effects_of(ending(kind, safe=safe), RetryPolicy())
    assert (found.attempt.new, found.task.new) == (attempt_becomes, task_becomes)
    assert (found.review is not None) == (task_becomes is T.IN_REVIEW)


def test_after_the_last_attempt_a_passing_failure_is_final() -> None:
    assert effects_of(ending("retryable", made=3), RetryPolicy(max_attempts=3)).task.new is T.FAILED


def test_a_request_being_cancelled_repeats_nothing_but_still_reviews_what_is_unknown() -> None:
    cancelling = replace(REQUEST, status=R.CANCELLING)
    for kind in ("retryable", "cancelled", "permanent"):
        assert effects_of(ending(kind, request=cancelling), RetryPolicy()).task.new is T.CANCELLED
    assert effects_of(ending("unknown", safe=False, request=cancelling), RetryPolicy()).task.new is T.IN_REVIEW


def test_a_dry_run_may_always_be_repeated() -> None:
    found = effects_of(ending("unknown", safe=False, request=replace(REQUEST, dry_run=True)), RetryPolicy())
    assert found.task.new is T.READY


@pytest.mark.parametrize(
    ("attempt", "repeatable", "kind"),
    [
        (A.LEASED, False, "infrastructure"),
        (A.ACCEPTED, False, "infrastructure"),
        (A.STARTED, False, "unknown"),
        (A.STARTED, True, "infrastructure"),
    ],
)
def test_only_started_work_that_must_not_be_repeated_is_unknown(attempt: A, repeatable: bool, kind: str) -> None:
    result = lost_result(ending(attempt=attempt).attempt, repeatable=repeatable, said="silent")
    assert result.failure is not None
    assert result.failure.kind == kind


def test_a_lapsed_attempt_is_lost_and_counts_against_the_agents_circuit() -> None:
    base = ending(attempt=A.ACCEPTED)
    result = lost_result(base.attempt, repeatable=True, said="silent")
    found = effects_of(replace(base, result=result, reported=False), RetryPolicy())
    assert found.attempt.new is A.LOST
    assert found.outcome.infrastructure
    assert found.attempt.result is None, "nobody reported anything"


def test_cancelled_work_teaches_nothing_about_the_agent() -> None:
    assert not effects_of(ending("cancelled"), RetryPolicy()).outcome.counts
    assert effects_of(ending("permanent"), RetryPolicy()).outcome.counts


def test_text_from_outside_is_shown_without_what_could_fool_a_terminal() -> None:
    assert plain("red\x1b[31m\nline\x00 two\u202e") == "red [31m line two"
    assert len(plain("x" * 10_000)) == 2000


def test_an_order_that_was_handed_back_unbegun_goes_to_another_agent() -> None:
    base = ending("retryable", safe=False)
    failure = Failure(kind="retryable", message="no grant came", details={"started": False})
    result = base.result.model_copy(update={"failure": failure})
    assert effects_of(replace(base, result=result), RetryPolicy()).task.new is T.READY


def test_what_was_done_in_part_ends_as_the_operator_wants_and_is_not_done_again() -> None:
    base = ending()
    result = base.result.model_copy(update={"in_part": "could not be reached: web2"})
    for wanted in get_args(InPart):
        found = effects_of(replace(base, result=result), RetryPolicy(in_part=wanted))
        assert found.attempt.new is A.SUCCEEDED, "its agent did what it could"
        assert found.task.new is DONE_IN_PART[wanted]
        assert found.task.reason == "fine; could not be reached: web2"
        assert found.task.data["in_part"] == "could not be reached: web2"
    assert {DONE_IN_PART[wanted] for wanted in get_args(InPart)} == {T.SUCCEEDED, T.FAILED}
