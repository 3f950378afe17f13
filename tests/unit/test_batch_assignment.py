"""Every choice of a batch counts for the next one, without a database."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.domain.records import TaskRecord
from chargehand.routing import router
from chargehand.routing.batch_assignment import (
    BatchFacts,
    Decided,
    assign,
    counting_all,
    found_nobody,
    shows_how_busy,
)
from chargehand.routing.wait_policy import ENOUGH, WaitPolicy
from tests.builders import make_agent, make_id, make_resources, make_task, make_task_record

INTENT = "deploy_service_a"
FIRST, SECOND = str(make_id("infra-1")), str(make_id("infra-2"))


def facts(*agents: Any, **fields: Any) -> BatchFacts:
    defaults: dict[str, Any] = {"worked": set(), "held": {}, "promised": {}}
    return BatchFacts(pool={INTENT: list(agents)}, **(defaults | fields))


def batch(*specs: dict[str, Any]) -> list[TaskRecord]:
    return [make_task_record(make_task(n, **spec), request_id=make_id(n)) for n, spec in enumerate(specs, 1)]


def decide(tasks: list[TaskRecord], known: BatchFacts, waits: WaitPolicy | None = None) -> Decided:
    return assign(tasks, known, router.DEFAULT, waits or WaitPolicy(0.0))


def selected(decided: Decided) -> list[str | None]:
    return [decision.selected for _, decision in decided]


def test_a_slot_is_given_once() -> None:
    found = decide(batch({}, {}), facts(make_agent(FIRST, slots=1)))
    assert selected(found) == [FIRST, None]
    assert found_nobody(found[1][1])


def test_memory_is_promised_once() -> None:
    needs = {"resource_requirements": make_resources(memory=10_000)}
    assert selected(decide(batch(needs, needs), facts(make_agent(FIRST)))) == [FIRST, None]


def test_an_exclusive_key_is_held_by_one_task_and_by_what_is_under_way() -> None:
    tasks = batch({"exclusive_keys": ("host:a",)}, {"exclusive_keys": ("host:a",)}, {"exclusive_keys": ("host:b",)})
    found = decide(tasks, facts(make_agent(FIRST), held={"host:b": make_id("elsewhere")}))
    assert selected(found) == [FIRST, None, None]
    assert found[1][1].reason == f"host:a is in use by request {tasks[0].request_id}"
    assert found[2][1].reason == f"host:b is in use by request {make_id('elsewhere')}"
    assert not any(found_nobody(decision) for _, decision in found), "nobody was looked at"


def test_who_waits_for_an_agent_stands_in_its_line_before_the_next() -> None:
    waits = WaitPolicy(3600.0)
    for _ in range(ENOUGH):
        waits.saw(INTENT, 100.0)
    good = make_agent(FIRST, slots=1, in_flight=1, lately_successes=50.0, lately_runs=50.0)
    poor = make_agent(SECOND, slots=8, lately_successes=25.0, lately_runs=50.0)
    found = decide(batch(*[{}] * 4), facts(good, poor), waits)
    assert found[0][1].waits_for == FIRST
    assert found[-1][1].selected == SECOND, "its line has become too long"


def test_agents_that_do_not_offer_the_work_are_counted_where_nobody_was_found() -> None:
    known = facts(make_agent(FIRST, slots=1))
    first, second = counting_all(decide(batch({}, {}), known), known.pool, 5)
    assert (first[1].others, second[1].others) == (0, 4)
    assert "0/5 agents" in second[1].reason


def test_counting_others_afterwards_is_the_same_as_knowing_of_them_before() -> None:
    task, agents = make_task(1), [make_agent(FIRST, in_flight=4), make_agent(SECOND, status="offline")]
    assert router.with_others(router.route(task, agents), 3) == router.route(task, agents, others=3)
    assert router.with_others(router.route(task, agents), 0) == router.route(task, agents)


@pytest.mark.parametrize(
    ("spec", "fields", "shows"),
    [
        ({}, {}, True),
        ({}, {"chose": True}, False),
        ({"exclusive_keys": ("host:a",)}, {}, False),
        ({"pinned_agent": FIRST}, {}, False),
    ],
)
def test_what_a_wait_says_of_how_busy_agents_are(spec: dict[str, Any], fields: dict[str, Any], shows: bool) -> None:
    task = make_task_record(make_task(1, **spec), **fields)
    somebody = router.route(make_task(1), [make_agent(FIRST)])
    assert shows_how_busy(task, somebody) == shows
    assert not shows_how_busy(task, router.route(make_task(1), []))
