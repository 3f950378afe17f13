"""Routing: filters say who can, scorers who should, and the decision says why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.errors import BadConfiguration
from chargehand.domain.intents import Resources
from chargehand.domain.risks import Risk
from chargehand.domain.routing import Candidate
from chargehand.routing.filters import FILTERS, counted, is_sized, one_line, passes, pool_health
from chargehand.routing.router import (
    ADDITIVE,
    DEFAULT,
    POLICIES,
    RECENT_SECONDS,
    SCORERS,
    WEIGHTED,
    held_back,
    policy_named,
    route,
)
from tests.builders import make_agent, make_resources, make_task

TASK = make_task(resource_requirements=make_resources(cpu=2, memory=1_000))

REJECTED = [  # the filter, and what makes it reject an agent that would otherwise do
    ("offered", {"content_hash": None}, "does not offer it"),
    ("granted", {"granted": False}, "is not allowed to run it"),
    ("unavailable", {"unavailable": "needs node"}, "needs node"),
    ("content", {"content_hash": "other"}, "has another version of it"),
    ("size", {"cpu_cores": 1}, "needs 2 cores, has 1"),
    ("size", {"memory_mb": 999}, "needs 1,000 MiB of memory, has 999"),
    ("online", {"status": "offline"}, "offline"),
    ("draining", {"status": "draining"}, "draining"),
    ("circuit", {"circuit_open_for": 42.0}, "resting for 42 s after failures in a row"),
    ("slots", {"slots": 2, "in_flight": 2}, "full (2 of 2 slots taken)"),
    ("room", {"memory_mb": 1_500, "promised_memory_mb": 600}, "busy: needs 1,000 MiB of memory, 900 left"),
]
LASTING = {filter_.name: filter_.lasting for filter_ in FILTERS}


@pytest.mark.parametrize(("name", "fields", "reason"), REJECTED)
def test_an_agent_that_cannot_is_rejected_with_its_reason(name, fields, reason):
    decision = route(TASK, [make_agent("bad", **fields), make_agent("good")])
    assert decision.selected == "good"
    bad = make_agent("bad", **fields)
    assert decision.candidates[0] == Candidate("bad", "bad", rejected_by=name, reason=reason, facts=bad)


@pytest.mark.parametrize(("name", "fields", "_"), REJECTED)
def test_only_what_never_passes_makes_a_task_infeasible(name, fields, _):
    decision = route(TASK, [make_agent("bad", **fields)])
    assert decision.selected is None
    assert decision.infeasible == (LASTING[name] == "never")


def test_every_filter_is_tried_above_or_has_its_own_test():
    assert set(LASTING) == {name for name, _, _ in REJECTED} | {"pin", "tried", "approved", "usual"}


def test_a_gpu_that_other_work_was_promised_is_busy_and_not_too_small():
    task = make_task(resource_requirements=make_resources(gpu=6_000))
    decision = route(task, [make_agent("gpu-1", gpu_vram_mb=8_000, promised_gpu_vram_mb=6_000)])
    assert (decision.selected, decision.infeasible) == (None, False)
    assert decision.reason == ("0/1 agents can run deploy_service_a: 1 busy: needs 6,000 MiB of GPU memory, 2,000 left")


def test_a_pin_names_an_agent_by_id_or_name():
    agents = [make_agent("id-1", name="infra-1"), make_agent("id-2", name="infra-2")]
    for pin in ("id-2", "infra-2"):
        assert route(make_task(pinned_agent=pin), agents).selected == "id-2"
    nobody = route(make_task(pinned_agent="infra-9"), agents)
    assert nobody.reason == "0/2 agents can run deploy_service_a: 2 are not the agent it is pinned to"
    assert nobody.infeasible


def test_a_pinned_agent_that_is_away_can_be_waited_for():
    agents = [make_agent("a", status="offline"), make_agent("b")]
    assert not route(make_task(pinned_agent="a"), agents).infeasible


def test_who_was_not_there_when_the_plan_was_made_is_not_given_any_of_it():
    task = TASK.model_copy(update={"agents": ("good",)})
    newcomer = make_agent("newcomer", success_count=50, lately_successes=50.0, lately_runs=50.0)
    decision = route(task, [newcomer, make_agent("good")])
    assert decision.selected == "good"
    assert decision.candidates[0].rejected_by == "approved"
    assert not passes(task, newcomer)
    alone = pool_health(task, [newcomer])
    assert (alone.state, alone.hint) == (
        "infeasible",
        "The plan names the agents that may run it; ask again for a new plan.",
    )
    assert route(TASK, [newcomer]).selected == "newcomer", "a plan of an older release names nobody"


def test_an_agent_that_was_tried_yields_to_any_other():
    tried = make_agent("tried", tried=True, success_count=100, recent_request=True)
    assert route(TASK, [tried, make_agent("other", failure_count=50)]).selected == "other"


def test_agents_that_were_tried_are_allowed_again_when_nobody_else_can():
    lately = {"lately_runs": 12.0, "overall_runs": 12.0, "tried": True}
    tried = [make_agent("a", **lately), make_agent("b", **lately, lately_successes=12.0)]
    decision = route(TASK, [*tried, make_agent("c", status="offline")], retried=True)
    assert decision.selected == "b"
    assert decision.retried


def test_an_agent_that_does_not_say_its_size_may_be_large_enough_but_has_no_gpu():
    silent = make_agent(cpu_cores=0, memory_mb=0)
    assert route(TASK, [silent]).selected == "infra-1"
    gpu = route(make_task(resource_requirements=make_resources(gpu=8_192)), [silent])
    assert gpu.reason == "0/1 agents can run deploy_service_a: 1 needs 8,192 MiB of GPU memory, has 0"


def test_the_reason_fits_on_a_line():
    agents = [
        make_agent("infra-1", success_count=9, failure_count=1, specializations=("other",), in_flight=2),
        make_agent("infra-3", success_count=42, failure_count=4, in_flight=1, recent_request=True),
    ]
    assert route(TASK, agents, policy=ADDITIVE).reason == (
        "infra-3: context 30 + success 36.5 (46 runs) + specialization 0 + load 9 = 75.5; runner-up infra-1 44.0"
    )
    assert route(TASK, agents[:1], policy=ADDITIVE).reason.endswith("= 44.0; no other candidate")


def test_the_learned_policy_explains_itself_the_same_way():
    known = {"success_count": 45, "failure_count": 1, "lately_successes": 24.0, "lately_runs": 25.0}
    agents = [make_agent(**known, overall_successes=24.0, overall_runs=25.0, in_flight=2, recent_request=True)]
    assert route(TASK, agents).reason == (
        "infra-1: chance 0.95 (46 runs) - queue 0.05 + context 0.02 = 0.92; no other candidate"
    )
    assert "(0 runs) - queue 0 + context 0" in route(TASK, [make_agent()]).reason


def test_who_has_lately_failed_yields_to_who_has_not_whatever_was_long_ago():
    counts = {"success_count": 90, "failure_count": 10, "lately_runs": 20.0, "overall_runs": 20.0}
    sour = make_agent("sour", **counts, lately_successes=6.0, overall_successes=6.0)
    steady = make_agent("steady", **counts, lately_successes=16.0, overall_successes=16.0)
    assert route(TASK, [sour, steady]).selected == "steady"


def test_nobody_tries_a_new_agent_out_on_what_destroys():
    known = make_agent("known", lately_successes=14.0, lately_runs=20.0, overall_successes=14.0, overall_runs=20.0)
    new = make_agent("new", usual_rate=0.62)
    assert route(TASK, [known, new]).selected == "known"
    eager = make_agent("new", usual_rate=0.68)
    assert route(TASK, [known, eager]).selected == "new"
    assert route(make_task(risk=Risk.DESTROY), [known, eager]).selected == "known"


def test_the_weighted_policy_is_six_tenths_success_and_four_tenths_context():
    (candidate,) = route(TASK, [make_agent(success_count=8, failure_count=2, recent_request=True)],
                         policy=WEIGHTED).candidates  # fmt: skip
    assert candidate.terms == {"success": 0.48, "context": 0.4}


def test_weights_and_the_minimum_of_runs_can_be_set():
    policy = policy_named("additive", {"load": 2.0}, 3)
    assert dict(policy.weights) == {"context": 30.0, "success": 40.0, "specialization": 20.0, "load": 2.0}
    (candidate,) = route(TASK, [make_agent(success_count=3)], policy=policy).candidates
    assert candidate.terms == {"context": 0, "success": 40, "specialization": 0, "load": 20}


@pytest.mark.parametrize(("name", "weights"), [("best", {}), ("learned", {"load": 1.0})])
def test_a_policy_or_weight_that_is_not_there_is_refused(name, weights):
    with pytest.raises(BadConfiguration):
        policy_named(name, weights, 10)


LARGE = [make_agent(f"{n:04d}", granted=n % 3 > 0) for n in range(300)]


def test_in_a_large_pool_a_draw_says_who_is_looked_at_and_is_kept():
    first, again, other = (route(TASK, LARGE, draw=draw) for draw in (7, 7, 12_345))
    assert first == again
    assert first.draw == 7
    assert first.pool_size == 300
    assert sum(c.rejected_by is None for c in first.candidates) == DEFAULT.able
    assert {c.agent_id for c in first.candidates} != {c.agent_id for c in other.candidates}
    assert route(TASK, LARGE[: DEFAULT.look_at_all], draw=7).draw is None


@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_whoever_can_is_found_in_a_large_pool_wherever_the_draw_begins(draw):
    alone = [agent._replace(granted=agent.agent_id == "0123") for agent in LARGE]
    assert route(TASK, alone, draw=draw).selected == "0123"
    nobody = route(TASK, [agent._replace(granted=False) for agent in LARGE], draw=draw)
    assert nobody.infeasible
    assert len(nobody.candidates) == len({c.agent_id for c in nobody.candidates}) == 300


def test_the_seeds_score_term_by_term():
    agent = make_agent(success_count=8, failure_count=2, specializations=("deploy_service",), in_flight=3)
    (candidate,) = route(TASK, [agent], policy=ADDITIVE).candidates
    assert candidate.terms == {"context": 0, "success": 32, "specialization": 20, "load": 7}
    assert candidate.score == 59


def test_a_rate_from_few_runs_does_not_count():
    lucky = make_agent("lucky", success_count=9)
    proven = make_agent("proven", success_count=60, failure_count=40)
    assert route(TASK, [lucky, proven], policy=ADDITIVE).selected == "proven"


@pytest.mark.parametrize(
    ("fields", "recent"),
    [
        ({"recent_request": True}, True),
        ({"recent_context_age": RECENT_SECONDS}, True),
        ({"recent_context_age": RECENT_SECONDS + 1.0}, False),
        ({}, False),
    ],
)
def test_recent_context_is_the_same_request_or_work_type_within_four_hours(fields, recent):
    decision = route(TASK, [make_agent(**fields)], policy=ADDITIVE)
    assert decision.recent_context_match is recent
    assert decision.candidates[0].terms["context"] == (30 if recent else 0)


def test_ties_go_to_the_more_experienced_then_the_less_busy_then_by_id():
    agents = [make_agent(name) for name in ("b", "a", "c")]
    assert route(TASK, agents).selected == "a"
    assert route(TASK, [*agents, make_agent("z", success_count=2, failure_count=2)]).selected == "z"
    # from ten tasks in flight on, the load term no longer tells agents apart
    busy = [make_agent("a", slots=99, in_flight=20), make_agent("b", slots=99, in_flight=19)]
    assert route(TASK, busy, policy=ADDITIVE).selected == "b"


def test_the_audit_columns_are_truthful():
    agent = make_agent(success_count=5, failure_count=2, specializations=("deploy_service",), pool_name="lab")
    decision = route(TASK, [agent])
    assert (decision.success_rate_percent, decision.specialization_match) == (71, True)
    assert (decision.agent_pool, decision.policy, decision.recent_context_match) == ("lab", DEFAULT.name, False)
    assert route(TASK, [make_agent()]).success_rate_percent == 0


def test_nobody_is_counted_closest_first():
    agents = [make_agent("a", status="offline"), make_agent("b", in_flight=4), make_agent("c", status="offline")]
    assert route(TASK, agents).reason == "0/3 agents can run deploy_service_a: 1 full, 2 offline"


def test_agents_that_do_not_offer_it_are_counted_though_nobody_looked_at_them():
    decision = route(TASK, [make_agent("a", in_flight=4)], others=2)
    assert decision.reason == "0/3 agents can run deploy_service_a: 1 full, 2 do not offer it"
    assert pool_health(TASK, [make_agent("a", status="offline")], 1).reason == (
        "0/2 agents can run deploy_service_a: 1 offline, 1 does not offer it"
    )


def test_no_agent_at_all_is_said_and_not_called_infeasible_by_the_router():
    decision = route(TASK, [])
    assert decision.reason == "0/0 agents can run deploy_service_a: no agent is known"
    assert not decision.infeasible


def test_agents_lacking_the_same_are_counted_together():
    lacking = [make_agent(name, unavailable="needs node") for name in "ab"]
    small = [make_agent(name, cpu_cores=1) for name in "cd"]
    assert route(TASK, [*lacking, *small, make_agent("e", unavailable="needs npm")]).reason == (
        "0/5 agents can run deploy_service_a: 2 are too small for it, 2 cannot (needs node), 1 needs npm"
    )


def test_counting_keeps_the_words_of_a_filter_it_does_not_know():
    old = Candidate(agent_id="a", name="a", rejected_by="moon phase", reason="waits for the {moon}")
    assert counted([old], "x") == "0/1 agents can run x: 1 waits for the {moon}"


@pytest.mark.parametrize(
    ("agents", "state"),
    [
        ([make_agent("a"), make_agent("b", status="offline")], "available"),
        ([make_agent("a", in_flight=4)], "available"),
        ([make_agent("a", status="offline"), make_agent("b", content_hash=None)], "unavailable"),
        ([make_agent("a", circuit_open_for=1.0)], "unavailable"),
        ([make_agent("a", status="offline", content_hash=None)], "infeasible"),
        ([], "infeasible"),
    ],
)
def test_the_health_of_a_pool(agents, state):
    assert pool_health(TASK, agents).state == state


def test_an_infeasible_pool_says_what_the_closest_agent_lacks():
    health = pool_health(TASK, [make_agent("a", unavailable="needs node"), make_agent("b", content_hash=None)])
    assert health.reason == "0/2 agents can run deploy_service_a: 1 needs node, 1 does not offer it"
    assert health.hint == "Fix that on the agent's machine, then ask again."


def test_an_agents_words_are_kept_to_one_printable_line():
    assert one_line("needs\n node\x1b[31m") == "needs node [31m"
    assert len(one_line("x" * 1_000)) == 160


def test_every_policy_is_made_of_known_scorers():
    for policy in POLICIES.values():
        assert {name for name, _ in policy.weights} <= set(SCORERS)


agents = st.lists(
    st.builds(
        make_agent,
        agent_id=st.uuids(version=4).map(str),
        status=st.sampled_from(["online", "busy", "draining", "offline"]),
        granted=st.booleans(),
        content_hash=st.sampled_from([None, "other", "hash-of-deploy_service_a"]),
        unavailable=st.sampled_from([None, "needs node"]),
        in_flight=st.integers(0, 4),
        success_count=st.integers(0, 50),
        failure_count=st.integers(0, 50),
        recent_request=st.booleans(),
        tried=st.booleans(),
        circuit_open_for=st.sampled_from([0.0, 9.0]),
    ),
    max_size=6,
    unique_by=lambda agent: agent.agent_id,
)


@settings(max_examples=30)
@given(
    st.builds(make_agent, cpu_cores=st.integers(0, 2), memory_mb=st.integers(0, 2), gpu_vram_mb=st.integers(0, 2)),
    st.builds(Resources, cpu_cores=st.integers(0, 3), memory_mb=st.integers(0, 3), gpu_vram_mb=st.integers(0, 3)),
)
def test_what_is_not_sized_fits_on_every_machine(agent, need):
    task = TASK.model_copy(update={"resource_requirements": need})
    assert passes(task, agent, is_sized(need)) == passes(task, agent)
    assert passes(task, agent) == (not any(f.rejects(task, agent) for f in FILTERS))


@settings(max_examples=15)
@given(agents, st.sampled_from(list(POLICIES.values())))
def test_a_preference_never_overrides_a_filter(pool, policy):
    decision = route(TASK, pool, policy=policy)
    chosen = [agent for agent in pool if agent.agent_id == decision.selected]
    for agent in pool:
        rejections = [f.name for f in FILTERS if f.name != "tried" and f.rejects(TASK, agent)]
        assert passes(TASK, agent) is not bool(rejections)
    for agent in chosen:
        assert not [f.name for f in FILTERS if not f.gives_way and f.rejects(TASK, agent)]
    able = [a for a in pool if not any(f.rejects(TASK, a) for f in FILTERS if not f.gives_way)]
    assert len(chosen) == bool(able)
    assert all((c.score is None) != (c.rejected_by is None) for c in decision.candidates)


@settings(max_examples=30)
@given(agents, st.floats(0.1, 100.0), st.integers(0, 3))
def test_waiting_never_overrides_a_filter_but_the_one_that_passes_by_itself(pool, wait_limit, in_line):
    pool = [agent._replace(in_line=in_line) for agent in pool]
    at_once, waiting = route(TASK, pool), route(TASK, pool, wait_limit=wait_limit)
    assert (at_once.selected is None) == (waiting.selected is None and waiting.waits_for is None)
    assert at_once.waits_for is None
    assert not (waiting.selected and waiting.waits_for)
    for agent in pool:
        if agent.agent_id == waiting.waits_for:
            assert not [f.name for f in FILTERS if f.name not in {"slots", "tried"} and f.rejects(TASK, agent)]


@settings(max_examples=15)
@given(agents, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_agents(pool, chance):
    shuffled = chance.sample(pool, len(pool))
    first, second = route(TASK, pool), route(TASK, shuffled)
    assert (first.selected, first.infeasible) == (second.selected, second.infeasible)


FULL = make_agent("best", slots=2, in_flight=2, lately_successes=30.0, lately_runs=30.0)
FREE = make_agent("free", lately_successes=12.0, lately_runs=30.0)


def test_a_better_agent_that_is_full_is_waited_for_until_the_limit():
    assert route(TASK, [FULL, FREE]).selected == "free"
    decision = route(TASK, [FULL, FREE], wait_limit=40.0)
    assert (decision.selected, decision.waits_for, decision.infeasible) == (None, "best", False)
    assert decision.reason == (
        "waits for best: chance 0.93 (0 runs) + context 0 - line 0.07 = 0.85; free now free 0.44"
    )
    for imwaiting in (ADDITIVE, WEIGHTED, DEFAULT._replace(line=None)):
        assert route(TASK, [FULL, FREE], policy=imwaiting, wait_limit=40.0).selected == "free"


def test_nobody_joins_a_line_that_is_longer_than_the_agent_is_better():
    assert route(TASK, [FULL._replace(in_line=2), FREE], wait_limit=40.0).waits_for == "best"
    assert route(TASK, [FULL._replace(in_line=9), FREE], wait_limit=40.0).selected == "free"


def test_a_slot_that_somebody_waits_for_is_left_to_him_while_another_agent_is_free():
    called = FULL._replace(in_flight=1, in_line=1)
    worse = make_agent("worse", lately_runs=30.0)
    assert route(TASK, [called, FREE], wait_limit=40.0).waits_for == "best"
    assert route(TASK, [called._replace(in_line=0), FREE], wait_limit=40.0).selected == "best"
    assert route(TASK, [called, FULL._replace(agent_id="other")], wait_limit=40.0).selected == "best"
    assert route(TASK, [FREE._replace(slots=1, in_line=1), worse._replace(lately_successes=12.0)],
                 wait_limit=40.0).selected == "worse"  # fmt: skip


def test_nobody_waits_for_who_was_tried_is_away_or_is_not_allowed():
    for fields in ({"tried": True}, {"status": "offline"}, {"granted": False}, {"circuit_open_for": 9.0}):
        assert route(TASK, [FULL._replace(**fields), FREE], wait_limit=40.0).selected == "free"


def test_work_that_is_held_back_looks_at_nobody():
    decision = held_back(TASK, "host:alpha is in use by request 7")
    assert (decision.selected, decision.candidates, decision.infeasible) == (None, (), False)
    assert decision.reason == "host:alpha is in use by request 7"
