"""Messages between the orchestrator and its agents: signing what goes out, checking what comes in. Pure.

Nothing an agent says is looked at before its signature is checked with the key of the agent it claims to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import ValidationError

from chargehand.domain.envelopes import ORCHESTRATOR, Envelope, MessageType, claimed_sender, decode, derive_key, encode
from chargehand.domain.errors import BadEnvelope
from chargehand.domain.messages import Acceptance, AgentRegistration, Heartbeat, Progress, WorkResult
from chargehand.domain.records import KnownAgent
from chargehand.domain.value import Value

PAYLOADS: dict[MessageType, type[Value]] = {
    MessageType.REGISTER: AgentRegistration,
    MessageType.HEARTBEAT: Heartbeat,
    MessageType.WORK_ACCEPTED: Acceptance,
    MessageType.WORK_PROGRESS: Progress,
    MessageType.WORK_RESULT: WorkResult,
}
"""What an agent may send."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message whose signature is right and whose payload has the right form."""

    agent: KnownAgent
    type: MessageType
    payload: Value
    generation: int = 1
    message_id: UUID | None = None

    @property
    def attempt_id(self) -> UUID | None:
        """The attempt it is about, for those that are about one."""
        return getattr(self.payload, "attempt_id", None)


class SignedMessages:
    """The orchestrator's side: it has the master key and derives each agent's."""

    def __init__(self, master_key: bytes) -> None:
        self._master_key = master_key

    def order(
        self, agent: KnownAgent, kind: MessageType, payload: Value | dict[str, object], head: Letterhead
    ) -> bytes:
        """Return a signed order to one agent. Raises `BadEnvelope` when it is too large."""
        body = payload.model_dump(mode="json") if isinstance(payload, Value) else payload
        envelope = Envelope.model_validate(
            {
                "message_id": head.message_id,
                "from_agent": ORCHESTRATOR,
                "to_agent": str(agent.agent_id),
                "type": kind,
                "trace_id": head.trace_id,
                "request_id": head.request_id,
                "timestamp": head.now,
                "traceparent": f"00-{head.trace_id.hex}-{head.message_id.hex[:16]}-01",
                "payload": body,
            }
        )
        # After a rotation the agent may not have its new key yet: speak as it last spoke.
        generation = agent.spoken_generation
        return encode(envelope, self._key(agent, generation), generation)

    def open(self, wire: bytes, agent: KnownAgent | None) -> Message:
        """Check a message against the agent it claims to be from. Raises `BadEnvelope`."""
        sender, generation = claimed_sender(wire)
        if agent is None or generation not in (agent.spoken_generation, agent.key_generation):
            raise BadEnvelope(f"no agent {sender!r} is enrolled with key generation {generation}")
        envelope = decode(wire, self._key(agent, generation), "report")
        form = PAYLOADS.get(envelope.type)
        if form is None:
            raise BadEnvelope(f"an agent may not send {envelope.type}")
        try:
            payload = form.model_validate(envelope.payload)
        except ValidationError as error:
            raise BadEnvelope(f"a {envelope.type} does not fit the protocol: {error.error_count()} errors") from error
        if getattr(payload, "agent_id", sender) != sender:
            raise BadEnvelope(f"{sender!r} speaks for another agent")
        return Message(agent, envelope.type, payload, generation, envelope.message_id)

    def _key(self, agent: KnownAgent, generation: int) -> bytes:
        return derive_key(self._master_key, str(agent.agent_id), generation)


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What every order carries besides its payload."""

    message_id: UUID
    trace_id: UUID
    request_id: UUID | None
    now: datetime


def sender_of(wire: bytes) -> UUID:
    """Return who a message claims to be from. Raises `BadEnvelope`."""
    sender, _ = claimed_sender(wire)
    try:
        return UUID(sender)
    except ValueError as error:
        raise BadEnvelope(f"{sender[:80]!r} is not an agent's id") from error


def split_into_rounds(messages: Iterable[Message]) -> list[list[Message]]:
    """Split messages so that a round has at most one per attempt, in their order: a round is written at once."""
    found: list[list[Message]] = []
    depth: dict[UUID | None, int] = {}
    for message in messages:
        n = depth.get(message.attempt_id, 0)
        depth[message.attempt_id] = n + 1
        if n == len(found):
            found.append([])
        found[n].append(message)
    return found
