"""How long a task may wait for an agent that is better than a free one: about as long as it might have to anyway.

Where work waits because nobody is free, some more of waiting for the right agent does not show. Where it never waits, a
task that did would stand out. So the limit follows the waits that nobody chose.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field

# Measured in simulated pools (docs/decisions/0018).
WINDOW = 1000  # of the latest tasks of an intent: of fewer, one busy hour would set the bound of the quiet one after it
ENOUGH = 20  # tasks, before one in twenty can be told
CALM = 45.0  # seconds: where one in twenty waits for less, nobody waits by choice
SHARE = 1.5  # of what is beyond that; at 2 and more, the unluckiest would wait twice as long as they have to
INSTANT = 1.0  # seconds: what is left of a wait and shorter is not worth another look


@dataclass(slots=True)
class Waits:
    """How long the latest tasks had to wait because nobody was free; 0 for those that found somebody at once."""

    latest: deque[float] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """Count one more, and forget the oldest."""
        self.latest.append(seconds)
        insort(self.ordered, seconds)
        if len(self.latest) > WINDOW:
            del self.ordered[bisect_left(self.ordered, self.latest.popleft())]

    @property
    def of_the_unluckiest(self) -> float:
        """What one in twenty had to wait at least, in seconds; 0 while too few are known."""
        return self.ordered[int(0.95 * len(self.ordered))] if len(self.ordered) >= ENOUGH else 0.0


class WaitPolicy:
    """What is known of waits, by intent. Lives in memory: after a restart nobody waits by choice until it is learnt.

    `most` is how many seconds a task may wait by choice in any case; with 0 none ever does.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._waits: dict[str, Waits] = {}

    def saw(self, intent: str, seconds: float) -> None:
        """Take note of how long a task waited until somebody was free."""
        self._waits.setdefault(intent, Waits()).add(seconds)

    def known(self, intent: str) -> int:
        """Return of how many tasks of the intent it is known how long they had to wait."""
        return len(self._waits[intent].latest) if intent in self._waits else 0

    def left(self, intent: str, waited: float) -> float:
        """Return how many seconds a task that has waited so long may still wait by choice."""
        known = self._waits.get(intent)
        busy = known.of_the_unluckiest - CALM if known else 0.0
        left = min(self._most, SHARE * busy) - waited
        return left if left >= INSTANT else 0.0
