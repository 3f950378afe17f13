"""A fit to any outcomes keeps the order of confidences, and does not depend on the order of outcomes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chargehand.understanding.calibration import Evidence, Sample, calibrate, fit, log_odds_before
from tests.unit.test_calibration import EVIDENCE

OUTCOMES = st.lists(st.builds(Sample, st.floats(-4, 4), st.booleans(), st.sampled_from([0.5, 1.0])), max_size=40)


@given(OUTCOMES, EVIDENCE, EVIDENCE)
def test_a_fit_never_turns_the_order_of_two_confidences_round(found: list[Sample], a: Evidence, b: Evidence) -> None:
    fitted = fit(found)
    low, high = sorted([calibrate(a).terms, calibrate(b).terms], key=log_odds_before)
    assert fitted.slope > 0
    assert fitted.shift + fitted.slope * log_odds_before(low) <= fitted.shift + fitted.slope * log_odds_before(high)


@given(OUTCOMES)
def test_the_same_outcomes_in_any_order_give_the_same_version(found: list[Sample]) -> None:
    assert fit(found) == fit(found[::-1])
    assert fit(found).version == fit(sorted(found)).version
