"""Numbers, counts and rates that an agent, a model or a tool says, against what a column and a process can take."""

import hashlib
import hmac
import json
import time
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from chargehand.agents.infra.diffs import redact, unified
from chargehand.domain.envelopes import decode, derive_key, encode
from chargehand.domain.errors import BadEnvelope
from chargehand.domain.intents import Deadlines, IntentSpec, OutputRef, Resources
from chargehand.domain.llm import Reply
from chargehand.domain.masking import without_passwords
from chargehand.domain.messages import AgentRegistration, Heartbeat, WorkResult
from chargehand.engine.pace import REGISTRATIONS, TOLD_EVERY, Pace
from chargehand.llm.replies import NoAnswer, Response, completion, value
from tests.builders import make_id, make_spec
from tests.unit.test_envelopes import make_envelope

KEY = derive_key(bytes(32), "agent-1", 1)
AGENT = {"agent_id": "a", "incarnation": "j.1", "name": "a", "agent_type": "infra", "pool_name": "p", "version": "1"}
RESULT = {"attempt_id": make_id("attempt"), "lease_token": 1, "ok": True}
INTEGER, BIGINT = 2**31 - 1, 2**63 - 1


@pytest.mark.parametrize("field", Resources.model_fields)
@pytest.mark.parametrize("number", [3_000_000_000, -1, 10**400])
def test_resources_fit_their_columns(field: str, number: int) -> None:
    with pytest.raises(ValidationError):
        Resources(**{field: number})
    most = [m.le for m in Resources.model_fields[field].metadata if hasattr(m, "le")]
    assert most
    assert most[0] <= INTEGER


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (Deadlines, {}, {"run_seconds": float("inf")}),
        (Deadlines, {}, {"start_seconds": 1e18}),
        (OutputRef, {"task": 1, "output": "a"}, {"task": INTEGER + 1}),
        (WorkResult, RESULT, {"duration_ms": BIGINT}),
        (WorkResult, RESULT, {"duration_ms": -1}),
        (WorkResult, RESULT, {"lease_token": BIGINT + 1}),
        (WorkResult, RESULT, {"resources_used": {"a": float("nan")}}),
        (WorkResult, RESULT, {"resources_used": {"a": 1e300}}),
        (WorkResult, RESULT, {"resources_used": {str(n): 1.0 for n in range(100)}}),
        (AgentRegistration, AGENT, {"slots": 3_000_000_000}),
        (AgentRegistration, AGENT, {"intents": [make_spec(f"i_{n}").model_dump() for n in range(501)]}),
        (Heartbeat, {"agent_id": "a", "incarnation": "b"}, {"load": float("inf")}),
        (Heartbeat, {"agent_id": "a", "incarnation": "b"}, {"running": [UUID(int=n) for n in range(10_001)]}),
        (IntentSpec, {"intent": "a_b", "work_type": "x"}, {"examples": ["x"] * 201}),
        (IntentSpec, {"intent": "a_b", "work_type": "x"}, {"exclusive_keys": ["x"] * 51}),
        (Reply, {"tier": "local", "model": "m"}, {"tokens_in": INTEGER + 1}),
        (Reply, {"tier": "local", "model": "m"}, {"cost_usd": float("nan")}),
    ],
)
def test_what_is_said_is_bounded(form: Any, good: dict[str, Any], bad: dict[str, Any]) -> None:
    form.model_validate(good)
    with pytest.raises(ValidationError):
        form.model_validate({**good, **bad})


def signed_with(value: bytes) -> bytes:
    """A message whose signature is right and whose payload holds a value that our own code would not write."""
    head, _, body = encode(make_envelope(payload={"outputs": {"n": 12345}}), KEY).partition(b"\n")
    odd = body.replace(b"12345", value)
    mac = hmac.new(KEY, b"report\n" + odd, hashlib.sha256).hexdigest()
    return json.dumps(json.loads(head) | {"mac": mac}).encode() + b"\n" + odd


@pytest.mark.parametrize(
    "value", [b"NaN", b"1e999", b"-Infinity", b"9" * 400, b"[{}, [1, -1E+400]]", b"[" * 500 + b"]" * 500]
)
def test_a_message_that_the_database_cannot_hold_is_refused_alone(value: bytes) -> None:
    with pytest.raises(BadEnvelope):
        decode(signed_with(value), KEY, "report")


def test_large_numbers_that_fit_are_read() -> None:
    assert decode(signed_with(b"[1e300, 123456789012345678901234567890]"), KEY, "report")


def test_registrations_in_a_flood_are_dropped_and_told_once_a_minute() -> None:
    pace, agent, other = Pace(REGISTRATIONS), make_id("a"), make_id("b")
    allowed = [pace.allows(agent, 0.0) for _ in range(100)]
    assert allowed == [True] * 30 + [False] * 70
    assert pace.allows(other, 0.0), "one agent's flood is not another's"
    assert (pace.news(agent, 0.0), pace.news(agent, 1.0)) == (70, 0)
    assert not pace.allows(agent, 1.0)
    assert pace.news(agent, TOLD_EVERY + 1) == 1
    assert pace.allows(agent, TOLD_EVERY + 1), "who waits is heard again"
    assert pace.news(other, 0.0) == 0


@pytest.mark.parametrize(
    "text",
    [
        "a://b:c" * 40_000,
        "password='" * 30_000,
        "token_" * 50_000,
        "x=" + " " * 300_000 + "y",
        "-----BEGIN PRIVATE KEY-----" * 10_000,
        "a:b@" * 50_000,
    ],
)
def test_texts_are_searched_for_passwords_in_linear_time(text: str) -> None:
    started = time.process_time()
    without_passwords(text)
    redact(text)
    assert time.process_time() - started < 2.0


def test_a_large_change_is_told_as_a_whole_and_soon() -> None:
    old, new = [f"line {n % 40}" for n in range(20_000)], [f"line {n * 7 % 40}" for n in range(20_000)]
    started = time.process_time()
    diff = unified("\n".join(["same", *old]), "\n".join(["same", *new]), "it")
    assert time.process_time() - started < 2.0
    assert diff.splitlines()[2].startswith("@@ -")


def test_a_small_change_of_a_long_text_is_told_with_its_place() -> None:
    before, after = map(str, range(3_000)), map(str, [*range(2_900), "x", *range(2_900, 3_000)])
    lines = unified("\n".join(before), "\n".join(after), "it").splitlines()
    assert lines[2:] == ["@@ -2898,6 +2898,7 @@", " 2897", " 2898", " 2899", "+x", " 2900", " 2901", " 2902"]


@pytest.mark.parametrize("text", ["```" + "\n" * 200_000, "```json\n" * 50_000, "```\n\n" * 50_000 + "{"])
def test_an_answer_of_nothing_but_fences_is_no_answer_soon(text: str) -> None:
    body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
    started = time.process_time()
    with pytest.raises(NoAnswer):
        value(completion(Response(200, {}, body)))
    assert time.process_time() - started < 2.0
