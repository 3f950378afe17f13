"""Better schedules from good ones: a stretch of a good schedule is shuffled and laid out again, from either side.

Chance comes from a seed, so the same jobs always give the same schedule, on every machine and version of Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from chargehand.planning.scheduling.schedule import Jobs, in_sequence, justified

STRETCH = 14  # jobs shuffled at a time: 13 was best for 30 jobs, 15 for 60; all of 30 is 10 % worse
ELITE = 8  # good schedules to start from; 4 and 16 are worse

MULTIPLIER, INCREMENT, STATE = 6364136223846793005, 1442695040888963407, (1 << 64) - 1  # Knuth's MMIX generator
DRAWS = 4096  # numbers drawn in advance; a shuffle takes a run of them from a place drawn anew

Ends = Sequence[int]


@dataclass(slots=True)
class Elite:
    """The shortest different schedules so far, shortest first: makespan, ends, and from which side they count."""

    best: list[tuple[int, Ends, bool]] = field(default_factory=list)

    def offer(self, ends: Ends, *, backward: bool) -> None:
        """Keep a schedule if it is among the shortest and not yet known."""
        makespan = max(ends)
        full = len(self.best) >= ELITE
        if (full and makespan > self.best[-1][0]) or any(ends == known for _, known, _ in self.best):
            return
        self.best.append((makespan, ends, backward))
        self.best.sort(key=lambda entry: entry[0])  # stable: of equals the first found stays ahead
        del self.best[ELITE:]


def improve(jobs: Jobs, found: Sequence[Ends], bound: int, layouts: int, seed: int) -> Ends:
    """Return the shortest schedule after so many more layouts, or the first that is as short as the bound."""
    elite = Elite()
    for ends in found:
        elite.offer(ends, backward=False)
    size = len(jobs.seconds)
    numbers, draws = _numbers(seed), _draws(seed, max(DRAWS, 2 * size))
    width = min(1.0, STRETCH / size)
    for _ in range(layouts // 2):
        if elite.best[0][0] <= bound:
            break
        makespan, ends, backward = elite.best[int(next(numbers) * len(elite.best))]
        first = int(next(numbers) * (len(draws) - size))
        middle, half = makespan * next(numbers), makespan * width / 2
        keys = _shuffled(jobs, ends, middle - half, middle + half, draws[first : first + size])
        ends = in_sequence(jobs, _dependencies_first(jobs, keys, backward), backward=backward)
        elite.offer(justified(jobs, ends, backward=backward), backward=not backward)
    _, ends, backward = elite.best[0]
    return justified(jobs, ends, backward=True) if backward else ends


def _shuffled(jobs: Jobs, ends: Ends, low: float, high: float, draws: Sequence[float]) -> list[float]:
    """Return the starts; those between `low` and `high` are drawn anew from there."""
    starts = [end - lasts for end, lasts in zip(ends, jobs.seconds, strict=True)]
    width = high - low
    return [low + width * draw if low <= start < high else start for start, draw in zip(starts, draws, strict=True)]


def _dependencies_first(jobs: Jobs, keys: list[float], backward: bool) -> list[int]:
    """Sort by the keys, after raising each to those of its dependencies."""
    along, before = (jobs.forward[::-1], jobs.after) if backward else (jobs.forward, jobs.before)
    for job in along:
        key = keys[job]
        for other in before[job]:
            if keys[other] > key:  # noqa: PLR1730 - as in `timeline`: max() is a call
                key = keys[other]
        keys[job] = key
    return sorted(along, key=keys.__getitem__)


def _numbers(seed: int) -> Iterator[float]:
    """Draw numbers from 0 to below 1."""
    state = seed
    while True:
        state = state * MULTIPLIER + INCREMENT & STATE
        yield (state >> 32) / (1 << 32)


@lru_cache(maxsize=8)
def _draws(seed: int, count: int) -> list[float]:
    numbers = _numbers(~seed & STATE)
    return [next(numbers) for _ in range(count)]
