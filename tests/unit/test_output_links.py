"""Outputs as parameters, up to the plan: who may refer to what, what is linked by itself, what the digest covers."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.catalog.catalog import Catalog
from chargehand.domain.errors import BadDecomposition, BadParameters
from chargehand.domain.intents import IntentSpec, OutputRef, Variant
from chargehand.domain.llm import Reply
from chargehand.domain.plans import DecomposedRequest, WorkPlan, WorkTask
from chargehand.planning.digest import digest
from chargehand.planning.planner import PlanFacts, make_plan
from chargehand.understanding.nlu import Thresholds, read_reply
from chargehand.understanding.questions import build_ask
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

URL = {"type": "string", "minLength": 1}


def returning(**outputs: Any) -> dict[str, Any]:
    return {"type": "object", "properties": outputs, "required": sorted(outputs)}


DEPLOY = make_spec("deploy_kuma", service="kuma", outputs=returning(url=URL, port={"type": "integer"}))
PORTALS = make_spec(
    "add_portals",
    parameters={
        "properties": {"kuma_url": {"type": "string"}, "only": {"type": "string", "default": "all"}},
        "required": ["kuma_url"],
    },
)
CATALOG = make_catalog(DEPLOY, PORTALS)
FROM_DEPLOY = {"kuma_url": {"subtask": 1, "output": "url"}}


def read(
    *subtasks: dict[str, Any], catalog: Catalog = CATALOG, tier: str = "local", text: str = "words"
) -> DecomposedRequest:
    """Read what a tier said: intents with what is put beside them."""
    given: list[dict[str, Any]] = [
        {"order": n, "name": s["intent"], "confidence": 0.9, "words": s["intent"], **s}
        for n, s in enumerate(subtasks, 1)
    ]
    ask = build_ask(make_id("request"), text, catalog)
    return read_reply(Reply(tier=tier, model="m", value={"subtasks": given}), ask, Thresholds())


def plan_of(decomposed: DecomposedRequest, catalog: Catalog = CATALOG, **facts: Any) -> WorkPlan:
    pool = {spec.intent: [make_agent(intent=spec.intent)] for spec in catalog.specs}
    ids = [make_id(f"task {n}") for n in range(len(decomposed.subtasks))]
    return make_plan(decomposed, catalog, pool, PlanFacts(make_id("plan"), ids, NOW, **facts))


def changed(spec: IntentSpec, **fields: Any) -> IntentSpec:
    return spec.model_copy(update=fields)


# --- what a model or a person says ---


def test_a_reference_becomes_an_input_of_the_task_that_takes_it_and_makes_it_wait() -> None:
    got = read({"intent": "deploy_kuma"}, {"intent": "add_portals", "inputs": FROM_DEPLOY})
    assert got.subtasks[1].inputs == {"kuma_url": OutputRef(task=1, output="url")}
    assert got.subtasks[1].depends_on == (1,)
    assert got.ambiguities == ()
    first, second = plan_of(got).tasks
    assert second.inputs == {"kuma_url": OutputRef(task=1, output="url")}
    assert (second.depends_on, second.parameters) == ((1,), {"only": "all"})
    assert second.takes["properties"] == {"kuma_url": {"type": "string"}}
    assert first.outputs == DEPLOY.outputs


def test_renumbering_keeps_references_right() -> None:
    """A model may number as it likes, and the order of the plan is another one again."""
    slow = make_spec("build_index", resources=make_resources(900))
    catalog = make_catalog(DEPLOY, PORTALS, slow)
    got = read(
        {"intent": "build_index", "order": 2},
        {"intent": "add_portals", "order": 40, "inputs": {"kuma_url": {"subtask": 7, "output": "url"}}},
        {"intent": "deploy_kuma", "order": 7},
        catalog=catalog,
    )
    assert [task.intent for task in got.subtasks] == ["build_index", "deploy_kuma", "add_portals"]
    assert got.subtasks[2].inputs["kuma_url"].task == 2
    busy = {"build_index": [make_agent(intent="build_index", status="offline")]}
    pool = {spec.intent: [make_agent(intent=spec.intent)] for spec in catalog.specs} | busy
    facts = PlanFacts(make_id("plan"), [make_id(n) for n in range(3)], NOW, mode="parallel", may_wait=True)
    plan = make_plan(got, catalog, pool, facts)
    assert [task.intent for task in plan.tasks] == ["deploy_kuma", "add_portals", "build_index"]
    assert [task.subtask for task in plan.tasks] == [2, 3, 1]
    assert plan.tasks[1].inputs["kuma_url"].task == 1


SECRET = {"type": "string", "format": "secret", "writeOnly": True}


@pytest.mark.parametrize(
    ("inputs", "part"),
    [
        ({"kuma_url": {"subtask": 9, "output": "url"}}, "depends on 9, which is not there"),
        ({"kuma_url": {"subtask": 2, "output": "url"}}, "wait for each other"),
        ({"kuma_url": {"subtask": 1, "output": "password"}}, "deploy_kuma declares url, port"),
        ({"kuma_url": {"subtask": 1, "output": "port"}}, 'it may break the rule type: "string"'),
        ({"colour": {"subtask": 1, "output": "url"}}, "add_portals takes no parameter of that name"),
        ({"only": {"subtask": 1, "output": "url"}}, "a value is given, too"),
        ({"kuma_url": {"subtask": 1, "output": "url", "default": "x"}}, "wrong shape"),
        ({"kuma_url": "{{ tasks.1.url }}"}, "wrong shape"),
    ],
)
def test_a_reference_that_does_not_hold_is_refused_with_what_to_repair(inputs: dict[str, Any], part: str) -> None:
    with pytest.raises(BadDecomposition) as refused:
        read({"intent": "deploy_kuma"}, {"intent": "add_portals", "parameters": {"only": "home"}, "inputs": inputs})
    assert part in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        (changed(PORTALS, exclusive_keys=("kuma:{kuma_url}",)), "locks what it names"),
        (changed(PORTALS, parameters={"properties": {"kuma_url": SECRET}}), "may hold a secret"),
        (changed(PORTALS, parameters={"properties": {"kuma_url": {}}, "holdsSecrets": True}), "may hold a secret"),
        (
            changed(PORTALS, parameters={"properties": {"kuma_url": {"additionalProperties": SECRET}}}),
            "may hold a secret",
        ),
        (
            changed(
                PORTALS,
                parameters={"properties": {"kuma_url": {"items": {"$ref": "#/$defs/S"}}}, "$defs": {"S": SECRET}},
            ),
            "may hold a secret",
        ),
        (changed(PORTALS, parameters={"properties": {"kuma_url": {"$ref": "#/$defs/S"}}}), "cannot be read"),
        (
            changed(PORTALS, parameters={"properties": {"kuma_url": {"type": "text"}}}),
            "schema of add_portals is broken",
        ),
    ],
)
def test_what_must_be_known_beforehand_cannot_come_from_an_output(spec: IntentSpec, part: str) -> None:
    with pytest.raises(BadDecomposition) as refused:
        read(
            {"intent": "deploy_kuma"},
            {"intent": "add_portals", "inputs": FROM_DEPLOY},
            catalog=make_catalog(DEPLOY, spec),
        )
    assert part in str(refused.value)


def test_an_output_that_is_declared_as_a_secret_is_not_passed_on() -> None:
    with pytest.raises(BadDecomposition, match="declared as a secret"):
        read(
            {"intent": "deploy_kuma"},
            {"intent": "add_portals", "inputs": FROM_DEPLOY},
            catalog=make_catalog(changed(DEPLOY, outputs=returning(url=SECRET)), PORTALS),
        )


TEMPLATES = [
    "{{ tasks.1.outputs.url }}", "${{ needs.deploy.outputs.url }}", "{1.url}", "task 1 output url",
    '{"subtask": 1, "output": "url"}', "secret:admin", "$ref",
]  # fmt: skip


@pytest.mark.parametrize("text", TEMPLATES)
def test_no_text_turns_into_a_reference(text: str) -> None:
    """Nor into anything else: what stands among the parameters is data."""
    given = {"intent": "add_portals", "parameters": {"kuma_url": text}}
    got = read({"intent": "deploy_kuma"}, given, text=f"add the portals to {text}")
    task = next(task for task in plan_of(got).tasks if task.intent == "add_portals")
    assert (task.inputs, task.parameters["kuma_url"]) == ({}, text)


def test_an_invented_value_gives_way_to_the_one_output_that_fits() -> None:
    """A small model wrote an address where an earlier step returns it."""
    invented = {"intent": "add_portals", "parameters": {"kuma_url": "http://localhost:8420"}}
    got = read({"intent": "deploy_kuma"}, invented, text="deploy kuma and add the portals")
    assert got.subtasks[1].inputs == {"kuma_url": OutputRef(task=1, output="url")}
    assert (got.subtasks[1].parameters, got.subtasks[1].depends_on, got.ambiguities) == ({}, (1,), ())
    assert any("http://localhost:8420 stands nowhere in the request" in flag for flag in got.subtasks[1].flags)
    alone = read(invented, text="add the portals to kuma")
    assert alone.ambiguities == (
        "kuma_url = http://localhost:8420 for “add_portals” stands nowhere in the request. What should kuma_url be?",
    )


# --- what is linked by itself ---


@pytest.mark.parametrize("name", ["url", "kuma_url"])
@pytest.mark.parametrize("tier", ["embedded", "local", "person"])
def test_what_nobody_gave_comes_from_the_one_earlier_task_that_returns_it(name: str, tier: str) -> None:
    spec = changed(PORTALS, parameters={"properties": {name: {"type": "string"}}, "required": [name]})
    got = read({"intent": "deploy_kuma"}, {"intent": "add_portals"}, catalog=make_catalog(DEPLOY, spec), tier=tier)
    assert got.ambiguities == ()
    assert got.subtasks[1].inputs == {name: OutputRef(task=1, output="url")}
    assert got.subtasks[1].depends_on == (1,)
    assert got.assumptions == (f"{name} for “add_portals” is what “deploy_kuma” returns as url",)


def test_an_optional_parameter_without_a_default_is_linked_too_and_one_with_a_default_is_not() -> None:
    optional = changed(PORTALS, parameters={"properties": {"url": {"type": "string"}}})
    got = read({"intent": "deploy_kuma"}, {"intent": "add_portals"}, catalog=make_catalog(DEPLOY, optional))
    assert got.subtasks[1].inputs
    default = changed(PORTALS, parameters={"properties": {"url": {"type": "string", "default": "http://here"}}})
    got = read({"intent": "deploy_kuma"}, {"intent": "add_portals"}, catalog=make_catalog(DEPLOY, default))
    assert got.subtasks[1].inputs == {}


@pytest.mark.parametrize(
    ("deploy", "portals"),
    [
        (changed(DEPLOY, outputs={}), PORTALS),
        (changed(DEPLOY, outputs={**DEPLOY.outputs, "required": []}), PORTALS),  # it may not return it
        (changed(DEPLOY, outputs=returning(url={"type": "integer"})), PORTALS),
        (DEPLOY, changed(PORTALS, exclusive_keys=("kuma:{kuma_url}",))),
        (changed(DEPLOY, after=("add_portals",)), PORTALS),  # it comes later, by its nature
        (changed(DEPLOY, service="grafana"), PORTALS),
    ],
)
def test_what_is_not_sure_stays_a_question(deploy: IntentSpec, portals: IntentSpec) -> None:
    got = read({"intent": "deploy_kuma"}, {"intent": "add_portals"}, catalog=make_catalog(deploy, portals))
    assert got.subtasks[1].inputs == {}
    assert got.ambiguities == ("Which kuma url for “add_portals”?",)


def test_a_later_task_gives_nothing_to_an_earlier_one() -> None:
    got = read({"intent": "add_portals"}, {"intent": "deploy_kuma"})
    assert got.ambiguities == ("Which kuma url for “add_portals”?",)


def test_several_that_return_it_are_a_question_that_names_them() -> None:
    got = read(
        {"intent": "deploy_kuma", "words": "deploy kuma here"},
        {"intent": "deploy_kuma", "words": "and there"},
        {"intent": "add_portals"},
    )
    assert got.ambiguities == (
        "Which kuma url for “add_portals”? It may be what “deploy kuma here” returns as url, "
        "or what “and there” returns as url.",
    )
    optional = changed(PORTALS, parameters={"properties": {"kuma_url": {"type": "string"}}})
    got = read(
        {"intent": "deploy_kuma", "words": "deploy kuma here"},
        {"intent": "deploy_kuma", "words": "and there"},
        {"intent": "add_portals"},
        catalog=make_catalog(DEPLOY, optional),
    )
    assert (got.ambiguities, got.subtasks[2].inputs) == ((), {})
    assert "is left open" in got.assumptions[0]


# --- the plan ---


def test_references_are_checked_again_against_what_is_offered_when_the_plan_is_made() -> None:
    got = read({"intent": "deploy_kuma"}, {"intent": "add_portals", "inputs": FROM_DEPLOY})
    silent = make_catalog(changed(DEPLOY, outputs={}), PORTALS)
    with pytest.raises(BadDecomposition, match=r"step 2: kuma_url cannot be url of subtask 1: .* declares no outputs"):
        plan_of(got, silent)


def test_a_circle_through_a_reference_is_refused() -> None:
    one = make_subtask(1, "deploy_kuma", depends_on=(2,))
    other = make_subtask(2, "add_portals", inputs={"kuma_url": OutputRef(task=1, output="url")})
    with pytest.raises(BadDecomposition, match="in a circle"):
        plan_of(make_decomposed(one, other))


def test_a_parameter_that_is_neither_given_nor_returned_is_still_missing() -> None:
    with pytest.raises(BadParameters, match="kuma_url is missing"):
        plan_of(make_decomposed("deploy_kuma", "add_portals"))


def test_a_variant_with_a_value_of_its_own_is_not_taken_where_another_task_gives_it() -> None:
    variants = tuple(
        Variant(name=name, resources=make_resources(), parameters=given)
        for name, given in (("fixed", {"kuma_url": "http://here"}), ("cpu", {"only": "home"}))
    )
    spec = changed(PORTALS, resources=make_resources(gpu=9_000), variants=variants)
    got = read({"intent": "deploy_kuma"}, {"intent": "add_portals", "inputs": FROM_DEPLOY})
    task = plan_of(got, make_catalog(DEPLOY, spec), otherwise=("variant",)).tasks[1]
    assert (task.parameters, list(task.inputs)) == ({"only": "home"}, ["kuma_url"])


# --- the digest ---

TAKES = {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}


def taking(order: int, *refs: tuple[str, int, str], **fields: Any) -> WorkTask:
    inputs = {name: OutputRef(task=task, output=output) for name, task, output in refs}
    return make_task(order, inputs=inputs, takes=TAKES, depends_on=tuple(sorted({t for _, t, _ in refs})), **fields)


GIVERS = [make_task(1, "deploy_a"), make_task(2, "deploy_b")]


@pytest.mark.parametrize(
    "other",
    [
        taking(3, ("url", 2, "url"), ("name", 1, "name")),
        taking(3, ("url", 1, "address"), ("name", 2, "name")),
        taking(3, ("url", 1, "url")).model_copy(update={"depends_on": (1, 2)}),
        make_task(3, parameters={"url": {"task": 1, "output": "url"}}, depends_on=(1, 2)),
        taking(3, ("url", 1, "url"), ("name", 2, "name")).model_copy(update={"takes": {}}),
        taking(3, ("url", 1, "url"), ("name", 2, "name"), outputs=TAKES),
    ],
)
def test_the_digest_binds_to_whose_output_goes_where(other: WorkTask) -> None:
    approved = taking(3, ("url", 1, "url"), ("name", 2, "name"))
    assert digest(build_plan(*GIVERS, approved)) != digest(build_plan(*GIVERS, other))


def test_plans_without_references_have_the_digest_they_always_had() -> None:
    plan = build_plan(make_task(1), make_task(2, parameters={"port": 80}, depends_on=(1,)))
    assert digest(plan) == "9b5f8444b181eed184fe632ab3762ab0989b24ad08c5f3abe9f67718b87ce9ce"
