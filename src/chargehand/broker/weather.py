"""What can happen to a message between two programs, decided from outside, so that a bad day can be replayed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one published message.

    `copies` are delivered (0: it is lost), each `delay` seconds late; an unconfirmed one is reported to its sender as
    failed, whatever became of it.
    """

    copies: int = 1
    delay: float = 0.0
    confirmed: bool = True


class Weather(Protocol):
    """Decides the fate of each message."""

    def fate(self, queue: str) -> Fate: ...


UNHARMED = Fate()


class Calm:
    """Every message arrives once, in order."""

    def fate(self, queue: str) -> Fate:
        return UNHARMED


class Rough:
    """Loses, doubles and delays messages with the given probabilities; different delays are what changes the order.

    Every message draws the same number of random numbers, so turning one probability changes nothing else in a replay.
    """

    def __init__(
        self,
        random: Random,
        *,
        lose: float = 0.0,
        duplicate: float = 0.0,
        delay: float = 0.0,
        longest_delay: float = 0.05,
        unconfirmed: float = 0.0,
    ) -> None:
        self._random = random
        self._lose, self._duplicate, self._delay, self._unconfirmed = lose, duplicate, delay, unconfirmed
        self._longest_delay = longest_delay

    def fate(self, queue: str) -> Fate:
        lost, doubled, late, unconfirmed, how_late = (self._random.random() for _ in range(5))
        return Fate(
            copies=0 if lost < self._lose else 2 if doubled < self._duplicate else 1,
            delay=how_late * self._longest_delay if late < self._delay else 0.0,
            confirmed=unconfirmed >= self._unconfirmed,
        )
