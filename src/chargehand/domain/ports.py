"""What the engine and the agents need of the outside world. One folder per port, one contract suite each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from chargehand.domain.llm import Ask, Extracted, Opinion, Reply

if TYPE_CHECKING:
    pass

EVENTS_QUEUE = "events"  # results, acceptances and progress, for any orchestrator
HEARTBEATS_QUEUE = "heartbeats"  # registrations and heartbeats; may be lost without harm


def work_queue(agent_id: str) -> str:
    """Return the name of the queue whose only reader is that agent."""
    return f"agent.{agent_id}"


def control_queue(agent_id: str) -> str:
    """Return the queue for grants, cancels and acknowledgements, so that they never wait behind work."""
    return f"agent.{agent_id}.control"


class Delivery(Protocol):
    """One message as it arrived. Exactly one of `ack`, `reject` ends it; until then the broker may deliver it again."""

    @property
    def body(self) -> bytes: ...

    @property
    def redelivered(self) -> bool: ...

    async def ack(self) -> None: ...

    async def reject(self, *, requeue: bool) -> None: ...


OnMessage = Callable[[Delivery], Awaitable[None]]


class Subscription(Protocol):
    """A running consumer."""

    async def stop(self) -> None:
        """Take no more messages; deliveries that are not acknowledged go back to the queue."""


class Broker(Protocol):
    """Delivers bytes at least once, in any order, or loses them: the database is the truth."""

    async def start(self) -> None:
        """Connect. Raises `BrokerUnreachable`."""

    async def stop(self) -> None: ...

    async def declare(self, queue: str) -> None:
        """Make a queue if there is none. Repeating it does nothing."""

    async def remove(self, queue: str) -> None:
        """Delete a queue and what is in it."""

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> list[BaseException | None]:
        """Send (queue, body) pairs and wait for the confirms. One outcome each, in order: None when confirmed,
        `Unroutable` when no such queue exists, `BrokerUnreachable` when unconfirmed (it may have arrived)."""

    async def consume(self, queue: str, on_message: OnMessage, *, prefetch: int = 16) -> Subscription:
        """Call `on_message` for each delivery, up to `prefetch` at a time. The queue must be declared."""


class LLM(Protocol):
    """One tier that can be asked for a structured answer. It never raises for a model's failure: the reply says it.

    `timeout` is how many seconds one request may spend in it, all attempts together; None: it always answers soon.
    """

    @property
    def tier(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def timeout(self) -> float | None: ...

    async def structured(self, ask: Ask) -> Reply: ...


class SecondReader(Protocol):
    """Reads what a model has read, by itself, so that the two can be compared."""

    async def opinion(self, ask: Ask, parts: Sequence[str]) -> Opinion | None:
        """Return what it makes of the request and of each of these parts of it; None where it cannot read it."""

    async def extracted(self, ask: Ask, parts: Sequence[tuple[str, str]]) -> Sequence[Extracted]:
        """Return the values that each part, an intent and its words, gives; nothing at all where it cannot read."""
