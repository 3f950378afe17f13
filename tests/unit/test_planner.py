"""Plans: typed tasks from subtasks, refusals that count their reasons, and a digest that binds to content."""

from __future__ import annotations

from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.errors import BadDecomposition, BadParameters, Infeasible
from chargehand.domain.plans import WAITS, WorkPlan
from chargehand.domain.risks import Risk
from chargehand.planning.digest import digest
from chargehand.planning.planner import HEALTH, PlanFacts, asked_of_pool, complexity, make_plan
from chargehand.routing.filters import State
from tests.builders import (
    NOW,
    make_agent,
    make_catalog,
    make_decomposed,
    make_id,
    make_resources,
    make_spec,
    make_subtask,
    make_task,
)
from tests.builders import make_plan as build_plan

A, B, C = "deploy_a", "configure_b", "check_c"


def plan_of(decomposed, catalog, pool=None, **fields):
    """Plan it; unless a pool is given, one idle agent offers everything."""
    if pool is None:
        pool = {intent: [make_agent(intent=intent)] for intent in catalog.intents}
    ids = [make_id(f"task {n}") for n in range(len(decomposed.subtasks))]
    return make_plan(decomposed, catalog, pool, PlanFacts(make_id("plan"), ids, NOW, **fields))


def test_a_task_takes_everything_from_its_spec():
    spec = make_spec(
        A,
        parameters={"host": {"type": "string"}, "port": {"type": "integer", "default": 80}},
        work_type="run_playbook",
        resources=make_resources(90, cpu=2),
        risk=Risk.DESTROY,
        retry_safe=True,
        exclusive_keys=("host:{host}",),
    )
    subtask = make_subtask(1, A, name="Deploy A", confidence=0.8, parameters={"host": "alpha"}, flags=("new host",))
    (task,) = plan_of(make_decomposed(subtask), make_catalog(spec)).tasks
    assert task.parameters == {"host": "alpha", "port": 80}
    assert task.exclusive_keys == ("host:alpha",)
    assert (task.name, task.work_type, task.risk, task.retry_safe) == ("Deploy A", "run_playbook", "destroy", True)
    assert (task.content_hash, task.source) == (spec.content_hash, spec.source)
    assert (task.confidence, task.flags, task.resource_requirements) == (0.8, ("new host",), make_resources(90, cpu=2))


def test_a_plan_says_who_made_it_and_what_it_assumes():
    unsure = make_subtask(2, B, name="configure b", flags=("two portals match",))
    decomposed = make_decomposed(A, unsure, notice="plain commands only", assumptions=("the host is alpha",))
    plan = plan_of(decomposed, make_catalog(A, B), version=3)
    assert plan.notes == (
        "plain commands only",
        "assumed: the host is alpha",
        "step 2 (configure b): two portals match",
    )
    assert (plan.plan_id, plan.version, plan.created_at, plan.digest) == (make_id("plan"), 3, NOW, digest(plan))


def test_dependencies_are_those_of_the_request_and_of_the_intents():
    catalog = make_catalog(A, make_spec(B, after=(A, "not_in_this_plan")), C)
    decomposed = make_decomposed(make_subtask(1, B), make_subtask(2, A), make_subtask(3, C, depends_on=(1,)))
    plan = plan_of(decomposed, catalog)
    assert [(task.order, task.intent, task.depends_on) for task in plan.tasks] == [
        (1, A, ()),
        (2, B, (1,)),
        (3, C, (2,)),
    ]


def test_an_intent_said_to_come_after_itself_does_not_wait_for_itself():
    plan = plan_of(make_decomposed(A, A), make_catalog(make_spec(A, after=(A,))))
    assert [task.depends_on for task in plan.tasks] == [(), ()]


def test_intents_that_both_come_after_the_other_cannot_be_planned_together():
    with pytest.raises(BadDecomposition, match="in a circle"):
        plan_of(make_decomposed(A, B), make_catalog(make_spec(A, after=(B,)), make_spec(B, after=(A,))))


@pytest.mark.parametrize(
    ("decomposed", "message"),
    [
        (make_decomposed("make_coffee"), "no agent offers 'make_coffee'"),
        (make_decomposed(), "there is nothing in it that an agent can do"),
        (make_decomposed(A, ambiguities=("which host?",)), r"a person must answer first: which host\?"),
        (make_decomposed(make_subtask(1, A, depends_on=(9,))), "step 1 depends on step 9, which is not there"),
        (make_decomposed(make_subtask(1, A), make_subtask(1, B)), "two steps have the same number"),
        (
            make_decomposed(
                make_subtask(1, A, depends_on=(3,)), make_subtask(2, B), make_subtask(3, C, depends_on=(1,))
            ),
            r"the steps wait for each other in a circle: deploy_a \(1\) -> check_c \(3\) -> deploy_a \(1\)",
        ),
    ],
)
def test_what_is_not_a_plan_is_refused_in_words_a_model_can_use(decomposed, message):
    with pytest.raises(BadDecomposition, match=f"^{message}$"):
        plan_of(decomposed, make_catalog(A, B, C))


def test_an_unknown_intent_is_told_what_there_is():
    with pytest.raises(BadDecomposition) as caught:
        plan_of(make_decomposed("make_coffee"), make_catalog(A, B))
    assert caught.value.hint == "What is offered: configure_b, deploy_a."


def test_parameters_that_do_not_fit_are_refused():
    with pytest.raises(BadParameters, match="deploy_a takes no parameter colour"):
        plan_of(make_decomposed(make_subtask(1, A, parameters={"colour": "red"})), make_catalog(A))


def test_what_no_agent_could_ever_do_is_refused_with_reasons_counted():
    node = make_spec("deploy_kuma", unavailable="needs node, which is not on this machine's PATH")
    pool = {
        "deploy_kuma": [
            make_agent("a", "deploy_kuma", unavailable=node.unavailable),
            make_agent("b", content_hash=None),
            make_agent("c", content_hash=None, status="offline"),
        ]
    }
    with pytest.raises(Infeasible) as caught:
        plan_of(make_decomposed("deploy_kuma"), make_catalog(node), pool)
    assert str(caught.value) == (
        "0/3 agents can run deploy_kuma: 1 needs node, which is not on this machine's PATH, 2 do not offer it"
    )
    assert caught.value.hint == "Fix that on the agent's machine, then ask again."


def test_every_task_that_is_infeasible_is_named():
    with pytest.raises(
        Infeasible, match=r"step 1 \(.*\) cannot be done: 0/0 agents can run deploy_a: .*; step 2 .*check_c: "
    ):
        plan_of(make_decomposed(A, C, A), make_catalog(A, C), {})


MAY_WAIT = {"otherwise": ("wait",), "may_wait": True}
AWAY = {A: [make_agent(intent=A, status="offline")], B: [make_agent("infra-2", B)], C: [make_agent("infra-2", C)]}


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_one_step_without_an_agent_is_enough_to_refuse_what_may_not_wait(mode):
    with pytest.raises(Infeasible) as caught:
        plan_of(make_decomposed(B, A, C), make_catalog(A, B, C), AWAY, mode=mode)
    assert str(caught.value) == (
        "step 2 (deploy a) has nobody to do it now: 0/1 agents can run deploy_a: 1 offline; can be done: step 1, 3"
    )
    assert "--otherwise wait" in caught.value.hint


def test_only_what_was_agreed_to_waits_without_end():
    later = plan_of(make_decomposed(A, B), make_catalog(A, B), AWAY, may_wait=True)  # it has a time to start
    assert [task.may_wait for task in later.tasks] == [False, False]
    assert later.notes == ("step 1 has nobody to do it now: 0/1 agents can run deploy_a: 1 offline",)
    agreed = plan_of(make_decomposed(A, B), make_catalog(A, B), AWAY, **MAY_WAIT)
    assert [task.may_wait for task in agreed.tasks] == [True, True]


def test_every_health_of_a_pool_has_its_words():
    assert set(HEALTH) == set(get_args(State))


def test_side_by_side_what_nobody_can_do_just_now_comes_last_and_says_that_it_waits():
    pool = {A: [make_agent(intent=A, status="offline")], B: [make_agent("infra-2", B)]}
    plan = plan_of(make_decomposed(A, B), make_catalog(A, B), pool, mode="parallel", **MAY_WAIT)
    reason = "0/1 agents can run deploy_a: 1 offline"
    assert [task.intent for task in plan.tasks] == [B, A]
    assert plan.tasks[1].alternatives == (WAITS,)
    assert plan.notes[0] == f"step 2 waits for as long as it takes: {reason}"
    assert "another order (2, 1)" in plan.notes[1], "and the order says why"


def test_a_task_for_a_gpu_that_is_away_lets_the_others_go_first():
    gpu = make_spec(A, resources=make_resources(gpu=8_000))
    agents = {intent: [make_agent("cpu", intent), make_agent("gpu", intent, gpu_vram_mb=8_000)] for intent in (A, B)}
    assert [task.intent for task in plan_of(make_decomposed(A, B), make_catalog(gpu, B), agents).tasks] == [A, B]
    away = {intent: [cpu, gpu._replace(status="offline")] for intent, (cpu, gpu) in agents.items()}
    parallel = plan_of(make_decomposed(A, B), make_catalog(gpu, B), away, mode="parallel", **MAY_WAIT)
    assert [task.intent for task in parallel.tasks] == [B, A]
    sequential = plan_of(make_decomposed(A, B), make_catalog(gpu, B), away, **MAY_WAIT)
    assert [task.intent for task in sequential.tasks] == [A, B]


ANNOUNCE, STOP, MIGRATE, START = "announce_maintenance", "stop_shop", "migrate_database", "start_shop"


def test_one_after_the_other_the_order_is_the_one_asked_for_however_long_the_steps_take():
    """The order that surprised: announce, migrate, stop, start, because the database takes longest."""
    specs = [
        make_spec(ANNOUNCE, risk=Risk.READ, resources=make_resources(5)),
        make_spec(STOP, exclusive_keys=("service:shop",), resources=make_resources(10)),
        make_spec(MIGRATE, exclusive_keys=("database:shop",), resources=make_resources(900, cpu=4)),
        make_spec(START, exclusive_keys=("service:shop",), resources=make_resources(10)),
    ]
    plan = plan_of(make_decomposed(ANNOUNCE, STOP, MIGRATE, START), make_catalog(*specs))
    assert [task.intent for task in plan.tasks] == [ANNOUNCE, STOP, MIGRATE, START]
    assert not [note for note in plan.notes if "order" in note]


def test_one_after_the_other_a_step_that_waits_keeps_its_place_and_says_who_may_go_first():
    keys = {A: ("host:a",), B: ("host:b",), C: ()}
    specs = [make_spec(intent, exclusive_keys=keys[intent]) for intent in (A, B, C)]
    pool = {A: [make_agent(intent=A, status="offline")], **{x: [make_agent("infra-2", x)] for x in (B, C)}}
    plan = plan_of(make_decomposed(A, B, C), make_catalog(*specs), pool, **MAY_WAIT)
    assert [task.intent for task in plan.tasks] == [A, B, C]
    reason = "0/1 agents can run deploy_a: 1 offline"
    assert plan.notes == (f"step 1 waits for as long as it takes: {reason}; step 2 may go first meanwhile",)


def test_one_after_the_other_only_a_dependency_changes_the_order_and_the_plan_says_so():
    decomposed = make_decomposed(make_subtask(1, A, depends_on=(2,)), make_subtask(2, B), make_subtask(3, C))
    plan = plan_of(decomposed, make_catalog(A, B, C))
    assert [task.intent for task in plan.tasks] == [B, A, C]
    assert plan.notes == ("asked for in another order (2, 1, 3): a step comes after those that it depends on",)


def test_full_agents_do_not_make_a_plan_wait():
    pool = {A: [make_agent(intent=A, in_flight=4)]}
    assert plan_of(make_decomposed(A), make_catalog(A), pool).notes == ()


def test_an_agent_that_does_not_say_its_size_is_taken_to_be_large_enough():
    large = make_spec(A, resources=make_resources(cpu=64, memory=512_000))
    pool = {intent: [make_agent(intent=intent, cpu_cores=0, memory_mb=0)] for intent in (A, B)}
    assert [task.intent for task in plan_of(make_decomposed(A, B), make_catalog(large, B), pool).tasks] == [A, B]


def test_durations_add_up_one_at_a_time_and_overlap_in_parallel():
    specs = [make_spec(intent, resources=make_resources(seconds)) for intent, seconds in ((A, 60), (B, 30), (C, 45))]
    decomposed = make_decomposed(make_subtask(1, A), make_subtask(2, B), make_subtask(3, C, depends_on=(2,)))
    assert plan_of(decomposed, make_catalog(*specs)).estimated_duration_seconds == 135
    parallel = plan_of(decomposed, make_catalog(*specs), mode="parallel")
    assert (parallel.mode, parallel.estimated_duration_seconds) == ("parallel", 75)


def test_durations_are_those_that_agents_have_needed_and_the_digest_stays():
    catalog = make_catalog(make_spec(A, resources=make_resources(60)), make_spec(B, resources=make_resources(60)))
    runs = {"success_count": 20, "failure_count": 7, "p50_ms": 600_000.0}
    pool = {
        A: [make_agent(intent=A, **runs), make_agent("away", A, status="offline", **runs)],
        B: [make_agent(intent=B)],
    }
    new = {intent: [agent._replace(p50_ms=None) for agent in agents] for intent, agents in pool.items()}
    learnt, before = (plan_of(make_decomposed(A, B), catalog, some, mode="parallel") for some in (pool, new))
    slow, quick = sorted(learnt.tasks, key=lambda task: task.intent, reverse=True)
    assert slow.resource_requirements.estimated_duration_seconds == round((3 * 60 + 20 * 600) / 23)
    told = "530 s: 60 s declared, and 20 runs of deploy_service (of deploy_a only 0, and it takes 10)"
    assert slow.estimate == told
    assert (quick.resource_requirements.estimated_duration_seconds, quick.estimate) == (60, "")
    assert learnt.estimated_duration_seconds > before.estimated_duration_seconds
    assert learnt.digest == before.digest


def test_what_is_learnt_of_durations_changes_the_order():
    catalog = make_catalog(
        *(make_spec(name, work_type=name, resources=make_resources(60, cpu=8)) for name in (A, B, C))
    )
    known = {"success_count": 50, "p50_ms": 900_000.0}
    pool = {name: [make_agent(intent=name, cpu_cores=16, **(known if name == C else {}))] for name in (A, B, C)}
    plan = plan_of(make_decomposed(A, B, C), catalog, pool, mode="parallel")
    assert [task.intent for task in plan.tasks] == [
        A,
        C,
        B,
    ]  # two fit side by side, and the long one must begin at once


def test_a_dry_run_is_refused_where_it_would_really_be_done():
    tryable, reading, real = make_spec(A, dry_run=True), make_spec(B, risk=Risk.READ), make_spec(C)
    assert plan_of(make_decomposed(A, B), make_catalog(tryable, reading), dry_run=True).dry_run
    with pytest.raises(Infeasible, match=r"^check_c cannot be tried without changing anything$"):
        plan_of(make_decomposed(A, C), make_catalog(tryable, real), dry_run=True)


@pytest.mark.parametrize(
    ("tasks", "level"),
    [
        ([{}] * 3, "simple"),
        ([{}] * 4, "medium"),
        ([{}, {"work_type": "research"}], "complex"),
        ([{"agent_type": kind} for kind in ("infra", "code", "infra", "code")], "medium"),
        ([{"agent_type": kind} for kind in ("infra", "code", "infra", "code", "infra")], "complex"),
    ],
)
def test_complexity_is_work_types_then_hand_overs_then_length(tasks, level):
    assert complexity([make_task(order, **fields) for order, fields in enumerate(tasks, start=1)]) == level


def test_many_steps_are_remarked_on():
    assert plan_of(make_decomposed(*[A] * 6), make_catalog(A)).notes == (
        "this request has 6 steps; could some be combined?",
    )
    assert plan_of(make_decomposed(*[A] * 5), make_catalog(A)).notes == ()


def test_the_pool_is_asked_once_per_intent_that_exists():
    decomposed = make_decomposed(A, "custom_work", A, "make_coffee")
    assert asked_of_pool(decomposed, make_catalog(A)) == [(A, "deploy_service")]


# --- the digest ---

COVERED = [
    {"intent": "deploy_other"},
    {"content_hash": "other"},
    {"parameters": {"port": 81}},
    {"parameters": {"port": 80, "extra": None}},
    {"risk": Risk.DESTROY},
    {"resource_requirements": make_resources(cpu=2)},
    {"resource_requirements": make_resources(memory=1)},
    {"resource_requirements": make_resources(gpu=1)},
    {"exclusive_keys": ("host:a",)},
    {"pinned_agent": "infra-1"},
    {"retry_safe": True},
    {"agents": ("nas",)},
    {"alternatives": (WAITS,)},
    {"depends_on": ()},
]
NOT_COVERED = [
    {"task_id": make_id("other")},
    {"name": "another name"},
    {"resource_requirements": make_resources(999)},
    {"confidence": 0.1},
    {"flags": ("odd",)},
    {"source": "elsewhere.yml"},
    {"contested": "two offer it differently"},
]
FIRST = make_task(1, parameters={"port": 80})
SECOND = make_task(2, parameters={"port": 80}, depends_on=(1,))


@pytest.mark.parametrize("change", COVERED)
def test_any_change_of_what_was_approved_changes_the_digest(change):
    assert digest(build_plan(FIRST, SECOND.model_copy(update=change))) != digest(build_plan(FIRST, SECOND))


@pytest.mark.parametrize("change", NOT_COVERED)
def test_names_times_estimates_and_ids_do_not(change):
    assert digest(build_plan(FIRST, SECOND.model_copy(update=change))) == digest(build_plan(FIRST, SECOND))


def test_the_plan_as_a_whole():
    plan = build_plan(FIRST, SECOND)
    for change in ({"mode": "parallel"}, {"dry_run": True}, {"tasks": (FIRST,)}):
        assert digest(plan.model_copy(update=change)) != digest(plan)
    for change in ({"plan_id": make_id("x")}, {"version": 2}, {"notes": ("x",)}, {"estimated_duration_seconds": 1}):
        assert digest(plan.model_copy(update=change)) == digest(plan)


def test_the_digest_survives_being_stored():
    task = make_task(parameters={"share": 1e22, "rate": 1.0, "words": "\u00fc\u2713", "nested": [{"b": 1, "a": None}]})
    plan = build_plan(task)
    assert digest(WorkPlan.model_validate_json(plan.model_dump_json())) == digest(plan)
    as_jsonb = task.model_copy(update={"parameters": task.parameters | {"share": 10**22, "rate": 1}})
    assert digest(build_plan(as_jsonb)) == digest(plan)


def test_equal_tasks_are_told_apart_by_their_dependencies():
    """Two plans of the same tasks: both restarts after one deployment, or one after each."""
    tasks = [make_task(1), make_task(2), make_task(3, B), make_task(4, B)]
    both_after_one = [tasks[0], tasks[1], *(task.model_copy(update={"depends_on": (1,)}) for task in tasks[2:])]
    one_after_each = [
        *tasks[:2],
        *(task.model_copy(update={"depends_on": (order,)}) for order, task in enumerate(tasks[2:], start=1)),
    ]
    assert digest(build_plan(*both_after_one)) != digest(build_plan(*one_after_each))


def test_equal_chains_may_be_listed_in_any_order():
    chains = [make_task(1), make_task(2), make_task(3, B, depends_on=(1,)), make_task(4, B, depends_on=(2,))]
    assert len({digest(build_plan(*relisted(chains, listing))) for listing in permutations(range(4))}) == 1


def relisted(tasks, listing):
    """List the tasks in another order and number them by it."""
    place = {tasks[index].order: n for n, index in enumerate(listing, start=1)}
    return [
        tasks[index].model_copy(
            update={
                "order": place[tasks[index].order],
                "depends_on": tuple(place[order] for order in tasks[index].depends_on),
            }
        )
        for index in listing
    ]


@st.composite
def task_lists(draw):
    """Up to six tasks of two kinds, so that equal ones are common, with any dependencies on earlier ones."""
    kinds = draw(st.lists(st.sampled_from([A, B]), min_size=1, max_size=6))
    return [
        make_task(n, kind, depends_on=tuple(draw(st.sets(st.integers(1, n - 1), max_size=2))) if n > 1 else ())
        for n, kind in enumerate(kinds, start=1)
    ]


@settings(max_examples=15)
@given(task_lists(), st.randoms(use_true_random=False))
def test_reordering_and_estimates_keep_the_digest(tasks, chance):
    listing = chance.sample(range(len(tasks)), len(tasks))
    other = [
        task.model_copy(update={"resource_requirements": make_resources(chance.randint(1, 999))})
        for task in relisted(tasks, listing)
    ]
    assert digest(build_plan(*other)) == digest(build_plan(*tasks))


@settings(max_examples=15)
@given(task_lists(), task_lists())
def test_plans_with_one_digest_are_the_same_plan_relisted(one, other):
    if digest(build_plan(*one)) == digest(build_plan(*other)):
        assert len(one) == len(other)
        assert any(shape(relisted(one, listing)) == shape(other) for listing in permutations(range(len(one))))


def shape(tasks):
    return [(task.intent, sorted(task.depends_on)) for task in tasks]
