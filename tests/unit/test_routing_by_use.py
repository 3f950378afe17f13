"""Routing goes by what is free now, by what runs have used, and by how hard the work is; and says so."""

from __future__ import annotations

import json

from chargehand.domain.plans import WorkTask
from chargehand.domain.routing import AgentFacts, Figures
from chargehand.routing.replay import replayed, stored
from chargehand.routing.router import route
from tests.builders import make_agent, make_resources, make_task

TASK = make_task(resource_requirements=make_resources(cpu=2, memory=1_000))
COLUMNS = ("reason", "success_rate_percent", "specialization_match", "recent_context_match", "agent_pool")


def needing(declared: int = 0, measured: int | None = None) -> WorkTask:
    need = None if measured is None else make_resources(memory=measured)
    return make_task(resource_requirements=make_resources(memory=declared), measured_need=need)


def test_work_does_not_go_where_others_use_the_memory():
    task = needing(23_800)
    busy, idle = (make_agent(name, memory_mb=32_000) for name in ("busy", "idle"))
    busy = busy._replace(free_memory_mb=16_600, success_count=50, lately_successes=30.0, lately_runs=30.0)
    decision = route(task, [busy, idle._replace(free_memory_mb=30_000)])
    assert decision.selected == "idle"
    assert decision.candidates[0].reason == "busy: needs 23,800 MiB of memory, 16,600 left"
    alone = route(task, [busy])
    assert (alone.selected, alone.infeasible) == (None, False), "the memory may be given back"
    assert route(task, [busy._replace(free_memory_mb=None)]).selected == "busy"


def test_what_begins_after_the_heartbeat_takes_of_what_was_free_then():
    agent = make_agent(memory_mb=32_000, free_memory_mb=10_000)
    assert route(needing(6_000), [agent]).selected
    assert route(needing(6_000), [agent._replace(unseen_memory_mb=5_000)]).selected is None
    gpu = make_agent(gpu_vram_mb=8_000, free_gpu_vram_mb=1_000)
    assert route(make_task(resource_requirements=make_resources(gpu=2_000)), [gpu]).selected is None


def test_what_is_only_measured_is_preferred_and_never_keeps_work_from_everybody():
    small, large = make_agent("a", memory_mb=2_000), make_agent("b", memory_mb=64_000)
    decision = route(needing(500, measured=8_000), [small, large])
    assert decision.selected == "b"
    assert decision.candidates[0].reason == "usually needs 8,000 MiB of memory, has 2,000"
    assert route(needing(500, measured=8_000), [small]).selected == "a"
    short = large._replace(free_memory_mb=7_000)
    assert route(needing(500, measured=8_000), [short]).selected == "b"
    told = route(needing(500, measured=8_000), [short, large._replace(agent_id="c", name="c")])
    assert (told.selected, told.candidates[0].reason) == ("c", "usually needs 8,000 MiB of memory, 7,000 free")


def test_what_is_measured_waits_for_the_agents_own_work():
    agent = make_agent(memory_mb=16_000, promised_memory_mb=10_000)
    assert route(needing(500, measured=8_000), [agent]).selected is None
    assert route(needing(500, measured=80_000), [agent]).selected is None
    assert route(needing(500, measured=80_000), [agent._replace(promised_memory_mb=0)]).selected


def test_of_equals_the_less_loaded_machine_is_chosen():
    assert route(TASK, [make_agent("a", load=3.0), make_agent("b", load=0.2)]).selected == "b"


def test_a_specialization_counts_double_for_tricky_work_and_it_is_said():
    hard = {"usual_difficulty": 0.5, "judged_runs": 10}
    agents = [make_agent("a", **hard), make_agent("b", specializations=("deploy_service",), **hard)]
    decision = route(TASK, agents)
    assert decision.selected == "b"
    assert decision.reason.endswith("; tricky work (10 runs), so a declared specialization counts double")
    few = route(TASK, [agent._replace(judged_runs=9) for agent in agents])
    assert "tricky" not in few.reason
    assert (few.predicted_success or 0) < (decision.predicted_success or 0)
    assert "tricky" not in route(TASK, [agent._replace(specializations=()) for agent in agents]).reason


def test_a_duration_is_predicted_by_the_intents_runs_and_says_of_how_many():
    agent = make_agent(success_count=30, p50_ms=90_000.0, of_intent=Figures(12, p50_ms=2_000.0, deviation_ms=500.0))
    decision = route(TASK, [agent])
    assert (decision.predicted_ms, decision.prediction) == (2_000, "12 runs of deploy_service_a, give or take 0.5 s")
    few = route(TASK, [agent._replace(of_intent=Figures(3, p50_ms=2_000.0))])
    told = "30 runs of deploy_service (3 runs of deploy_service_a, fewer than 10)"
    assert (few.predicted_ms, few.prediction) == (90_000, told)
    assert route(TASK, [make_agent()]).prediction == ""


def test_a_decision_stored_with_fewer_facts_is_taken_again():
    agents = [make_agent("a", success_count=3), make_agent("b")]
    decision = route(TASK, agents)
    value = json.loads(json.dumps(stored(decision)))
    for candidate in value["candidates"]:
        candidate["facts"] = candidate["facts"][: AgentFacts._fields.index("tried") + 1]
    again = replayed(TASK, {"decision": value, **{name: getattr(decision, name) for name in COLUMNS}})
    assert again is not None
    assert again.same
