"""When an agent must have ended its work, by its own clock. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MARGIN = 5.0
"""Seconds before the lease runs out: 2 for the work to end by itself, the rest to kill it on a busy machine."""


@dataclass
class Lease:
    """A lease as its holder sees it. All times in seconds of one monotonic clock.

    `renewed_at` is the moment the last *confirmed* heartbeat was sent, not the moment it was confirmed: the
    orchestrator cannot have renewed it any earlier.
    """

    seconds: float
    renewed_at: float

    @property
    def margin(self) -> float:
        return min(MARGIN, self.seconds / 3)  # a third, for leases so short that the margin would eat them

    @property
    def lost_at(self) -> float:
        """When its work must end."""
        return self.renewed_at + self.seconds - self.margin

    @property
    def keeper_acts_at(self) -> float:
        """When the keeper ends the programs by itself: the agent hangs, for it has had its turn."""
        return self.renewed_at + self.seconds - 0.7 * self.margin

    @property
    def grace(self) -> float:
        """Between asking the programs to end and killing them."""
        return min(2.0, 0.4 * self.margin)

    def renew(self, sent_at: float) -> None:
        """Note a confirmed heartbeat."""
        self.renewed_at = max(self.renewed_at, sent_at)
