"""Estimates say how little they know."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.routing import Figures
from chargehand.routing.performance import (
    HEADROOM,
    MINIMUM_RUNS,
    Counts,
    Lately,
    Performance,
    Run,
    allowed_seconds,
    estimate,
    expected_success,
    figures_of,
    is_tricky,
    smooth,
    smooth_all,
)
from tests.builders import make_agent

few = st.integers(0, 500)


def test_before_the_first_run_everything_is_possible():
    nothing = estimate(Counts())
    assert (nothing.low, nothing.high, nothing.runs, nothing.known) == (0.0, 1.0, 0, False)
    assert nothing.usable_rate == 0.5


def test_five_of_seven_is_observed_but_not_known():
    guess = estimate(Counts(5, 2))
    assert guess.success_rate == pytest.approx(5 / 7)
    assert not guess.known
    assert guess.usable_rate == 0.5


def test_ten_runs_make_a_rate_usable():
    assert estimate(Counts(MINIMUM_RUNS - 1, 1)).usable_rate == 0.9
    assert estimate(Counts(MINIMUM_RUNS - 2, 1)).usable_rate == 0.5
    assert estimate(Counts(2, 1), minimum=3).usable_rate == pytest.approx(2 / 3)


def test_the_interval_is_wilsons():
    known = estimate(Counts(9, 1))  # published value for 9 of 10 at 95 %
    assert (known.low, known.high) == (pytest.approx(0.5958, abs=1e-4), pytest.approx(0.9821, abs=1e-4))


@settings(max_examples=15)
@given(few, few)
def test_the_interval_holds_the_observed_rate_and_stays_a_probability(successes, failures):
    found = estimate(Counts(successes, failures))
    assert 0 <= found.low <= found.success_rate <= found.high <= 1


@settings(max_examples=15)
@given(few, few)
def test_ten_times_the_runs_narrow_the_interval(successes, failures):
    once, often = estimate(Counts(successes, failures + 1)), estimate(Counts(successes * 10, (failures + 1) * 10))
    assert often.high - often.low < once.high - once.low


def chance(successes=0, failures=0, *, usual=0.5, declared=0.0):
    lately = Lately()
    for ok in [True] * successes + [False] * failures:
        lately = lately.after(ok)
    return expected_success(*lately, lately, usual, declared)


def test_what_is_not_known_of_an_agent_is_as_usual_and_less_certain():
    (mean, deviation), (known, certain) = chance(usual=0.8), chance(40, 10, usual=0.8)
    assert mean == pytest.approx(0.8)
    assert deviation > 1.8 * certain
    assert known < 0.8  # the ten failures came last
    assert chance(usual=0.8, declared=2)[0] > mean


def test_other_work_of_the_agent_counts_until_this_work_is_known():
    good, nothing = Lately(19, 20), Lately()
    assert expected_success(*nothing, good, 0.5)[0] > 0.8
    assert expected_success(0, 20, good, 0.5)[0] < 0.3


def test_an_agent_that_changed_is_known_after_some_runs():
    before = chance(200)[0]
    assert before > 0.95
    assert chance(200, 25)[0] < before / 2


@settings(max_examples=15)
@given(few, few)
def test_a_success_never_lowers_the_expectation(successes, failures):
    lately = Lately(0.03 * successes, 0.03 * (successes + failures))  # the discount leaves at most 33 runs
    assert expected_success(*lately.after(True), lately, 0.5)[0] >= expected_success(*lately, lately, 0.5)[0] - 1e-9


def test_a_run_changes_all_that_is_kept():
    kept = Performance().after(Run(True, 1_000, {"memory_mb": 100.0}, "tricky")).after(Run(False, 3_000))
    assert kept.counts == Counts(1, 1, 4_000)
    assert kept.lately == Lately(0.97, 1.97)
    assert kept.deviation_ms == pytest.approx(1414.2, abs=0.1)  # of 1000 and 3000
    assert (kept.resources_used, kept.difficulty) == ({"memory_mb": 100.0}, 0.5)
    assert Performance().after(Run(True, 5)).deviation_ms is None


def test_moving_quantiles_settle_where_they_belong_and_follow():
    chance_ = random.Random(1)
    kept = Performance()
    for _ in range(2_000):
        kept = kept.after(Run(True, round(chance_.uniform(0, 10_000))))
    assert kept.p50_ms == pytest.approx(5_000, rel=0.25)
    assert kept.p90_ms == pytest.approx(9_000, rel=0.2)
    for _ in range(60):
        kept = kept.after(Run(True, 1_000))
    assert kept.p50_ms < 1_500


def test_smoothing_keeps_seven_tenths_of_the_old():
    assert smooth(100.0, 200.0) == pytest.approx(130.0)
    assert smooth(None, 200.0) == 200.0


def test_what_was_not_measured_stays():
    assert smooth_all({"cpu_cores": 2.0, "memory_mb": 100.0}, {"memory_mb": 200.0, "gpu_vram_mb": 8.0}) == {
        "cpu_cores": 2.0,
        "memory_mb": pytest.approx(130.0),
        "gpu_vram_mb": 8.0,
    }


def test_failed_runs_and_rehearsals_show_neither_time_nor_need():
    kept = Performance().after(Run(True, 1_000, {"memory_mb": 100.0}))
    for run in (Run(False, 9_000, {"memory_mb": 1.0}), Run(True, 9_000, {"memory_mb": 1.0}, rehearsed=True)):
        after = kept.after(run)
        assert (after.p50_ms, after.p90_ms, after.resources_used) == (1_000, 1_000, {"memory_mb": 100.0})


def test_difficulty_is_smoothed_and_told_as_the_nearest_word():
    kept = Performance()
    assert (kept.difficulty, kept.assessment) == (None, None)
    kept = kept.after(Run(True, 5, difficulty="straightforward"))
    assert kept.assessment == "straightforward"
    kept = kept.after(Run(False, 5, difficulty="failed"))
    assert (kept.difficulty, kept.assessment) == (pytest.approx(0.3), "tricky")
    assert kept.after(Run(True, 5)).difficulty == kept.difficulty
    assert is_tricky(0.3, 10, 10)
    assert not is_tricky(0.3, 9, 10)
    assert not is_tricky(0.2, 99, 10)


@pytest.mark.parametrize(
    ("run", "word"),
    [
        (Run(True, 100), "straightforward"),
        (Run(True, 301), "tricky"),
        (Run(True, 100, repeated=True), "tricky"),
        (Run(False, 100), "failed"),
        (Run(True, 901, difficulty="straightforward"), "straightforward"),
    ],
)
def test_how_hard_a_run_was_is_told_by_its_agent_or_by_attempts_and_time(run, word):
    assert Performance(Counts(10, 0), p50_ms=100.0).judged(run).difficulty == word


def test_few_runs_do_not_say_what_is_long():
    assert Performance(Counts(9, 0), p50_ms=100.0).judged(Run(True, 9_000)).difficulty == "straightforward"


@pytest.mark.parametrize(("own", "p50", "deviation"), [(10, 50.0, 5.0), (9, 2_000.0, 700.0)])
def test_an_intents_own_figures_count_once_there_are_enough(own, p50, deviation):
    figures = Figures(own, p50_ms=50.0, deviation_ms=5.0)
    agent = make_agent(success_count=10, p50_ms=2_000.0, deviation_ms=700.0, of_intent=figures)
    found = figures_of(agent, 10)
    assert (found.p50_ms, found.deviation_ms) == (p50, deviation)


def test_without_any_run_of_the_intent_its_work_type_counts_whatever_the_minimum():
    assert figures_of(make_agent(success_count=1, p50_ms=2_000.0), 0).p50_ms == 2_000.0


def test_the_deviation_of_few_runs_says_nothing():
    assert figures_of(make_agent(success_count=9, p50_ms=5.0, deviation_ms=700.0), 10).deviation_ms is None
    assert figures_of(make_agent(success_count=9, p50_ms=5.0, deviation_ms=700.0), 9).deviation_ms == 700.0


def test_the_mean_duration_needs_a_run():
    assert Counts().mean_duration_ms is None
    assert Counts(3, 1, 8_000).mean_duration_ms == 2_000


@given(st.floats(0.1, 1e5), st.none() | st.floats(0, 1e9))
def test_a_deadline_is_never_shorter_than_declared_nor_longer_than_any(declared: float, p90_ms: float | None) -> None:
    allowed = allowed_seconds(declared, Figures(p90_ms=p90_ms), 21_600.0)
    assert min(declared, 21_600.0) <= allowed <= 21_600.0
    assert allowed >= min(HEADROOM * (p90_ms or 0) / 1000, 21_600.0)


def test_runs_that_failed_say_nothing_of_how_long_the_work_takes() -> None:
    known = Performance().after(Run(ok=True, duration_ms=4000)).after(Run(ok=False, duration_ms=60_000))
    assert (known.p50_ms, known.p90_ms) == (4000, 4000)
    assert known.counts == Counts(1, 1, 64_000)
