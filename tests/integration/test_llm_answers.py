"""Answers as model servers really send them: each is used or refused as it should be, with the server's own reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chargehand.domain.llm import Reply
from chargehand.llm.litellm_proxy import ProxyLLM, base_of
from chargehand.llm.objects import NotOneObject, only_object
from chargehand.testing.llm import LLMServer, fails, says, sends
from chargehand.understanding import nlu, questions
from tests.builders import make_catalog, make_id

WORDS = "say hello"
CATALOG = make_catalog("say_hello", "weigh_anchor")
CASES = [json.loads(line) for line in (Path(__file__).parents[1] / "cases/llm/answers.jsonl").read_text().splitlines()]
REFUSED = {  # case -> class of the failure, and what of the server's own words is told
    "fence_two_plans": ("InvalidAnswer", "two JSON objects that differ"),
    "vllm400": ("BadRequestError", "maximum context length is 2048 tokens"),
    "openai_ctx": ("ContextWindowExceededError", "maximum context length is 2048 tokens"),
    "fastapi422": ("BadRequestError", "body.response_format: extra fields not permitted"),
    "gemini_list": ("BadRequestError", "Request contains an invalid argument."),
    "ra_date": ("RateLimitError", "slow down"),
    "html200": ("ModelUnavailable", "not a chat completion"),
    "null": ("InvalidAnswer", "the answer is empty"),
    "length": ("OutputTruncated", "cut off"),
}
PLAN = {"subtasks": [{"order": 1, "name": "Hello", "intent": "say_hello", "confidence": 0.9, "words": WORDS}]}


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


def llm(server: LLMServer, end: str = "") -> ProxyLLM:
    return ProxyLLM(server.url + end, "m", tier="local", key=None, timeout=5)


async def asked(server: LLMServer, *answers: Any) -> Reply:
    server.answers[WORDS] = list(answers)
    return await llm(server).structured(questions.build_ask(make_id("request"), WORDS, CATALOG))


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
async def test_an_answer_of_the_wild_ends_as_it_should(server: LLMServer, case: dict[str, Any]) -> None:
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
    answer = sends(body, status=case["status"], headers=case["headers"])
    reply = await asked(server, answer, answer, answer)
    assert (case["expected"] == "used") is (case["case"] not in REFUSED)
    if case["expected"] == "used":
        read = nlu.read_reply(reply, questions.build_ask(make_id("request"), WORDS, CATALOG), nlu.Thresholds())
        assert [task.intent for task in read.subtasks] == ["say_hello"]
    else:
        error_class, words = REFUSED[case["case"]]
        assert (reply.value, reply.error_class) == (None, error_class)
        assert words in (reply.error or "")
        assert (reply.retry_after > 1e9) is (case["case"] == "ra_date"), "a date in 2099 is longer than any time left"


@pytest.mark.parametrize(
    "refusal",
    [
        fails(400, "unknown field", param="response_format"),
        fails(400, "Unsupported parameter: 'max_tokens' is not supported with this model."),
        fails(400, "'json_schema' is not one of ['json_object', 'text'] - 'response_format.type'"),
        sends(json.dumps({"detail": [{"loc": ["body", "max_tokens"], "msg": "extra"}]}), status=422),
    ],
    ids=["param", "in the message", "json_schema", "FastAPI"],
)
async def test_a_parameter_that_is_refused_is_left_out_and_that_is_remembered(server: LLMServer, refusal: Any) -> None:
    server.answers[WORDS] = [refusal, says(PLAN), says(PLAN)]
    model, ask = llm(server), questions.build_ask(make_id("request"), WORDS, CATALOG)
    assert (await model.structured(ask)).value == PLAN
    assert (await model.structured(ask)).value == PLAN
    first, second, third = (request.body for request in server.asked)
    assert second.keys() != first.keys() or second["response_format"] != first["response_format"]
    assert third == second, "it is not tried again"


async def test_a_refusal_that_names_nothing_is_told_at_once(server: LLMServer) -> None:
    reply = await asked(server, fails(400, "no"), says(PLAN))
    assert (reply.error, len(server.asked)) == ("HTTP 400: no", 1)


async def test_refusing_everything_comes_to_an_end(server: LLMServer) -> None:
    everything = fails(400, "max_tokens max_completion_tokens response_format json_schema")
    reply = await asked(server, *[everything] * 9)
    assert reply.error_class == "BadRequestError"
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1"),
        ("https://h/openai/deployments/m", "https://h/openai/deployments/m"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai"),
        ("https://h/api/v3", "https://h/api/v3"),
    ],
)
def test_the_url_is_taken_as_given(url: str, base: str) -> None:
    assert base_of(url) == base


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('\ufeff {"a": 1}</s>', {"a": 1}),
        ('Use {braces} like {"a": {"b": []}} and no more.', {"a": {"b": []}}),
        ('{"a": 1} {"a": 1.0}', {"a": 1}),  # the same twice is one
        ('{"x": 0} {"a": 1}', {"a": 1}),  # the other one is no answer
        ('{"a": 1e400}', None),
        ('{"a": NaN}', None),
        ('{"a": ' + "9" * 5_000 + "}", None),
        ('{"a": 1, "a": 2}', None),
        ('{"a": 1} {"a": 2}', None),
        ('<think>{"a": 1}', None),
        ("[1]", None),
        ("", None),
        ("{" * 100_000, None),
        ('{"a":' * 30_000, None),
        ("x" * 300_000, None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_one_object_in_a_text(text: str, found: dict[str, Any] | None) -> None:
    if found is None:
        with pytest.raises(NotOneObject):
            only_object(text, {"a"})
    else:
        assert only_object(text, {"a"}) == found
