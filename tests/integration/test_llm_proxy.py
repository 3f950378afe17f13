"""A model behind HTTP: what is asked, what counts as an answer, and what each failure is called."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from chargehand.domain.llm import Ask, Reply
from chargehand.llm.litellm_proxy import ProxyLLM
from chargehand.llm.replies import NoAnswer
from chargehand.testing.llm import HANG, Answer, LLMServer, fails, says, sends, writes
from chargehand.understanding.questions import build_ask
from chargehand.understanding.tiers import FAILURES
from tests.builders import make_catalog

ROOT = Path(__file__).parents[2]
WORDS = "deploy the page of the northern office"
KEY = "virtual-key-1234"
GOOD = {"subtasks": [], "out_of_scope": ["that"]}
TEXT = json.dumps(GOOD)


@pytest.fixture(scope="module")
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


def question() -> Ask:
    return build_ask(UUID(int=1), WORDS, make_catalog("deploy_page"))


def proxy(server: LLMServer, timeout: float = 5.0) -> ProxyLLM:
    return ProxyLLM(server.url, "small", tier="local", key=KEY, timeout=timeout)


async def ask(server: LLMServer, answer: Answer, timeout: float = 5.0) -> Reply:
    server.answers[WORDS] = [answer]
    return await proxy(server, timeout).structured(question())


async def test_the_question_goes_to_chat_completions_with_the_schema_and_the_key(server: LLMServer) -> None:
    await ask(server, says(GOOD))
    asked = server.asked[-1]
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body["response_format"]["json_schema"]["schema"] == question().answer_schema
    assert asked.body["max_tokens"] >= 2000
    assert asked.body["temperature"] == 0


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
async def test_the_url_may_end_as_people_write_it(server: LLMServer, end: str) -> None:
    server.answers[WORDS] = [says(GOOD)]
    llm = ProxyLLM(server.url + end, "small", tier="local", key=None, timeout=5)
    assert (await llm.structured(question())).value == GOOD
    assert "authorization" not in server.asked[-1].headers


@pytest.mark.parametrize(
    "answer",
    [
        writes(TEXT),
        writes(f"```json\n{TEXT}\n```"),
        writes(f"Here it is:\n```\n{TEXT}\n```\nAnything else?"),
        writes(f"<think>\nIs that {{}}?\n</think>\n{TEXT}"),
        writes(None, message={"reasoning_content": TEXT}),
        writes("", message={"reasoning": TEXT}),
    ],
    ids=["bare", "fenced", "fenced and chatty", "after thoughts", "as LiteLLM's thought", "as Ollama's thought"],
)
async def test_an_answer_is_found_where_models_put_it(server: LLMServer, answer: Answer) -> None:
    reply = await ask(server, answer)
    assert (reply.value, reply.error) == (GOOD, None)


async def test_what_it_took_is_told_with_the_answer_and_with_a_useless_one(server: LLMServer) -> None:
    price = {"x-litellm-response-cost": "0.00125"}
    for answer in (says(GOOD, headers=price), writes("no JSON", headers=price)):
        reply = await ask(server, answer)
        assert (reply.tokens_in, reply.tokens_out, reply.cost_usd) == (321, 45, 0.00125)
        assert reply.seconds > 0


@pytest.mark.parametrize("price", ["nan", "inf", "-1", "1e99", "free", ""])
async def test_a_price_beyond_belief_is_none(server: LLMServer, price: str) -> None:
    assert (await ask(server, says(GOOD, headers={"x-litellm-response-cost": price}))).cost_usd == 0


FAILING = {
    "400": (fails(400), "BadRequestError"),
    "401": (fails(401, type="auth_error"), "AuthenticationError"),
    "402": (fails(402), "PaymentRequiredError"),
    "403": (fails(403), "PermissionDeniedError"),
    "404": (fails(404), "NotFoundError"),
    "408": (fails(408), "Timeout"),
    "413": (fails(413), "BadRequestError"),
    "422": (fails(422), "BadRequestError"),
    "429": (fails(429, retry_after=7), "RateLimitError"),
    "500": (fails(500), "InternalServerError"),
    "502": (fails(502), "BadGatewayError"),
    "503": (sends("<html>down</html>", status=503), "ServiceUnavailableError"),
    "504": (fails(504), "Timeout"),
    "507": (fails(507), "APIError"),
    "529": (fails(529), "ServiceUnavailableError"),
    "elsewhere": (sends("", status=302, headers={"location": "http://127.0.0.1:1/"}), "BadConfiguration"),
    "budget, as LiteLLM says it today": (fails(422, type="budget_exceeded", code="422"), "BudgetExceededError"),
    "budget, as it said it once": (fails(400, type="budget_exceeded"), "BudgetExceededError"),
    "account empty": (fails(429, type="insufficient_quota"), "BudgetExceededError"),
    "too long": (fails(400, code="context_length_exceeded"), "ContextWindowExceededError"),
    "error in a 200": (sends('{"error": "overloaded"}'), "ModelUnavailable"),
    "not JSON": (sends("<html>hello</html>"), "ModelUnavailable"),
    "no body": (sends(""), "ModelUnavailable"),
    "an empty object": (sends("{}"), "ModelUnavailable"),
    "no choice": (sends('{"choices": []}'), "ModelUnavailable"),
    "nested without end": (sends('{"choices": ' + "[" * 100_000), "ModelUnavailable"),
    "empty": (writes(""), "InvalidAnswer"),
    "nothing": (writes(None), "InvalidAnswer"),
    "prose": (writes("I would deploy it."), "InvalidAnswer"),
    "a list": (writes("[1, 2]"), "InvalidAnswer"),
    "half a character": (writes('{"subtasks": ["\\ud800"]}'), "InvalidAnswer"),
    "nested in the answer": (writes('{"a": ' + "[" * 50_000), "InvalidAnswer"),
    "too long an answer": (writes('{"subtasks": [', finish="length"), "OutputTruncated"),
    "larger than any answer": (writes("x" * 1_100_000), "OutputTruncated"),
    "refused": (writes(None, message={"refusal": "I will not."}), "ContentPolicyViolationError"),
    "filtered": (writes("", finish="refusal"), "ContentPolicyViolationError"),
    "cut": (writes(TEXT, manner="cut"), "APIConnectionError"),
}


@pytest.mark.parametrize("name", FAILING)
async def test_each_failure_has_its_class(server: LLMServer, name: str) -> None:
    answer, error_class = FAILING[name]
    reply = await ask(server, answer)
    assert (reply.value, reply.error_class) == (None, error_class)
    assert error_class in FAILURES
    assert reply.error
    assert "\n" not in reply.error


async def test_how_long_to_leave_it_alone_is_told(server: LLMServer) -> None:
    assert (await ask(server, fails(429, retry_after=7))).retry_after == 7
    assert (
        await ask(server, replace(fails(429), headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}))
    ).retry_after == 0


@pytest.mark.parametrize("answer", [HANG, says(GOOD, manner="drip"), says(GOOD, delay=5)], ids=["hang", "drip", "slow"])
async def test_the_time_is_for_the_whole_answer(server: LLMServer, answer: Answer) -> None:
    reply = await ask(server, answer, timeout=0.4)
    assert (reply.value, reply.error_class) == (None, "Timeout")
    assert 0.4 <= reply.seconds < 2


async def test_what_is_left_of_the_time_may_be_less(server: LLMServer) -> None:
    server.answers[WORDS] = [HANG]
    reply = await proxy(server, 30).structured(question().model_copy(update={"seconds": 0.2}))
    assert reply.error == "no whole answer within 0.2 s"


async def test_nobody_listening_is_a_failure_like_others() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        reply = await ProxyLLM(url, "small", tier="local", key=None, timeout=5).structured(question())
    assert reply.error_class == "APIConnectionError"


async def test_neither_key_nor_prompt_is_in_the_error(server: LLMServer) -> None:
    for message in (
        f"Invalid key {KEY}, see the manual",
        "no such key: sk-...1234abcd",
        f"bad\x1b[31m {KEY}\nsecond line",
    ):
        told = (await ask(server, fails(401, message))).error or ""
        assert told.startswith("HTTP 401: ")
        assert not [part for part in (KEY, "1234", "second", "\x1b") if part in told]
    for echoed in (WORDS, WORDS[5:30], question().messages[0]["content"][:60]):
        told = (await ask(server, fails(400, f"cannot parse: {echoed}"))).error or ""
        assert told == "HTTP 400: (its words repeat the prompt)"
    assert (await ask(server, fails(404, "model 'small' not found"))).error == "HTTP 404: model 'small' not found"


async def test_many_at_once_and_a_hanging_one_leave_the_loop_free(server: LLMServer) -> None:
    server.answers[WORDS] = [HANG]
    asking = [asyncio.create_task(proxy(server, 0.5).structured(question())) for _ in range(5)]
    turns = 0
    while not all(task.done() for task in asking):
        await asyncio.sleep(0.01)
        turns += 1
    assert {(await task).error_class for task in asking} == {"Timeout"}
    assert turns > 10


async def test_the_models_of_a_server_are_listed(server: LLMServer) -> None:
    assert await proxy(server).models(5) == ("small",)


@pytest.mark.parametrize("answer", [fails(404), sends("not a list"), sends('{"data": null}')])
async def test_a_server_without_a_list_answers_all_the_same(answer: Answer) -> None:
    with LLMServer() as other:
        other.listing = answer
        assert await proxy(other).models(5) == ()


@pytest.mark.parametrize(("answer", "error_class"), [(fails(401, KEY), "AuthenticationError"), (HANG, "Timeout")])
async def test_a_server_that_refuses_or_hangs_says_so(answer: Answer, error_class: str) -> None:
    with LLMServer() as other:
        other.listing = answer
        with pytest.raises(NoAnswer) as failure:
            await proxy(other).models(0.3)
    assert failure.value.error_class == error_class
    assert KEY not in str(failure.value)


def test_starting_up_does_not_import_the_client() -> None:
    program = "import sys, chargehand.llm.litellm_proxy; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


FIRST_REQUEST = """
import asyncio, sys
from chargehand.llm.litellm_proxy import ProxyLLM, _prepared
from chargehand.understanding.questions import build_ask
from tests.builders import make_catalog, make_id

_prepared()
loaded = set(sys.modules)
llm = ProxyLLM("http://127.0.0.1:1", "small", tier="local", key=None, timeout=30)
asyncio.run(llm.structured(build_ask(make_id("r"), "do it", make_catalog("deploy_page"))))
print(*sorted(name for name in set(sys.modules) - loaded if name.split(".")[0] in ("anyio", "httpcore", "httpx")))
"""


def test_the_first_request_imports_no_client_while_the_event_loop_waits() -> None:
    env = os.environ | {"PYTHONPATH": "src:."}
    ran = subprocess.run(
        [sys.executable, "-c", FIRST_REQUEST], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout.split()) == (0, []), ran.stderr
