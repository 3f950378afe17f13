"""The wire format of every message: a JSON envelope, signed as bytes, so that nothing has to be re-serialised.

    {"v":1,"from":"agent-1","gen":1,"mac":"<hex>"}\\n{...the envelope...}

Orders and reports are signed with the same derived key but a different direction in the MAC, so that a recorded order
cannot be played back as a report. Pure: keys and time are arguments.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import JsonValue, ValidationError

from chargehand.domain import bounded_json
from chargehand.domain.errors import BadEnvelope, UnreadableText
from chargehand.domain.value import Value

PROTOCOL = 1
MAX_BYTES = 1_000_000  # a result with its diff fits; RabbitMQ is not a file store
MAX_HEAD = 1_000  # a name and a MAC; read before the signature is checked, so nobody may make it long or deep
MOST_BITS = 1_024  # of a whole number: as large as the largest fraction; Python writes none of over 4,300 digits
_ODD_NUMBER = re.compile(rb"NaN|Infinity|[eE]\+?\d{3}|\d{300}")  # only with these a message is looked through
DEEPEST = bounded_json.DEEPEST + 8  # levels: an envelope around a payload around what somebody returned
ORCHESTRATOR = "orchestrator"


class MessageType(StrEnum):
    """What a message is about."""

    REGISTER = "register"
    HEARTBEAT = "heartbeat"
    WORK_REQUEST = "work_request"
    WORK_ACCEPTED = "work_accepted"
    START = "start"  # the grant for work that is not safe to repeat
    WORK_PROGRESS = "work_progress"
    WORK_RESULT = "work_result"
    RECORDED = "recorded"  # these results are in the database: the agent may forget them
    CANCEL = "cancel"


class Envelope(Value):
    """One message. `request_id` names the user's request, `trace_id` everything that came of it."""

    message_id: UUID
    protocol: int = PROTOCOL
    from_agent: str
    to_agent: str
    type: MessageType
    trace_id: UUID
    request_id: UUID | None = None
    timestamp: datetime
    traceparent: str | None = None
    payload: dict[str, JsonValue]


Direction = Literal["order", "report"]


def derive_key(master: bytes, agent_id: str, generation: int) -> bytes:
    """Return the 32-byte key of one agent. The master key never leaves the orchestrator."""
    return hmac.digest(master, f"chargehand agent key {agent_id} {generation}".encode(), "sha256")


def encode(envelope: Envelope, key: bytes, generation: int = 1) -> bytes:
    """Serialise and sign. Raises `BadEnvelope` when the message is larger than `MAX_BYTES`, or holds a number that the
    other side would refuse: it would be sent again and again."""
    body = envelope.model_dump_json().encode()
    if _ODD_NUMBER.search(body) and not is_storable(envelope.payload):
        raise BadEnvelope(f"a {envelope.type} message holds a number that is none in JSON, or of more than 300 digits")
    head = {"v": PROTOCOL, "from": envelope.from_agent, "gen": generation, "mac": _mac(key, _direction(envelope), body)}
    wire = json.dumps(head, separators=(",", ":")).encode() + b"\n" + body
    if len(wire) > MAX_BYTES:
        raise BadEnvelope(f"a {envelope.type} message of {len(wire):,} bytes is over the limit of {MAX_BYTES:,}")
    return wire


def claimed_sender(wire: bytes) -> tuple[str, int]:
    """Return the claimed sender and key generation: to look the key up with, not to be trusted."""
    head = _head(wire)
    sender, generation = head.get("from"), head.get("gen")
    if not isinstance(sender, str) or not isinstance(generation, int):
        raise BadEnvelope("the message does not say who it is from")
    return sender, generation


def decode(wire: bytes, key: bytes, direction: Direction) -> Envelope:
    """Check the signature and return the envelope. Raises `BadEnvelope`; nothing unsigned gets through."""
    head = _head(wire)
    body = wire.split(b"\n", 1)[1]
    if not hmac.compare_digest(str(head.get("mac", "")), _mac(key, direction, body)):
        raise BadEnvelope(f"the signature of a message from {head.get('from')!r} is wrong")
    if bounded_json.is_deeper(body.decode(errors="replace"), DEEPEST):
        raise BadEnvelope(f"a signed message is nested more than {DEEPEST} levels deep")
    try:
        envelope = Envelope.model_validate_json(body)
    except ValidationError as error:
        raise BadEnvelope(f"a signed message does not fit the protocol: {error.error_count()} errors") from error
    if _ODD_NUMBER.search(body) and not is_storable(envelope.payload):
        raise BadEnvelope("a signed message holds a number that is none in JSON, or of more than 300 digits")
    if envelope.protocol != PROTOCOL:
        raise BadEnvelope(f"protocol {envelope.protocol} is not spoken here (this is {PROTOCOL})")
    if envelope.from_agent != head.get("from") or _direction(envelope) != direction:
        raise BadEnvelope("the envelope names another sender than its signature")
    return envelope


def is_storable(value: JsonValue) -> bool:
    """Whether the database's JSON can hold every number: one that it refuses would stop a whole batch of messages."""
    if isinstance(value, dict):
        return all(map(is_storable, value.values()))
    if isinstance(value, list):
        return all(map(is_storable, value))
    if isinstance(value, float):
        return float("-inf") < value < float("inf")
    return not isinstance(value, int) or value.bit_length() <= MOST_BITS


def _direction(envelope: Envelope) -> Direction:
    return "order" if envelope.from_agent == ORCHESTRATOR else "report"


def _mac(key: bytes, direction: Direction, body: bytes) -> str:
    return hmac.new(key, direction.encode() + b"\n" + body, hashlib.sha256).hexdigest()


def _head(wire: bytes) -> dict[str, Any]:
    if len(wire) > MAX_BYTES:
        raise BadEnvelope(f"a message of {len(wire):,} bytes is over the limit of {MAX_BYTES:,}")
    first, separator, _ = wire.partition(b"\n")
    if len(first) > MAX_HEAD:
        raise BadEnvelope("the message is not in the wire format")
    try:
        head = bounded_json.loads(first, most=MAX_HEAD, deepest=1)
    except UnreadableText as error:
        raise BadEnvelope("the message is not in the wire format") from error
    if not separator or not isinstance(head, dict) or head.get("v") != PROTOCOL:
        raise BadEnvelope("the message is not in the wire format")
    return head
