"""What may start, what cannot any more, and when a request has ended."""

from __future__ import annotations

import pytest

from chargehand.domain.records import TaskRecord
from chargehand.domain.states import RequestStatus, TaskStatus
from chargehand.execution import task_flow
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
