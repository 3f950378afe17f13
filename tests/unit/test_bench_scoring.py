"""What the figures of `bench decompose` count."""

from __future__ import annotations

from uuid import UUID

import pytest

from bench.decompose import Names
from bench.scoring import Case, Outcome, figures
from chargehand.domain.plans import DecomposedRequest, Subtask
from chargehand.domain.reliability import Judged, brier, expected_calibration_error


def outcome(
    case: Case, *intents: str, asked: bool = False, refused: bool = False, flags: tuple[str, ...] = ()
) -> Outcome:
    subtasks = [
        Subtask(order=n, name=intent, intent=intent, confidence=0.9, flags=flags) for n, intent in enumerate(intents, 1)
    ]
    got = DecomposedRequest(
        request_id=UUID(int=1),
        subtasks=tuple(subtasks),
        ambiguities=("which?",) if asked else (),
        out_of_scope=("a pizza",) if refused else (),
    )
    return Outcome(case, got, 0.01)


PLAIN = Case("stop it, then start it", intents=("stop", "start"))


def test_the_right_intents_are_exact_asked_or_not() -> None:
    assert outcome(PLAIN, "stop", "start").exact_unasked
    asked = outcome(PLAIN, "stop", "start", asked=True)
    assert (asked.exact, asked.exact_unasked) == (True, False)


@pytest.mark.parametrize("intents", [("stop",), ("stop", "start", "start"), ("stop", "check")])
def test_other_intents_are_wrong_unless_something_makes_a_person_look(intents: tuple[str, ...]) -> None:
    assert not outcome(PLAIN, *intents).exact
    assert outcome(PLAIN, *intents).wrong_unflagged
    assert not outcome(PLAIN, *intents, asked=True).wrong_unflagged
    assert not outcome(PLAIN, *intents, flags=("unsure",)).wrong_unflagged


def test_another_order_is_wrong_unless_the_case_accepts_it() -> None:
    swapped = outcome(PLAIN, "start", "stop")
    assert (swapped.exact, swapped.same_order, swapped.wrong_unflagged) == (True, False, True)
    either = Case(PLAIN.request, PLAIN.intents, accept=(("start", "stop"),))
    assert not outcome(either, "start", "stop").wrong_unflagged


def test_a_question_is_right_where_one_is_due_and_a_plan_is_wrong() -> None:
    case = Case("maybe stop it", intents=("stop",), ambiguous=True)
    assert outcome(case, asked=True).exact
    assert outcome(case, "stop").wrong_unflagged


def test_a_part_out_of_scope_must_be_left_out_and_nothing_else() -> None:
    case = Case("stop it and order a pizza", intents=("stop",), out_of_scope=True)
    assert outcome(case, "stop", refused=True).exact
    assert not outcome(case, "stop").exact
    assert not outcome(PLAIN, "stop", "start", refused=True).exact


def test_a_request_that_no_tier_could_read_is_asked_and_not_exact() -> None:
    lost = Outcome(PLAIN, None, 0.1)
    assert (lost.asked, lost.exact, lost.wrong_unflagged) == (True, False, False)


def test_figures_sum_over_all_cases() -> None:
    found = figures([outcome(PLAIN, "stop", "start"), outcome(PLAIN, "stop", asked=True)])
    assert (found["n"], found["exact_pct"], found["asked_pct"], found["judged"]) == (2, 50.0, 50.0, 3)
    assert found["intent_f1"] == pytest.approx(2 * 3 / (3 + 4), abs=1e-4)
    assert found["oos_recall_pct"] is None


def test_calibration_compares_confidence_with_truth() -> None:
    judged = [Judged(0.9, True), Judged(0.9, True), Judged(0.9, False), Judged(0.2, False)]
    assert brier(judged) == pytest.approx((0.01 + 0.01 + 0.81 + 0.04) / 4)
    assert expected_calibration_error(judged) == pytest.approx((abs(2.7 - 2) + 0.2) / 4)
    assert brier([]) is None


def test_names_of_any_catalog_become_names_of_ours_without_meeting() -> None:
    names = Names()
    assert [names.ours(name) for name in ("CreateUser", "create-user", "2fa.Reset", "CreateUser")] == [
        "create_user",
        "create_user_2",
        "do_2fa_reset",
        "create_user",
    ]
