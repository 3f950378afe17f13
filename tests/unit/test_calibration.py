"""A model's claim made a confidence: what each term does, what outcomes do, and that no text can push it up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.domain.tiers import EMBEDDED, models, named
from chargehand.understanding.calibration import (
    AGREEING,
    LEAST,
    MOST,
    SHIPPED,
    TERMS,
    UNFITTED,
    Evidence,
    Sample,
    calibrate,
    fit,
    log_odds_before,
)
from chargehand.understanding.cross_check import Agreement

PLAIN = Evidence(named("local"), 0.9)
EVIDENCE = st.builds(
    Evidence,
    tier=st.sampled_from(models()),
    claimed=st.floats(0, 1),
    agreement=st.sampled_from(get_args(Agreement)),
    repaired=st.booleans(),
    elsewhere=st.booleans(),
    invented=st.integers(0, 9),
    flags=st.integers(0, 9),
    asking=st.booleans(),
)


def test_a_usual_claim_alone_is_worth_the_tiers_own_rate() -> None:
    for tier in models():
        assert calibrate(Evidence(tier, 0.9)).confidence == tier.prior
    assert calibrate(PLAIN).terms.keys() == {"tier"}


@pytest.mark.parametrize(
    "worse",
    [
        {"claimed": 0.5}, {"agreement": "doubts"}, {"agreement": "differs"}, {"repaired": True}, {"elsewhere": True},
        {"invented": 1}, {"flags": 1}, {"asking": True},
    ],
)  # fmt: skip
def test_each_doubt_makes_it_less_sure_and_is_told_as_a_term(worse: dict[str, object]) -> None:
    found = calibrate(replace(PLAIN, **worse))  # type: ignore[arg-type]
    assert found.confidence < calibrate(PLAIN).confidence
    assert min(found.terms.values()) < 0
    assert set(found.terms) - {term.name for term in TERMS} == set()


def test_the_match_decides_where_it_is_sure() -> None:
    ranked = [calibrate(replace(PLAIN, agreement=each)).confidence for each in AGREEING]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0] > 0.9
    assert ranked[-1] < 0.2


def test_an_answer_that_was_repaired_is_not_flagged_for_that_alone() -> None:
    assert calibrate(replace(PLAIN, repaired=True)).confidence > 0.60


@given(EVIDENCE)
def test_the_terms_add_up_to_the_confidence_and_it_stays_within_its_limits(known: Evidence) -> None:
    found = calibrate(known)
    share = 1 / (1 + math.exp(-sum(found.terms.values())))
    assert found.confidence == pytest.approx(min(MOST, max(LEAST, share)), abs=0.005)


@given(EVIDENCE)
def test_a_claim_of_one_lifts_it_no_higher_than_a_good_claim_does(known: Evidence) -> None:
    boldest, usual = (calibrate(replace(known, claimed=claim)).confidence for claim in (1.0, 0.9))
    odds = [math.log(c / (1 - c)) for c in (boldest, usual)]
    assert 0 <= odds[0] - odds[1] < 0.6


def test_the_catalogue_match_is_measured_on_its_own_and_kept() -> None:
    for confidence in (0.3, 0.69, 0.9):
        assert calibrate(Evidence(named(EMBEDDED), confidence)).confidence == confidence


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_without_outcomes_nothing_is_changed() -> None:
    assert fit([]) == UNFITTED
    assert UNFITTED.version == SHIPPED
    assert calibrate(PLAIN, UNFITTED) == calibrate(PLAIN)


def samples(right: int, wrong: int, z: float = 1.1) -> list[Sample]:
    return [Sample(z, True)] * right + [Sample(z, False)] * wrong


@pytest.mark.parametrize(("wrong", "least", "most"), [(1, 0.70, 0.75), (3, 0.60, 0.72), (10, 0.40, 0.60)])
def test_few_outcomes_move_it_little(wrong: int, least: float, most: float) -> None:
    assert least < calibrate(PLAIN, fit(samples(0, wrong))).confidence < most


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_many_outcomes_move_it_to_what_they_say(share: float) -> None:
    many = fit(samples(round(2000 * share), round(2000 * (1 - share)), calibrate(PLAIN).terms["tier"]))
    assert calibrate(PLAIN, many).confidence == pytest.approx(share, abs=0.02)


def test_what_outcomes_gave_is_a_term_and_not_fitted_again() -> None:
    fitted = fit(samples(0, 10))
    found = calibrate(PLAIN, fitted)
    assert found.terms["outcomes"] < 0
    assert log_odds_before(found.terms) == pytest.approx(calibrate(PLAIN).terms["tier"], abs=0.001)
    assert fitted.version.startswith(f"{SHIPPED}+10:")
