"""Message brokers: implementations of `chargehand.domain.ports.Broker`, held to one contract suite (tests/contract)."""

from __future__ import annotations

DELIVERY_LIMIT = 20
"""A message handed back this often is poison: it would be handed back for ever."""


def dead_letters(queue: str) -> str:
    """Return the queue that keeps what `queue` could not get rid of, for people to look at."""
    return f"{queue}.dead"
