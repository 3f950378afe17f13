"""What may start, what cannot any more, and when a request has ended."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.records import TaskRecord
from chargehand.domain.states import RequestStatus, TaskStatus
from chargehand.execution import task_flow
from chargehand.routing import overtaking
from tests.builders import make_id, make_task

T, R = TaskStatus, RequestStatus


def make_record(order: int, status: str, depends_on: tuple[int, ...] = (), keys: tuple[str, ...] = ()) -> TaskRecord:
    spec = make_task(order, depends_on=depends_on, exclusive_keys=keys)
    request, plan = make_id("request"), make_id("plan")
    return TaskRecord(
        spec.task_id, request, plan, order, spec.intent, spec.work_type, spec, TaskStatus(status), "", 0, ()
    )


def moved(mode: str, *tasks: TaskRecord) -> dict[int, str]:
    orders = {task.task_id: task.order for task in tasks}
    return {orders[move.task_id]: str(move.new) for move in task_flow.next_moves(tasks, mode)}


def test_in_sequence_one_task_starts_when_everything_before_it_is_done() -> None:
    assert moved("sequential", make_record(1, "pending"), make_record(2, "pending")) == {1: "ready"}
    assert moved("sequential", make_record(1, "running"), make_record(2, "pending")) == {}
    assert moved("sequential", make_record(1, "succeeded"), make_record(2, "pending")) == {2: "ready"}


def test_in_parallel_only_dependencies_count() -> None:
    tasks = make_record(1, "pending"), make_record(2, "pending"), make_record(3, "pending", (1,))
    assert moved("parallel", *tasks) == {1: "ready", 2: "ready"}
    tasks = make_record(1, "failed"), make_record(2, "pending"), make_record(3, "pending", (1,))
    assert moved("parallel", *tasks) == {2: "ready", 3: "skipped"}


def test_a_failure_skips_what_follows_and_names_it() -> None:
    tasks = make_record(1, "failed"), make_record(2, "pending"), make_record(3, "pending")
    moves = task_flow.next_moves(tasks, "sequential")
    assert [(m.new, m.reason) for m in moves] == [(T.SKIPPED, "task 1 failed")] * 2


def test_what_waits_for_a_review_holds_the_rest_back() -> None:
    tasks = make_record(1, "in_review"), make_record(2, "pending")
    assert moved("sequential", *tasks) == {}
    assert task_flow.outcome(tasks, R.RUNNING) == (R.IN_REVIEW, "a person must look: 1 in_review, 1 pending")


@pytest.mark.parametrize(
    ("statuses", "request_status", "ended"),
    [
        (["succeeded", "succeeded"], R.RUNNING, R.COMPLETED),
        (["succeeded", "failed", "skipped"], R.RUNNING, R.FAILED),
        (["succeeded", "running"], R.RUNNING, None),
        (["succeeded", "ready"], R.RUNNING, None),
        (["succeeded", "cancelled"], R.CANCELLING, R.CANCELLED),
        (["running", "cancelled"], R.CANCELLING, None),
        (["in_review", "running"], R.RUNNING, None),
        (["in_review", "cancelled"], R.CANCELLING, R.IN_REVIEW),
    ],
)
def test_when_a_request_has_ended(statuses: list[str], request_status: R, ended: R | None) -> None:
    found = task_flow.outcome([make_record(n, s) for n, s in enumerate(statuses, 1)], request_status)
    assert (found and found[0]) == ended


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


def test_what_shares_an_exclusive_key_keeps_its_place() -> None:
    keys = ("host:a",)
    tasks = (
        make_record(1, "ready", keys=("host:b",)),
        make_record(2, "pending", keys=keys),
        make_record(3, "pending", keys=keys),
    )
    assert [t.order for t in task_flow.overtakers(tasks, tasks[0])] == [2]
    assert moved("parallel", *tasks) == {2: "ready"}
    tasks = make_record(1, "ready", keys=keys), make_record(2, "pending", (1,)), make_record(3, "pending", keys=keys)
    assert task_flow.overtakers(tasks, tasks[0]) == []


def test_a_failure_of_what_went_first_stops_what_gave_way_to_it() -> None:
    assert moved("sequential", make_record(1, "pending"), make_record(2, "failed")) == {1: "skipped"}


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
