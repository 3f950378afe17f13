"""What no schedule can beat. A schedule as short as a bound is optimal, and nothing more is tried."""

from __future__ import annotations

from collections.abc import Sequence

from chargehand.planning.scheduling.schedule import Jobs


def lower_bound(jobs: Jobs) -> int:
    """No schedule is shorter than its longest chain, nor than all work on one resource or one key laid end to end."""
    chain = max((own + tail for own, tail in zip(jobs.seconds, jobs.tails, strict=True)), default=0)
    return max([chain, *(-(-total // limit) for total, limit in zip(work(jobs), jobs.limits, strict=True))])


def work(jobs: Jobs) -> list[int]:
    """Return how much there is to do on each contended resource: units times seconds."""
    return [sum(n * lasts for n, lasts in zip(needs, jobs.seconds, strict=True)) for needs in jobs.demands]


def one_by_one(jobs: Jobs) -> list[int]:
    """Return, for every set of jobs (as a bit mask), the longest work in it that can only be done one after the other.

    Two jobs exclude each other when one depends on the other or both do not fit side by side. 2 ** n entries, so only
    for few jobs: each set has its last job or not, and with it only what excludes that one.
    """
    exclusive = _exclusive_pairs(jobs)
    longest = [0]
    for job, lasts in enumerate(jobs.seconds):
        others = exclusive[job]
        longest += [max(without, lasts + longest[mask & others]) for mask, without in enumerate(longest)]
    return longest


def _exclusive_pairs(jobs: Jobs) -> Sequence[int]:
    exclusive = list(jobs.behind)
    for one in range(len(exclusive)):
        left = jobs.room - jobs.need[one]
        for other in range(one):
            if jobs.behind[one] >> other & 1 or jobs.behind[other] >> one & 1 or _too_much(jobs, left, other):
                exclusive[one] |= 1 << other
                exclusive[other] |= 1 << one
    return exclusive


def _too_much(jobs: Jobs, left: int, other: int) -> bool:
    return (left - jobs.need[other]) & jobs.guard != jobs.guard
