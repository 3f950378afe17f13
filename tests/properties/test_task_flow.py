"""However tasks end and overtake each other, a request comes to its end, and nothing runs before what it needs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.states import RequestStatus as R
from chargehand.execution import task_flow
from chargehand.routing import overtaking
from tests.unit.test_task_flow import make_record, moved


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["succeeded", "failed"]), min_size=1, max_size=6),
    st.sampled_from(["sequential", "parallel"]),
)
def test_a_request_always_comes_to_an_end(results: list[str], mode: str) -> None:
    """However its tasks end, following the moves ends every task; nothing is left waiting for nothing."""
    tasks = [make_record(n, "pending", (n - 1,) if n > 2 else ()) for n in range(1, len(results) + 1)]
    for _ in range(2 * len(tasks) + 1):
        changes = moved(mode, *tasks)
        tasks = [
            make_record(t.order, _ended(changes.get(t.order, str(t.status)), results[t.order - 1]), t.spec.depends_on)
            for t in tasks
        ]
    assert task_flow.outcome(tasks, R.RUNNING) is not None


def _ended(status: str, result: str) -> str:
    return result if status == "ready" else status


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_tasks_overtake_one_runs_at_a_time_and_after_what_it_needs(data: st.DataObject) -> None:
    """Whoever is ready may find nobody and let another go first; dependencies and keys hold all the same."""
    size = data.draw(st.integers(1, 6))
    after = [tuple(data.draw(st.sets(st.integers(1, n - 1), max_size=2))) if n > 1 else () for n in range(1, size + 1)]
    some = st.sampled_from(["host:a", "host:b", "host:c", "service:a"])
    keys = [tuple(data.draw(st.sets(some, max_size=2))) for _ in range(size)]
    status, done = ["pending"] * size, list[int]()
    for _ in range(6 * size):
        tasks = [make_record(n, status[n - 1], after[n - 1], keys[n - 1]) for n in range(1, size + 1)]
        if task_flow.outcome(tasks, R.RUNNING):
            break
        for order, new in moved("sequential", *tasks).items():
            status[order - 1] = new
        (ready,) = (n for n in range(1, size + 1) if status[n - 1] == "ready")
        tasks = [make_record(n, status[n - 1], after[n - 1], keys[n - 1]) for n in range(1, size + 1)]
        others = task_flow.overtakers(tasks, tasks[ready - 1])
        if others and data.draw(st.booleans()):
            status[ready - 1], ready = "pending", data.draw(st.sampled_from(others)).order
        status[ready - 1] = "succeeded"
        done.append(ready)
    assert sorted(done) == list(range(1, size + 1)), "all of it is done in the end"
    place = {order: n for n, order in enumerate(done)}
    for order in done:
        assert all(place[other] < place[order] for other in after[order - 1])
        for other in range(1, order):
            apart = overtaking.apart(make_record(other, "pending", keys=keys[other - 1]).spec, tasks[order - 1].spec)
            assert apart or place[other] < place[order]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.data())
def test_while_every_task_can_start_the_order_is_the_one_asked_for(size: int, data: st.DataObject) -> None:
    keys = [tuple(data.draw(st.sets(st.sampled_from(["host:a", "host:b"]), max_size=1))) for _ in range(size)]
    status, done = ["pending"] * size, list[int]()
    while "pending" in status:
        tasks = [make_record(n, status[n - 1], (), keys[n - 1]) for n in range(1, size + 1)]
        ((order, new),) = moved("sequential", *tasks).items()
        assert new == "ready"
        status[order - 1] = "succeeded"
        done.append(order)
    assert done == list(range(1, size + 1))
