"""How often one agent may say the same kind of thing. What comes faster is dropped, and said again by an honest agent.

A registration makes the catalog be read and the agent's rows be locked; an agent that sends nothing else would take the
time of all others. Each server counts for itself: it is its own time that it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

TOLD_EVERY = 60.0
"""Seconds between two anomalies of one agent and kind: what keeps a flood out must not write one of its own."""


class Rate(NamedTuple):
    """So many at once, and so many a second in the long run."""

    burst: float
    per_second: float


REGISTRATIONS = Rate(30, 0.5)
"""An agent registers when it starts, when its files change, and when it is asked to: a few times an hour. A crash loop
under systemd registers every second or so, and gets its share."""
HEARTBEATS = Rate(300, 50)
"""One every ten seconds, as it is set; the shortest that makes sense is some fifty milliseconds."""


@dataclass
class _Count:
    left: float
    at: float
    dropped: int = 0
    told_at: float | None = None


class Pace:
    """Counts one kind of message per agent. Its memory grows with the agents that are enrolled, and no further."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._counts: dict[UUID, _Count] = {}

    def allows(self, agent_id: UUID, now: float) -> bool:
        """Count a message and return whether it is to be looked at. `now` in seconds of any steady clock."""
        count = self._counts.setdefault(agent_id, _Count(self._rate.burst, now))
        count.left = min(self._rate.burst, count.left + max(now - count.at, 0.0) * self._rate.per_second)
        count.at = now
        if count.left < 1:
            count.dropped += 1
            return False
        count.left -= 1
        return True

    def news(self, agent_id: UUID, now: float) -> int:
        """Return how many were dropped since that was last told; 0 when there are none, or it is too early to tell."""
        count = self._counts.get(agent_id)
        if count is None or not count.dropped or (count.told_at is not None and now - count.told_at < TOLD_EVERY):
            return 0
        dropped, count.dropped, count.told_at = count.dropped, 0, now
        return dropped
