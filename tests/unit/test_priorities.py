"""A priority is a head start: it decides among what waits, and waiting decides in the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chargehand.domain.priorities import HEAD_STARTS, PRIORITIES, turn

ARRIVALS = st.lists(st.tuples(st.integers(0, 400_000), st.sampled_from(PRIORITIES)), min_size=1, max_size=40)


def test_of_what_comes_together_the_more_important_goes_first() -> None:
    assert sorted(set(PRIORITIES), key=lambda priority: turn(0, priority)) == list(PRIORITIES)


@given(ARRIVALS)
def test_nothing_is_overtaken_by_what_comes_much_later(arrivals: list[tuple[int, str]]) -> None:
    """However much important work comes, what stands before a task has come within two days of it, so it is finite."""
    queue = sorted(arrivals, key=lambda arrival: turn(*arrival))
    for place, (since, priority) in enumerate(queue):
        for earlier_since, earlier_priority in queue[:place]:
            assert earlier_since - since <= HEAD_STARTS[earlier_priority] - HEAD_STARTS[priority] <= 2 * 86_400


def test_background_work_is_done_under_an_endless_stream_of_critical_work() -> None:
    """One agent, a critical task each minute, each taking two: the queue grows for ever, and yet its turn comes."""
    waiting, now, clock = [(turn(0, "background"), "background")], 0, 0
    while True:
        while now <= clock:
            waiting.append((turn(now, "critical"), "critical"))
            now += 60
        first = min(waiting)
        waiting.remove(first)
        if first[1] == "background":
            break
        clock += 120
    assert clock <= 2 * 2 * 86_400, "two days of arrivals, at two minutes for each minute"
