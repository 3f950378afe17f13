"""Signed messages: what is changed, turned around or too large does not get through."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.envelopes import Envelope, MessageType, decode, derive_key, encode
from chargehand.domain.errors import BadEnvelope
from chargehand.domain.messages import Heartbeat, Progress
from chargehand.domain.records import KnownAgent
from chargehand.domain.signed_messages import Message, SignedMessages, sender_of, split_into_rounds
from tests.builders import make_id

AGENT = KnownAgent(make_id("agent"), "infra-1", 1, "life", None)
MASTER = b"m" * 32
KEY = derive_key(MASTER, str(AGENT.agent_id), 1)


def make_envelope(**fields: Any) -> Envelope:
    beat = Heartbeat(agent_id=str(AGENT.agent_id), incarnation="life")
    values = {
        "message_id": make_id("message"),
        "from_agent": str(AGENT.agent_id),
        "to_agent": "orchestrator",
        "type": MessageType.HEARTBEAT,
        "trace_id": make_id("trace"),
        "timestamp": datetime(2026, 11, 22, tzinfo=UTC),
        "payload": beat.model_dump(mode="json"),
    }
    return Envelope.model_validate(values | fields)


WIRE = encode(make_envelope(), KEY)


def test_what_was_signed_is_read_back() -> None:
    assert decode(WIRE, KEY, "report") == make_envelope()
    message = SignedMessages(MASTER).open(WIRE, AGENT)
    assert (message.agent, message.type) == (AGENT, MessageType.HEARTBEAT)
    assert sender_of(WIRE) == AGENT.agent_id


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WIRE) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, change: int) -> None:
    altered = bytes([*WIRE[:place], WIRE[place] ^ change, *WIRE[place + 1 :]])
    with pytest.raises(BadEnvelope):
        SignedMessages(MASTER).open(altered, AGENT)


def test_an_order_cannot_be_played_back_as_a_report() -> None:
    order = encode(make_envelope(from_agent="orchestrator", to_agent=str(AGENT.agent_id)), KEY)
    assert decode(order, KEY, "order").to_agent == str(AGENT.agent_id)
    with pytest.raises(BadEnvelope):
        decode(order, KEY, "report")


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (b"", "wire format"),
        (b"{}\n{}", "wire format"),
        (b"\xff\xfe\n", "wire format"),
        (b"[" * 100_000 + b"\n{}", "wire format"),  # too deep for Python's reader of JSON, were it read
        (b"x" * 1_000_001, "over the limit"),
        (encode(make_envelope(), derive_key(b"x" * 32, str(AGENT.agent_id), 1)), "signature"),
        (encode(make_envelope(), KEY, generation=2), "no agent"),
        (encode(make_envelope(type=MessageType.START), KEY), "may not send"),
        (encode(make_envelope(payload={"nonsense": 1}), KEY), "does not fit"),
        (encode(make_envelope(protocol=99), KEY), "protocol 99"),
    ],
)
def test_anything_else_is_refused_with_its_reason(wire: bytes, said: str) -> None:
    with pytest.raises(BadEnvelope, match=said):
        SignedMessages(MASTER).open(wire, AGENT)


def test_an_agent_cannot_speak_for_another() -> None:
    other = Heartbeat(agent_id=str(make_id("other")), incarnation="life").model_dump(mode="json")
    with pytest.raises(BadEnvelope, match="speaks for another"):
        SignedMessages(MASTER).open(encode(make_envelope(payload=other), KEY), AGENT)


def test_a_message_that_is_too_large_is_not_even_made() -> None:
    with pytest.raises(BadEnvelope, match="over the limit"):
        encode(make_envelope(payload={"text": "x" * 1_000_001}), KEY)


def test_messages_about_one_attempt_keep_their_order_and_the_others_do_not_wait() -> None:
    def message(attempt: str, text: str) -> Message:
        said = Progress(attempt_id=make_id(attempt), lease_token=1, message=text)
        return Message(AGENT, MessageType.WORK_PROGRESS, said)

    found = split_into_rounds(
        [message("a", "1"), message("b", "1"), message("a", "2"), message("c", "1"), message("a", "3")]
    )
    assert [[(x.attempt_id, x.payload.message) for x in of_round] for of_round in found] == [  # type: ignore[attr-defined]
        [(make_id("a"), "1"), (make_id("b"), "1"), (make_id("c"), "1")],
        [(make_id("a"), "2")],
        [(make_id("a"), "3")],
    ]


def test_each_agent_and_generation_has_a_key_of_its_own() -> None:
    keys = {derive_key(MASTER, agent, generation) for agent in ("a", "b") for generation in (1, 2)}
    assert len(keys) == 4
