"""Jobs laid out over time: when each ends if they are started in a given sequence, or by rank as room comes free.

This is the innermost loop of ordering, so it works on plain integers. What a job needs of every contended resource and
key is packed into one integer, a field each; above every field stands a guard bit. `(free - need) & guard == guard`
then says in one subtraction that all of it fits: a field that would go below zero borrows its guard bit.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from chargehand.planning.dependencies import all_after, longest_after, topological, turned

NEVER = 1 << 60  # seconds; the end of every timeline


@dataclass(frozen=True, slots=True)
class Jobs:
    """What the scheduler knows, one entry per job; jobs are named by their index in the sequence asked for.

    `demands[n][job]` is what a job needs of the n-th contended resource, of which `limits[n]` are there; an exclusive
    key is a resource of which there is one. `need`, `room` and `guard` are the same, packed. `forward` is the sequence
    asked for with dependencies first. `tails` is how long the work behind a job takes at least, in seconds, `behind`
    which jobs that is, as a bit mask.
    """

    seconds: Sequence[int]
    before: Sequence[Sequence[int]]
    after: Sequence[Sequence[int]]
    demands: Sequence[Sequence[int]]
    limits: Sequence[int]
    need: Sequence[int]
    room: int
    guard: int
    forward: Sequence[int]
    tails: Sequence[int]
    behind: Sequence[int]


def make_jobs(
    seconds: Sequence[int], before: Sequence[Sequence[int]], demands: Sequence[Sequence[int]], limits: Sequence[int]
) -> Jobs:
    """Return the jobs ready to be laid out. No demand may be above its limit; dependencies may not form a circle."""
    contended = [n for n, needs in enumerate(demands) if sum(needs) > limits[n]]  # the others never hold a job up
    demands, limits = [demands[n] for n in contended], [limits[n] for n in contended]
    after = turned(before)
    forward = topological(before, range(len(seconds)))
    need, room, guard = _packed(demands, limits, len(seconds))
    tails, behind = longest_after(after, seconds, forward), all_after(after, forward)
    return Jobs(seconds, before, after, demands, limits, need, room, guard, forward, tails, behind)


def _packed(demands: Sequence[Sequence[int]], limits: Sequence[int], size: int) -> tuple[list[int], int, int]:
    need, room, guard, shift = [0] * size, 0, 0, 0
    for needs, limit in zip(demands, limits, strict=True):
        need = [packed | wanted << shift for packed, wanted in zip(need, needs, strict=True)]
        room |= limit << shift
        shift += limit.bit_length() + 1
        guard |= 1 << shift - 1
    return need, room | guard, guard


def in_sequence(jobs: Jobs, sequence: Sequence[int], *, backward: bool = False) -> list[int]:
    """Start every job of the sequence as early as it fits beside those before it, and return when each ends.

    (Serial schedule generation.) The sequence must respect the dependencies. `backward` turns time around: the
    sequence begins with what nothing comes after, and ends are counted from the end.
    """
    seconds, need, guard = jobs.seconds, jobs.need, jobs.guard
    before = jobs.after if backward else jobs.before
    times, free = [0, NEVER], [jobs.room]  # from times[n] to times[n + 1], free[n] is unused
    ends = [0] * len(seconds)
    for job in sequence:
        start = 0
        for other in before[job]:
            if ends[other] > start:  # noqa: PLR1730 - this loop is where the time goes; max() is a call
                start = ends[other]
        lasts, wants = seconds[job], need[job]
        end = start + lasts
        ends[job] = end
        if not (lasts and wants):
            continue
        first = step = bisect_right(times, start) - 1
        while True:
            if (free[step] - wants) & guard != guard:
                first = step = step + 1
                start = times[step]
                end = start + lasts
            else:
                step += 1
                if times[step] >= end:
                    break
        ends[job] = end
        if times[first] != start:
            first += 1
            step += 1
            times.insert(first, start)
            free.insert(first, free[first - 1])
        if times[step] != end:
            times.insert(step, end)
            free.insert(step, free[step - 1])
        for used in range(first, step):
            free[used] -= wants
    return ends


def by_rank(jobs: Jobs, ranks: Sequence[float]) -> list[int]:
    """At each moment at which something ends, start what fits, lowest rank first; return when each job ends.

    (Parallel schedule generation.) Nothing is held back for a job that comes later, so its schedules are dense, but
    the shortest one may not be among them.
    """
    seconds, need, guard, room = jobs.seconds, jobs.need, jobs.guard, jobs.room
    missing = [len(others) for others in jobs.before]
    waiting = sorted((ranks[job], job) for job, waits_for in enumerate(missing) if not waits_for)
    running: list[tuple[int, int]] = []
    ends, now = [0] * len(seconds), 0
    while waiting or running:
        held = []
        for entry in waiting:
            job = entry[1]
            if (room - need[job]) & guard == guard:
                room -= need[job]
                ends[job] = now + seconds[job]
                heappush(running, (ends[job], job))
            else:
                held.append(entry)
        waiting = held
        now = running[0][0]
        while running and running[0][0] == now:
            _, job = heappop(running)
            room += need[job]
            for follower in jobs.after[job]:
                missing[follower] -= 1
                if not missing[follower]:
                    insort(waiting, (ranks[follower], follower))
    return ends


def justified(jobs: Jobs, ends: Sequence[int], *, backward: bool = False) -> list[int]:
    """Lay the jobs out from the other side, what ended last first; return the ends, counted from there.

    That never makes a schedule longer, and doing it twice is "double justification": the gaps move to the ends.
    `backward` says that `ends` are counted from the end themselves.
    """
    along = jobs.forward if not backward else jobs.forward[::-1]
    sequence = sorted(along, key=ends.__getitem__)  # stable: of two that end together, the dependency comes first
    sequence.reverse()
    return in_sequence(jobs, sequence, backward=not backward)


def start_order(jobs: Jobs, ends: Sequence[int]) -> list[int]:
    """Return the jobs by their starts; what starts together stays as it was asked for."""
    return sorted(jobs.forward, key=lambda job: ends[job] - jobs.seconds[job])
