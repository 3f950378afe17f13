"""How long a task may wait by choice follows how long tasks must wait anyway."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.routing.wait_policy import CALM, ENOUGH, SHARE, WINDOW, WaitPolicy, Waits


def learnt(seconds: list[float], most: float = 150.0) -> WaitPolicy:
    waits = WaitPolicy(most)
    for each in seconds:
        waits.saw("deploy", each)
    return waits


def test_nobody_waits_by_choice_where_nobody_has_to_or_little_is_known() -> None:
    assert learnt([0.0] * 100).left("deploy", 0.0) == 0
    assert learnt([100.0] * (ENOUGH - 1)).left("deploy", 0.0) == 0
    assert learnt([CALM] * 100).left("deploy", 0.0) == 0
    assert learnt([100.0] * 100).left("another intent", 0.0) == 0


def test_what_one_in_twenty_must_wait_sets_the_bound() -> None:
    seldom, often = [0.0] * 96 + [100.0] * 4, [0.0] * 94 + [100.0] * 6
    assert learnt(seldom).left("deploy", 0.0) == 0
    bound = SHARE * (100 - CALM)
    assert learnt(often).left("deploy", 0.0) == bound
    assert learnt(often).left("deploy", 30.0) == bound - 30
    assert learnt(often).left("deploy", bound - 0.9) == 0
    assert learnt(often, most=50.0).left("deploy", 0.0) == 50
    assert learnt(often, most=0.0).left("deploy", 0.0) == 0


def test_what_was_long_ago_is_forgotten() -> None:
    waits = Waits()
    for seconds in [500.0] * WINDOW + [20.0] * WINDOW:
        waits.add(seconds)
    assert waits.of_the_unluckiest == 20
    assert sorted(waits.latest) == waits.ordered == [20.0] * WINDOW


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1e6), max_size=300), st.floats(0, 1e6), st.floats(0, 1e3))
def test_no_task_ever_waits_beyond_the_bound(seen: list[float], waited: float, most: float) -> None:
    left = learnt(seen, most).left("deploy", waited)
    assert left >= 0
    assert left == 0 or waited + left <= most * (1 + 1e-9)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1e6), min_size=ENOUGH, max_size=300))
def test_the_bound_stays_below_twice_what_one_in_twenty_waits(seen: list[float]) -> None:
    assert learnt(seen, most=1e9).left("deploy", 0.0) <= 2 * sorted(seen)[int(0.95 * len(seen))]
