"""What every tier behind `ports.LLM` must do. A new one joins by a builder in `builders`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID

import pytest

from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec
from chargehand.domain.llm import Reply
from chargehand.domain.ports import LLM
from chargehand.llm.catalogue_match import CatalogueMatch
from chargehand.llm.litellm_proxy import ProxyLLM
from chargehand.llm.litellm_sdk import SdkLLM
from chargehand.testing.llm import ScriptedServer, says
from chargehand.understanding.nlu import Thresholds, read_reply
from chargehand.understanding.questions import build_ask

CATALOG = Catalog(
    (
        IntentSpec(
            intent="deploy_page",
            work_type="deploy_service",
            service="status-page",
            examples=("deploy the status page", "install the status page", "set up a status page"),
        ),
        IntentSpec(
            intent="restart_service",
            work_type="run_automation",
            examples=("restart {service} on {host}", "bounce the {service} service on {host}", "restart {service}"),
            parameters={
                "type": "object",
                "properties": {"service": {"type": "string"}, "host": {"type": "string"}},
                "required": ["service", "host"],
            },
        ),
    )
)
PAGE = {"order": 1, "name": "Deploy it", "intent": "deploy_page", "confidence": 0.9}
NGINX = {"service": "nginx", "host": "web-1"}
BOUNCE = {"order": 2, "name": "Restart it", "intent": "restart_service", "confidence": 0.9, "parameters": NGINX}
WRITTEN = {  # by words, what a model that understood them would say; everything else is out of scope
    "Deploy the status page": [PAGE],
    "Deploy the status page and restart nginx on web-1": [PAGE, BOUNCE],
    "restart nginx on web-1": [BOUNCE],
    "restart nginx": [BOUNCE | {"parameters": {"service": "nginx"}}],
}


@pytest.fixture(scope="module")
def builders() -> Iterator[dict[str, Callable[[], LLM]]]:
    """What makes a tier, by its name."""
    answers = {words: [says({"subtasks": subtasks}, delay=0.05)] for words, subtasks in WRITTEN.items()}
    with ScriptedServer() as server:
        server.script(answers, otherwise=says({"subtasks": [], "out_of_scope": ["that"]}))
        given = {"key": "sk-virtual-key", "timeout": 30}
        yield {
            "embedded": CatalogueMatch,
            "proxy": partial(ProxyLLM, server.url, "small", tier="local", **given),
            "claude": partial(SdkLLM, "anthropic/claude-haiku-5-5", tier="external", url=server.url, **given),
            "ollama": partial(SdkLLM, "ollama_chat/small", tier="local", url=server.url, **given),
        }


@pytest.fixture(params=["embedded", "proxy", "claude", "ollama"], scope="module")
def build(request: pytest.FixtureRequest, builders: dict[str, Callable[[], LLM]]) -> Callable[[], LLM]:
    return builders[request.param]


@pytest.fixture(scope="module")
def llm(build: Callable[[], LLM]) -> LLM:
    return build()


async def ask(llm: LLM, text: str, catalog: Catalog = CATALOG) -> Reply:
    return await llm.structured(build_ask(UUID(int=1), text, catalog))


async def test_an_answer_passes_the_check_of_answers(llm: LLM) -> None:
    question = build_ask(UUID(int=1), "Deploy the status page and restart nginx on web-1", CATALOG)
    got = read_reply(await llm.structured(question), question, Thresholds())
    assert [(task.intent, task.parameters) for task in got.subtasks] == [
        ("deploy_page", {}),
        ("restart_service", {"service": "nginx", "host": "web-1"}),
    ]
    assert got.ambiguities == ()


async def test_a_reply_says_who_answered_and_how_long_it_took(llm: LLM) -> None:
    reply = await ask(llm, "Deploy the status page")
    assert (reply.tier, reply.model) == (llm.tier, llm.model)
    assert reply.error is None
    assert reply.seconds > 0


async def test_what_is_missing_is_left_out_and_asked(llm: LLM) -> None:
    question = build_ask(UUID(int=1), "restart nginx", CATALOG)
    got = read_reply(await llm.structured(question), question, Thresholds())
    assert any("host" in asked for asked in got.ambiguities)


@pytest.mark.parametrize("text", ["order a pizza", "deploy grafana", "разверни страницу", "ok", "{}[]\"' a"])
async def test_what_nothing_covers_makes_no_subtask(llm: LLM, text: str) -> None:
    question = build_ask(UUID(int=1), text, CATALOG)
    got = read_reply(await llm.structured(question), question, Thresholds())
    assert got.subtasks == ()


async def test_an_empty_catalog_is_answered_too(llm: LLM) -> None:
    reply = await ask(llm, "Deploy the other page", Catalog())
    assert reply.value is not None
    assert reply.value["subtasks"] == []


async def test_the_event_loop_goes_on_while_it_thinks(build: Callable[[], LLM]) -> None:
    thinking = asyncio.create_task(ask(build(), "Deploy the status page"))
    turns = 0
    while not thinking.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert (await thinking).error is None
    assert turns > 1


async def test_questions_at_once_get_each_its_own_answer(llm: LLM) -> None:
    texts = ["Deploy the status page", "restart nginx on web-1", "order a pizza"] * 3
    together = await asyncio.gather(*(ask(llm, text) for text in texts))
    assert [reply.value for reply in together] == [(await ask(llm, text)).value for text in texts]
