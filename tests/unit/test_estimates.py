"""What a task takes is learnt from the runs of its intent, then of its work type; what is declared counts."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.domain.plans import WorkTask
from chargehand.domain.routing import Figures
from chargehand.planning.estimates import estimated
from tests.builders import make_agent, make_resources, make_task

TASK = make_task(resource_requirements=make_resources(60, cpu=1, memory=512))


def seen(runs: int, seconds: float, **fields: Any) -> Figures:
    return Figures(runs, p50_ms=seconds * 1000, p90_ms=seconds * 2000, **fields)


def told(*agents: Any, task: WorkTask = TASK) -> tuple[int, str]:
    found = estimated(task, agents, 10)
    return found.resource_requirements.estimated_duration_seconds, found.estimate


def test_two_intents_of_one_work_type_get_times_of_their_own() -> None:
    whole = {"success_count": 24, "p50_ms": 150_000.0}
    quick, slow = make_agent(of_intent=seen(12, 2), **whole), make_agent(of_intent=seen(12, 300), **whole)
    assert told(quick) == (14, "14 s: 60 s declared, and 12 runs of deploy_service_a")
    assert told(slow) == (252, "252 s: 60 s declared, and 12 runs of deploy_service_a")


def test_runs_of_all_agents_count_together() -> None:
    one, other = make_agent("one", of_intent=seen(5, 10)), make_agent("other", of_intent=seen(5, 30))
    assert told(one, other) == (29, "29 s: 60 s declared, and 10 runs of deploy_service_a")


def test_too_few_runs_of_the_intent_leave_it_to_the_work_type_and_say_so() -> None:
    agent = make_agent(success_count=40, p50_ms=100_000.0, of_intent=seen(9, 2))
    few = "(of deploy_service_a only 9, and it takes 10)"
    assert told(agent) == (97, f"97 s: 60 s declared, and 40 runs of deploy_service {few}")
    assert told(make_agent()) == (60, "")


def test_the_spread_and_what_is_tricky_are_told() -> None:
    agent = make_agent(of_intent=seen(10, 60, deviation_ms=4_000.0), usual_difficulty=0.4, judged_runs=10)
    text = "60 s: 60 s declared, and 10 runs of deploy_service_a, give or take 4.0 s; usually tricky"
    assert told(agent) == (60, text)
    assert "tricky" not in told(agent._replace(judged_runs=9))[1]


def test_a_step_needs_what_its_runs_have_used_and_never_less_than_is_declared() -> None:
    used = seen(10, 60, memory_mb=2_000.4, cpu_cores=2.6)
    found = estimated(TASK, [make_agent(of_intent=used)], 10)
    assert found.measured_need == make_resources(60, cpu=3, memory=2_000)
    assert found.estimate.endswith("; they used 2,000 MiB of memory and 3 cores")
    assert found.resource_requirements == TASK.resource_requirements, "an approval covers what is declared"
    small = estimated(TASK, [make_agent(of_intent=used._replace(memory_mb=9.0, cpu_cores=0.1))], 10)
    assert (small.measured_need, small.need) == (None, TASK.resource_requirements)


@pytest.mark.parametrize(("runs", "need"), [(9, 512), (10, 3_000)])
def test_few_runs_of_the_work_type_show_no_need(runs: int, need: int) -> None:
    agent = make_agent(success_count=runs, p50_ms=60_000.0, used_memory_mb=3_000.0)
    assert estimated(TASK, [agent], 10).need.memory_mb == need


@pytest.mark.parametrize("said", [-5.0, 1e15])
def test_what_an_agent_says_it_used_is_bounded(said: float) -> None:
    found = estimated(TASK, [make_agent(of_intent=seen(10, 60, memory_mb=said))], 10)
    assert 512 <= found.need.memory_mb <= 1 << 30
