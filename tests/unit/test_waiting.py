"""Who waits, who gives way and who has waited for too long, without a database."""

from __future__ import annotations

import pytest

from chargehand.domain.plans import WAITS
from chargehand.domain.records import RequestRecord, TaskRecord
from chargehand.domain.routing import RoutingDecision
from chargehand.domain.states import TASK, TaskStatus, check_move
from chargehand.execution import waiting
from chargehand.execution.task_flow import overtakers
from chargehand.execution.waiting import CAPACITY_WAIT
from tests.builders import make_id, make_request_record, make_task, make_task_record

T = TaskStatus
PATIENCE = 300.0
AGENT = make_id("agent")


def nobody(task: TaskRecord, reason: str = "1 full", **fields: object) -> RoutingDecision:
    """Nobody can have the task now."""
    decision = RoutingDecision(task.task_id, task.intent, task.work_type, "learned", None, (), reason)
    return decision._replace(**fields)  # type: ignore[arg-type]


def requests(mode: str = "sequential") -> dict[object, RequestRecord]:
    request = make_request_record(mode=mode)
    return {request.request_id: request}


@pytest.mark.parametrize(
    ("stranded", "fields", "decision", "lost"),
    [
        (PATIENCE - 1, {}, {}, False),
        (PATIENCE + 1, {}, {}, True),
        (0.0, {}, {"infeasible": True}, True),  # at once: nobody ever could
        (PATIENCE + 1, {"alternatives": (WAITS,)}, {}, False),  # approved to wait as long as it takes
        (0.0, {"alternatives": (WAITS,)}, {"infeasible": True}, True),
        (PATIENCE + 1, {}, {"waits_for": str(AGENT)}, False),  # somebody is there: it has chosen to wait
    ],
)
def test_when_a_task_fails_for_want_of_an_agent(
    stranded: float, fields: dict[str, object], decision: dict[str, object], lost: bool
) -> None:
    task = make_task_record(make_task(1, **fields), stranded=stranded)
    unplaced = [(task, nobody(task, **decision))]
    found = waiting.decide(unplaced, {}, set(), PATIENCE)
    assert [(m.task_id, m.old, m.new) for m in found.moves] == ([(task.task_id, T.READY, T.FAILED)] if lost else [])
    assert found.settle == ({task.request_id} if lost else set())
    assert len(found.waits) == (not lost)


def test_the_reason_says_for_how_long_nobody_came() -> None:
    late, never = make_task_record(make_task(1), stranded=301.4), make_task_record(make_task(2))
    unplaced = [(late, nobody(late)), (never, nobody(never, "0/2 can run it", infeasible=True))]
    found = waiting.decide(unplaced, {}, set(), PATIENCE)
    assert [move.reason for move in found.moves] == ["no agent came in 301 s: 1 full", "0/2 can run it"]


def test_who_waits_for_an_agent_of_its_choice_waits_for_as_long_as_it_may_and_others_look_again_soon() -> None:
    chooses, looks = make_task_record(make_task(1)), make_task_record(make_task(2))
    unplaced = [(chooses, nobody(chooses, "waits", waits_for=str(AGENT), wait_limit=42.0)), (looks, nobody(looks))]
    found = waiting.decide(unplaced, {}, set(), PATIENCE)
    assert found.waits == [(chooses, 42.0, "waits", AGENT), (looks, CAPACITY_WAIT, "1 full", None)]


def test_a_decision_is_news_when_its_reason_is_new() -> None:
    task = make_task_record(status_reason="1 full")
    assert waiting.decide([(task, nobody(task))], {}, set(), PATIENCE).news == []
    news = [(task, nobody(task, "1 offline"))]
    assert waiting.decide(news, {}, set(), PATIENCE).news == news


def test_the_first_that_somebody_can_take_goes_before_one_that_waits() -> None:
    apart = [make_task(n, exclusive_keys=(f"host:web{n}",)) for n in (1, 2, 3)]
    tasks = [make_task_record(task, "ready" if task.order == 1 else "pending") for task in apart]
    first, second, third = tasks
    behind = {first.task_id: overtakers(tasks, first)}
    assert behind[first.task_id] == [second, third]
    unplaced = [(first, nobody(first))]
    found = waiting.decide(unplaced, behind, {third.task_id}, PATIENCE)
    assert [(m.task_id, m.new, m.reason) for m in found.moves] == [
        (first.task_id, T.PENDING, "task 3 goes first: 1 full"),
        (third.task_id, T.READY, "goes before task 1, which waits: 1 full"),
    ]
    for move in found.moves:
        check_move(TASK, move.old, move.new)
    assert found.waits == []
    assert found.settle == set(), "nothing has ended"


def test_nothing_changes_places_when_nobody_can_take_the_other_either() -> None:
    tasks = [make_task_record(make_task(n), "ready" if n == 1 else "pending") for n in (1, 2)]
    unplaced = [(tasks[0], nobody(tasks[0]))]
    found = waiting.decide(unplaced, {tasks[0].task_id: [tasks[1]]}, set(), PATIENCE)
    assert (found.moves, len(found.waits)) == ([], 1)


@pytest.mark.parametrize(
    ("mode", "stranded", "decision", "gives_way"),
    [
        ("sequential", 0.0, {}, True),
        ("sequential", 0.0, {"policy": "held back"}, True),  # an exclusive key is in use
        ("parallel", 0.0, {}, False),  # what may start has started
        ("sequential", 0.0, {"waits_for": str(AGENT)}, False),  # it is next in line
        ("sequential", 0.0, {"infeasible": True}, False),  # it fails
        ("sequential", PATIENCE + 1, {}, False),
    ],
)
def test_who_may_give_way(mode: str, stranded: float, decision: dict[str, object], gives_way: bool) -> None:
    task = make_task_record(stranded=stranded)
    unplaced = [(task, nobody(task, **decision))]
    found = waiting.may_give_way(unplaced, requests(mode), PATIENCE)  # type: ignore[arg-type]
    assert found == ([task] if gives_way else [])
