"""Signs and sends what an agent has to say."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from chargehand.domain.envelopes import ORCHESTRATOR, Envelope, MessageType, encode
from chargehand.domain.errors import BadEnvelope
from chargehand.domain.ports import EVENTS_QUEUE, Broker
from chargehand.domain.value import Value

log = logging.getLogger("chargehand.agent")


class Trace(NamedTuple):
    """Which user's request a message belongs to."""

    trace_id: UUID
    request_id: UUID | None = None
    traceparent: str | None = None


class Reports:
    """An agent's voice."""

    def __init__(self, broker: Broker, agent_id: str, key: bytes, generation: int) -> None:
        self._broker, self._agent_id, self._key, self._generation = broker, agent_id, key, generation
        self._heard = True  # so that an outage is logged once, not with every heartbeat

    @property
    def heard(self) -> bool:
        """Whether the broker confirmed the last message."""
        return self._heard

    async def send(
        self, kind: MessageType, payload: Value, trace: Trace | None = None, *, queue: str = EVENTS_QUEUE
    ) -> bool:
        """Sign one message, publish it and return whether that was confirmed."""
        try:
            wire = encode(self._envelope(kind, payload, trace or Trace(uuid4())), self._key, self._generation)
        except BadEnvelope as error:
            log.error("a %s cannot be sent: %s", kind, error)
            return False
        [outcome] = await self._broker.publish([(queue, wire)])
        self._note(outcome)
        return outcome is None

    def _envelope(self, kind: MessageType, payload: Value, trace: Trace) -> Envelope:
        return Envelope(
            message_id=uuid4(),
            from_agent=self._agent_id,
            to_agent=ORCHESTRATOR,
            type=kind,
            trace_id=trace.trace_id,
            request_id=trace.request_id,
            timestamp=datetime.now(UTC),
            traceparent=trace.traceparent,
            payload=payload.model_dump(mode="json"),
        )

    def _note(self, outcome: BaseException | None) -> None:
        heard = outcome is None
        if heard != self._heard:
            self._heard = heard
            if heard:
                log.info("agent %s is heard again", self._agent_id)
            else:
                log.warning("agent %s is not heard: %s", self._agent_id, outcome)
