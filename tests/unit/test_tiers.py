"""Fallback: the chain of tiers, and what each failure of a tier means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.errors import BadConfiguration, BadDecomposition, BadParameters, ModelUnavailable
from chargehand.domain.tiers import EMBEDDED, PERSON, TIERS, named
from chargehand.understanding.tiers import ALERT, FAILURES, LEAVE, failure_rule, next_step, next_tier

ALL = frozenset(TIERS) - {PERSON}
LOCAL = named("local")


def test_the_chain_is_walked_from_cheap_to_dear_then_without_a_model_then_to_a_person():
    failed: list[str] = []
    asked = []
    while (choice := next_tier(ALL, failed)).tier is not None:
        asked.append(choice.tier)
        failed.append(choice.tier)
    assert asked == ["local", "external", "embedded"]
    assert choice.reason == "a person must look: local, external, embedded gave no usable plan"


def test_what_is_not_configured_is_not_asked_and_that_is_said():
    choice = next_tier(frozenset({"embedded"}), [])
    assert choice.tier == "embedded"
    assert choice.reason == ("first choice: the catalogue match, which needs no model (local, external not configured)")
    assert next_tier(frozenset({"local", "embedded"}), []).reason == "first choice: the local model"


def test_a_later_tier_says_after_what_it_comes():
    choice = next_tier(frozenset({"local", "embedded"}), ["local"])
    assert choice.tier == "embedded"
    assert choice.reason.endswith("because local gave no usable plan")


def test_without_any_tier_a_person_gets_the_request():
    assert next_tier(frozenset(), []).reason == "a person must look: no tier is configured"


def test_a_person_can_be_a_tier_to_ask():
    assert next_tier(frozenset({"local", PERSON}), ["local"]).tier == PERSON


@settings(max_examples=15)
@given(st.frozensets(st.sampled_from(sorted(ALL))), st.lists(st.sampled_from(sorted(ALL)), max_size=6))
def test_no_tier_is_asked_twice_or_unconfigured(configured, failed):
    choice = next_tier(configured, failed)
    if choice.tier is None:
        assert configured <= set(failed)
    else:
        assert choice.tier in configured - set(failed)


@pytest.mark.parametrize("ours", [BadDecomposition, BadParameters, BadConfiguration, ModelUnavailable])
def test_our_own_errors_have_a_row(ours):
    assert ours.__name__ in FAILURES


def test_a_wrong_key_is_not_retried_and_an_operator_hears_of_it():
    rule = failure_rule("AuthenticationError")
    assert (rule.repairs, rule.retries, rule.alert) == (0, 0, True)


def test_an_answer_that_is_not_a_plan_is_repaired_once():
    assert failure_rule("BadDecomposition").repairs == 1


def test_a_failure_nobody_foresaw_is_reported():
    assert failure_rule("SomethingNew") == ALERT


@pytest.mark.parametrize(
    ("error_class", "repairs", "retries", "expected"),
    [
        ("BadDecomposition", 0, 0, ("repair", 0)),
        ("BadDecomposition", 1, 0, LEAVE),
        ("InvalidAnswer", 0, 2, ("repair", 0)),
        ("RateLimitError", 0, 0, ("retry", 0.5)),
        ("RateLimitError", 1, 1, ("retry", 1.0)),
        ("RateLimitError", 0, 2, LEAVE),
        ("APIConnectionError", 0, 1, LEAVE),
        ("Timeout", 0, 0, LEAVE),
        ("AuthenticationError", 0, 0, LEAVE),
        ("SomethingNew", 0, 0, LEAVE),
    ],
)
def test_a_tier_is_asked_again_as_often_as_its_failure_allows(error_class, repairs, retries, expected):
    assert next_step(error_class, LOCAL, repairs=repairs, retries=retries, seconds_left=10) == expected


def test_a_tier_that_wants_to_be_left_alone_is_but_not_longer_than_there_is_time():
    def step(**wait):
        return next_step("RateLimitError", LOCAL, repairs=0, retries=0, **wait)

    assert step(seconds_left=10, retry_after=7) == ("retry", 7)
    assert step(seconds_left=5, retry_after=7) == LEAVE
    assert step(seconds_left=0.4) == LEAVE
    assert next_step("BadDecomposition", LOCAL, repairs=0, retries=0, seconds_left=0) == LEAVE


def test_what_is_no_model_is_not_asked_the_same_again():
    assert next_step("BadDecomposition", named(EMBEDDED), repairs=0, retries=0, seconds_left=float("inf")) == LEAVE
