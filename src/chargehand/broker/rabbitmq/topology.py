"""Which exchanges and queues there are, and how a message finds its queue. Names and settings only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from chargehand.broker import DELIVERY_LIMIT, dead_letters
from chargehand.domain.errors import BadConfiguration
from chargehand.domain.ports import EVENTS_QUEUE, HEARTBEATS_QUEUE

if TYPE_CHECKING:
    from pamqp.common import FieldTable

WORK, EVENTS, DEAD = "chargehand.work", "chargehand.events", "chargehand.dead"
EXCHANGES = {WORK: "topic", EVENTS: "topic", DEAD: "direct"}

SHARED = frozenset({EVENTS_QUEUE, HEARTBEATS_QUEUE})  # every agent writes into these

MOST_WAITING = 100_000  # then senders are told: nobody reads, and a broker whose disk is full serves nobody
MOST_KEPT = 10_000  # dead letters and heartbeats: the newest are the ones somebody looks for
HEARTBEAT_LIFE = 30_000  # ms; three heartbeats later the agent counts as offline whatever this one says


class Binding(NamedTuple):
    """What leads messages from an exchange into a queue."""

    exchange: str
    key: str


class Declaration(NamedTuple):
    """A queue as it is on the broker. All are durable: RabbitMQ 4.3 refuses shared queues that are not."""

    name: str
    arguments: FieldTable
    binding: Binding


@dataclass(frozen=True, slots=True)
class Topology:
    """`namespace` comes before every name, so that installations can share a broker; `sender` is the last word of the
    routing keys of events, which a topic permission can tie to a user."""

    namespace: str = ""
    sender: str = "guest"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{0,60}", self.namespace):
            raise BadConfiguration(
                f"{self.namespace!r} cannot be the prefix of queues",
                hint="Use at most 60 letters, digits, and the signs . _ -",
            )

    def name(self, plain: str) -> str:
        """Return what a queue or an exchange is called on the broker."""
        return f"{self.namespace}.{plain}" if self.namespace else plain

    @property
    def exchanges(self) -> dict[str, str]:
        """The type of each exchange, by name."""
        return {self.name(plain): kind for plain, kind in EXCHANGES.items()}

    def route(self, queue: str) -> Binding:
        """Return the exchange to publish to, and the routing key."""
        if queue in SHARED:
            return Binding(self.name(EVENTS), f"{queue}.{self.sender}")
        return Binding(self.name(WORK), self.name(queue))

    def declarations(self, queue: str) -> tuple[Declaration, ...]:
        """Return the queue with what belongs to it, in the order in which they must be made."""
        if queue == HEARTBEATS_QUEUE:
            return (Declaration(self.name(queue), HEARTBEATS, self._binding(queue)),)
        name, grave = self.name(queue), self.name(dead_letters(queue))
        dead = self.name(DEAD)
        arguments = QUORUM | {"x-dead-letter-exchange": dead, "x-dead-letter-routing-key": grave}
        return (
            Declaration(grave, GRAVEYARD, Binding(dead, grave)),
            Declaration(name, arguments, self._binding(queue)),
        )

    def _binding(self, queue: str) -> Binding:
        if queue in SHARED:
            return Binding(self.name(EVENTS), f"{queue}.#")
        return self.route(queue)


# Replicated in a cluster, on disk before a message is confirmed, and the only kind that counts deliveries.
QUORUM: FieldTable = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-max-length": MOST_WAITING,
    "x-overflow": "reject-publish",
}
GRAVEYARD: FieldTable = {"x-queue-type": "classic", "x-max-length": MOST_KEPT, "x-overflow": "drop-head"}
HEARTBEATS = GRAVEYARD | {"x-message-ttl": HEARTBEAT_LIFE}
