"""The shortest schedule of few jobs, exactly: branch over which job starts next, cut what cannot be shorter.

Jobs are started in the order of their starts, each as early as it can be. A branch is cut when a chain, the work on a
resource, or jobs that exclude each other need longer than the best schedule known, and when the same jobs were started
before with all of them ending no later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chargehand.planning.scheduling.lower_bounds import one_by_one, work
from chargehand.planning.scheduling.schedule import NEVER, Jobs

MOST_JOBS = 10  # up to here exact, in 0.1 ms as a rule
MOST_BRANCHES = 10_000  # some 0.3 s; the most seen in 300 hard plans of ten jobs is 7,900, one in twenty has over 500

Running = Sequence[tuple[int, int]]  # (end, job), the first to end first


@dataclass(slots=True)
class Branching:
    """One search. `shortest` and `ends` are the best schedule known."""

    jobs: Jobs
    ends: Sequence[int]
    shortest: int
    bound: int
    after_set: Sequence[int] = ()
    wait_for: Sequence[int] = ()
    known: dict[int, list[list[int]]] = field(default_factory=dict)
    branches: int = 0

    def explore(self, started: int, now: int, running: Running, ends: list[int], left: Sequence[int]) -> None:
        """Try every job that can start next. `started` is a bit mask, `left` the work left on each resource."""
        self.branches += 1
        if started == len(self.after_set) - 1:
            self.shortest, self.ends = max(ends), ends
            return
        seconds, tails = self.jobs.seconds, self.jobs.tails
        for start, _, job in self._candidates(started, now, running, ends, left):
            if start + seconds[job] + tails[job] >= self.shortest or self.branches >= MOST_BRANCHES:
                return
            end = start + seconds[job]
            after = ends.copy()
            after[job] = end
            with_it = started | 1 << job
            if self._is_dominated(with_it, [start, *(start if other < start else other for other in after)]):
                continue
            still = sorted([*(entry for entry in running if entry[0] > start), (end, job)])
            rest = [all_ - needs[job] * seconds[job] for all_, needs in zip(left, self.jobs.demands, strict=True)]
            self.explore(with_it, start, still, after, rest)
            if self.shortest <= self.bound:
                return

    def _candidates(
        self, started: int, now: int, running: Running, ends: Sequence[int], left: Sequence[int]
    ) -> list[tuple[int, int, int]]:
        """Return (start, urgency, job) of the jobs that may come next; none when no schedule from here is shorter.

        A job that could start only when another one could already have been done has to wait for that one.
        """
        seconds, tails = self.jobs.seconds, self.jobs.tails
        found, done_by, earliest = [], NEVER, NEVER
        for job, wait_for in enumerate(self.wait_for):
            if started >> job & 1 or wait_for & ~started:
                continue
            start = self._earliest(job, now, running, ends)
            end = start + seconds[job]
            if end + tails[job] >= self.shortest:
                return []
            found.append((start, -end - tails[job], job))
            done_by, earliest = min(done_by, end), min(earliest, start)
        if self._needs_longer(started, earliest, running, left):
            return []
        found.sort()
        return [entry for entry in found if entry[0] < done_by or not seconds[entry[2]]]

    def _earliest(self, job: int, now: int, running: Running, ends: Sequence[int]) -> int:
        need, guard, wants = self.jobs.need, self.jobs.guard, self.jobs.need[job]
        start = now
        for other in self.jobs.before[job]:
            if ends[other] > start:  # noqa: PLR1730 - as in `timeline`: max() is a call
                start = ends[other]
        free = self.jobs.room
        for _, other in running:
            free -= need[other]
        for end, other in running:
            if end > start:
                if (free - wants) & guard == guard:
                    break
                start = end
            free += need[other]
        return start

    def _needs_longer(self, started: int, now: int, running: Running, left: Sequence[int]) -> bool:
        """Whether what is left cannot be done in time, starting now: one after the other, or by the work there is."""
        time = self.shortest - now
        if self.after_set[~started] >= time:
            return True
        for needs, limit, all_ in zip(self.jobs.demands, self.jobs.limits, left, strict=True):
            total = all_
            for end, job in running:
                if end > now:
                    total += (end - now) * needs[job]
            if total > limit * (time - 1):
                return True
        return False

    def _is_dominated(self, started: int, ends: list[int]) -> bool:
        """Whether the same jobs were started before, the last as early and none ending later; else remember it."""
        known = self.known.setdefault(started, [])
        for other in known:
            for earlier, later in zip(other, ends, strict=True):
                if earlier > later:
                    break
            else:
                return True
        known.append(ends)
        return False


def shortest(jobs: Jobs, ends: Sequence[int], bound: int) -> Sequence[int]:
    """Return the ends of a shortest schedule, the one given if there is no shorter one."""
    exclusive = one_by_one(jobs)
    search = Branching(jobs, ends, max(ends), max(bound, exclusive[-1]), exclusive)
    if search.shortest > search.bound:
        search.wait_for = [sum(1 << other for other in others) for others in jobs.before]
        search.explore(0, 0, (), [0] * len(jobs.seconds), work(jobs))
    return search.ends
