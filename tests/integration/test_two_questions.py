"""A model is asked two small questions over HTTP, its reading stands beside the match's, and people pick one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from chargehand.domain.states import RequestStatus as R
from chargehand.engine.asking import Places, Trust
from chargehand.llm.catalogue_match import CatalogueMatch
from chargehand.llm.litellm_proxy import ProxyLLM
from chargehand.testing.llm import LLMServer, fails, says
from tests.builders import make_spec
from tests.world import World, close_world, open_world

RESTART = make_spec(
    "restart_service",
    examples=("restart {service} on {host}", "bounce the web server", "restart the mail daemon"),
    description="Restart a running service",
    parameters={
        "properties": {"service": {"type": "string"}, "host": {"type": "string"}, "note": {"type": "string"}},
        "required": ["service", "host"],
    },
)
DISK = make_spec("check_disk", examples=("check the disk", "is the disk full", "how full is the disk"))
STOP = make_spec("stop_wiki", service="wiki", examples=("stop the wiki", "shut down the wiki", "halt our wiki"))
START = make_spec("start_wiki", service="wiki", examples=("start the wiki", "bring up the wiki", "launch our wiki"))

WORDS = "kick the thing called nginx which lives on web-1 in the teeth"


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


def skeleton(*parts: tuple[str, str]) -> dict[str, Any]:
    subtasks = [{"words": words, "intent": intent, "confidence": 0.9} for words, intent in parts]
    return {"subtasks": subtasks, "out_of_scope": [], "ambiguities": []}


async def ask(world: World, server: LLMServer, words: str, *, trust: Trust | None = None) -> UUID:
    """Let a model and, with `trust`, the catalogue match read a request."""
    await world.agent("infra-1", RESTART, DISK, STOP, START)
    match = trust.second_reader if trust else None
    world.engine.tiers = {
        "local": ProxyLLM(server.url, "small", tier="local", key=None, timeout=60),
        "embedded": match or world.model,  # type: ignore[dict-item]
    }
    world.engine.places = Places({})
    world.engine.trust = trust or Trust()
    request_id = await world.engine.submit(words, requester="ann")
    await world.engine.decompose()
    return request_id


async def subtasks(world: World, request_id: UUID) -> list[tuple[str, dict[str, Any]]]:
    (*_, row) = await world.queries.decompositions(request_id)
    return [(task["intent"], task["parameters"]) for task in row["value"]["subtasks"]]


async def asked(world: World, request_id: UUID) -> list[str]:
    (*_, row) = await world.queries.decompositions(request_id)
    return list(row["value"]["ambiguities"])


async def test_the_values_are_asked_for_after_the_parts_in_the_same_conversation(
    world: World, server: LLMServer
) -> None:
    values = {"1": {"service": "nginx", "host": "web-1"}}
    server.answers[WORDS] = [says(skeleton((WORDS, "restart_service"))), says(values, cached=300)]
    request_id = await ask(world, server, WORDS)
    assert await subtasks(world, request_id) == [("restart_service", values["1"])]
    first, second = (each.body for each in server.of(WORDS))
    assert second["messages"][: len(first["messages"])] == first["messages"], "what was read once is not read again"
    assert json.loads(second["messages"][-2]["content"]) == skeleton((WORDS, "restart_service"))
    calls = await world.queries.llm_calls(request_id)
    kept = [(call["tier"], call["purpose"], call["tokens_cached"]) for call in calls]
    assert kept == [("local", "skeleton", 0), ("local", "parameters", 300)]


def closed(schema: Any) -> bool:
    """Whether every object of a schema takes only what it names, and every text and list is bounded."""
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    bounds = {"string": "maxLength", "array": "maxItems"}
    kind = schema.get("type")
    if kind in bounds and bounds[kind] not in schema and "enum" not in schema:
        return False
    inner = [*schema.get("properties", {}).values(), schema.get("items")]
    return all(closed(each) for each in inner)


async def test_both_answers_have_closed_and_bounded_schemas(world: World, server: LLMServer) -> None:
    server.answers[WORDS] = [says(skeleton((WORDS, "restart_service"))), says({"1": {}})]
    await ask(world, server, WORDS)
    schemas = [each.body["response_format"]["json_schema"]["schema"] for each in server.of(WORDS)]
    assert [closed(each) for each in schemas] == [True, True]
    assert "required" not in schemas[1]["properties"]["1"], "what the request does not say is left out"


async def test_what_a_model_makes_up_is_asked_for_and_never_planned(world: World, server: LLMServer) -> None:
    server.answers[WORDS] = [
        says(skeleton((WORDS, "restart_service"))),
        says({"1": {"service": "nginx", "host": "db-9", "note": "be quick"}}),
    ]
    request_id = await ask(world, server, WORDS)
    assert await subtasks(world, request_id) == [("restart_service", {"service": "nginx"})]
    assert "Which host" in (await asked(world, request_id))[0]
    assert await world.status(request_id) is R.ASKING


async def test_a_model_that_gives_no_values_costs_a_question_and_not_the_plan(world: World, server: LLMServer) -> None:
    server.answers[WORDS] = [says(skeleton((WORDS, "restart_service"))), fails(400)]
    request_id = await ask(world, server, WORDS)
    assert len(await asked(world, request_id)) == 2
    calls = await world.queries.llm_calls(request_id)
    assert [(call["purpose"], call["error_class"]) for call in calls] == [
        ("skeleton", None),
        ("parameters", "BadRequestError"),
    ]


async def test_what_takes_no_values_needs_no_second_question(world: World, server: LLMServer) -> None:
    server.answers["look at it"] = [says(skeleton(("look at it", "check_disk")))]
    request_id = await ask(world, server, "look at it")
    assert (await subtasks(world, request_id), len(server.of("look at it"))) == ([("check_disk", {})], 1)


async def test_only_the_part_that_is_wrong_is_asked_for_again(world: World, server: LLMServer) -> None:
    words = "look at it and halt it"
    good, bad = ("look at it", "check_disk"), ("halt it", "halt_wiki")
    server.answers[words] = [says(skeleton(good, bad)), says(skeleton(("halt it", "stop_wiki")))]
    request_id = await ask(world, server, words)
    assert [intent for intent, _ in await subtasks(world, request_id)] == ["check_disk", "stop_wiki"]
    told = server.of(words)[1].body["messages"][-1]["content"]
    assert "halt_wiki" in told
    assert "stop_wiki" in told
    assert "All other subtasks stand" in told


async def test_values_that_the_words_give_for_certain_need_no_second_question(world: World, server: LLMServer) -> None:
    words = "restart nginx on web-1"
    server.answers[words] = [says(skeleton((words, "restart_service")))]
    request_id = await ask(world, server, words, trust=Trust(CatalogueMatch()))
    assert await subtasks(world, request_id) == [("restart_service", {"service": "nginx", "host": "web-1"})]
    assert len(server.of(words)) == 1


@pytest.mark.parametrize(("asking", "times"), [("always", 1), ("unsure", 0), ("never", 0)])
async def test_models_are_asked_as_often_as_the_operator_says(
    database_url: Any, server: LLMServer, asking: str, times: int
) -> None:
    world = await open_world(database_url, ask_models=asking)
    try:
        server.answers["stop the wiki"] = [says(skeleton(("stop the wiki", "stop_wiki")))]
        request_id = await ask(world, server, "stop the wiki", trust=Trust(CatalogueMatch()))
        assert await subtasks(world, request_id) == [("stop_wiki", {})]
        assert len(server.of("stop the wiki")) == times
        assert await world.status(request_id) is R.AWAITING_APPROVAL
    finally:
        await close_world(world)


async def test_where_both_readings_differ_a_person_picks_one_by_its_number(world: World, server: LLMServer) -> None:
    server.answers["stop the wiki"] = [says(skeleton(("stop the wiki", "start_wiki")))]
    request_id = await ask(world, server, "stop the wiki", trust=Trust(CatalogueMatch()))
    (question,) = await asked(world, request_id)
    assert "1: start_wiki (“stop the wiki”). 2: stop_wiki (“stop the wiki”)." in question
    assert await world.control.answer(request_id, "2", "ann") is R.AWAITING_APPROVAL
    stored = await world.queries.plan(request_id)
    assert stored is not None
    assert [task["intent"] for task in stored["plan"]["tasks"]] == ["stop_wiki"]
    assert (await world.queries.llm_calls(request_id))[-1]["choice"] == "picked by ann"
    assert (await world.queries.request(request_id))["wording"] == "stop the wiki"


async def test_a_number_that_is_not_offered_is_words(world: World, server: LLMServer) -> None:
    server.answers["stop the wiki"] = [says(skeleton(("stop the wiki", "start_wiki")))]
    request_id = await ask(world, server, "stop the wiki", trust=Trust(CatalogueMatch()))
    assert await world.control.answer(request_id, "3", "ann") is R.ACCEPTED


async def test_a_sure_match_that_the_model_confirms_has_a_higher_confidence_than_either(
    world: World, server: LLMServer
) -> None:
    server.answers["stop the wiki"] = [says(skeleton(("stop the wiki", "stop_wiki")))]
    request_id = await ask(world, server, "stop the wiki", trust=Trust(CatalogueMatch()))
    (*_, row) = await world.queries.decompositions(request_id)
    assert row["value"]["subtasks"][0]["terms"]["catalogue match"] > 0
    assert row["value"]["subtasks"][0]["confidence"] > 0.9
