"""Retrying: who may repeat what, and how often."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.messages import Failure
from chargehand.execution.retry import DEFAULT, TABLE, RetryPolicy, decide

KINDS = get_args(Failure.model_fields["kind"].annotation)


def fail(kind, *, attempts_made=1, retry_safe=False, started=True, others=True, policy=DEFAULT):
    return decide(
        Failure(kind=kind, message="no matter"),
        attempts_made=attempts_made,
        retry_safe=retry_safe,
        started=started,
        others=others,
        policy=policy,
    )


def test_every_kind_of_failure_has_a_row():
    assert set(TABLE) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "safe", "not_started", "started"),
    [
        ("permanent", "fail", "fail", "fail"),
        ("failed", "again", "again", "fail"),
        ("content_changed", "fail", "fail", "fail"),
        ("cancelled", "fail", "fail", "fail"),
        ("retryable", "again", "again", "review"),
        ("infrastructure", "again", "again", "review"),
        ("unknown", "again", "review", "review"),
        ("unstored", "review", "review", "review"),
    ],
)
def test_what_follows_from_each_kind(kind, safe, not_started, started):
    assert fail(kind, retry_safe=True).action == safe
    assert fail(kind, retry_safe=False, started=False).action == not_started
    assert fail(kind, retry_safe=False, started=True).action == started


def test_what_failed_on_one_agent_is_tried_only_on_another():
    alone = fail("failed", retry_safe=True, others=False)
    assert (alone.action, alone.reason) == ("fail", "it failed on this agent, and there is no other that can do it")
    assert fail("failed", retry_safe=True).reason == "attempt 1 of 3: it failed on this agent; again in 1 s"
    assert fail("failed", retry_safe=True, attempts_made=3).action == "fail"
    assert fail("failed").reason == "it failed on this agent, and it is not safe to repeat"


def test_waits_grow_and_the_third_attempt_is_the_last():
    decisions = [fail("retryable", retry_safe=True, attempts_made=n) for n in (1, 2, 3)]
    assert [(d.action, d.wait_seconds) for d in decisions] == [("again", 1), ("again", 2), ("fail", 0)]
    assert decisions[2].reason == "attempt 3 of 3: its agent reports that it failed and may be tried again"


def test_more_attempts_wait_as_long_as_the_last_wait_given():
    policy = RetryPolicy(max_attempts=9)
    decisions = [fail("retryable", retry_safe=True, attempts_made=n, policy=policy) for n in range(1, 6)]
    assert [decision.wait_seconds for decision in decisions] == [1, 2, 4, 4, 4]
    assert fail("retryable", retry_safe=True, policy=RetryPolicy(waits=())).wait_seconds == 0


def test_the_reason_says_what_happens_next():
    assert fail("infrastructure", retry_safe=True).reason == (
        "attempt 1 of 3: its agent broke down or was lost; again in 1 s"
    )
    assert fail("unknown").reason == "it was started and nobody knows how it ended, and it is not safe to repeat"
    assert fail("unstored", retry_safe=True).reason == "its result is lost, and would be again"


@settings(max_examples=15)
@given(st.sampled_from(KINDS), st.integers(1, 20), st.booleans(), st.booleans(), st.integers(1, 10))
def test_attempts_end_and_uncertain_work_is_never_repeated(kind, attempts_made, retry_safe, started, limit):
    decision = fail(
        kind,
        attempts_made=attempts_made,
        retry_safe=retry_safe,
        started=started,
        policy=RetryPolicy(max_attempts=limit),
    )
    if decision.action == "again":
        assert attempts_made < limit
        assert retry_safe or not started
        assert retry_safe or kind != "unknown"
    if decision.action == "review":  # a person is asked about what is not safe to repeat, or ended and is not known how
        assert not retry_safe or kind == "unstored"
