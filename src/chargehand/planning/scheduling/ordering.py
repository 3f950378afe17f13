"""In which order the tasks of a plan are best done: dependency-safe, resource-aware, in a tie as they were asked for.

    order(tasks, capacity) -> the orders of the tasks, in sequence

Every rule of `RULES` gives two schedules, each pushed together from both sides; up to ten tasks are then solved
exactly, more are improved by seeded sampling. The user's own sequence is tried first and wins ties. There is no clock:
what is tried is bounded by counts (`layouts`), so the same tasks always give the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from chargehand.domain.errors import BadDecomposition
from chargehand.domain.intents import Resources
from chargehand.domain.plans import WorkTask
from chargehand.planning.dependencies import check_dependencies, places_before, topological
from chargehand.planning.scheduling import branch_and_bound, local_search
from chargehand.planning.scheduling.lower_bounds import lower_bound
from chargehand.planning.scheduling.schedule import Jobs, by_rank, in_sequence, justified, make_jobs, start_order

SEED = 1  # of the sampling; any number does
LAYOUTS_PER_JOB = 8  # 30 jobs: 240 layouts in 15 to 20 ms, 0.4 % above the optimum
LAYOUT_STEPS = 2_100_000  # layouts x jobs x jobs, as laying out n jobs takes n * n steps: 60 jobs 80 ms, 300 70 ms
LAYOUTS_PER_TRIAL = 3  # by a rule, then justified to the right and to the left

RULES: Mapping[str, Callable[[Jobs, int], float]] = {  # the job with the smallest number comes first
    "as asked for": lambda jobs, job: job,
    "latest finish": lambda jobs, job: -jobs.tails[job],
    "latest start": lambda jobs, job: -jobs.tails[job] - jobs.seconds[job],
    "most successors": lambda jobs, job: -jobs.behind[job].bit_count(),
    "longest": lambda jobs, job: -jobs.seconds[job],
    "most work": lambda jobs, job: -jobs.seconds[job] * _share(jobs, job),
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each task (by its order) starts if all start as early as they can, and when the last ends. Seconds."""

    starts: Mapping[int, int]
    makespan: int


def order(tasks: Sequence[WorkTask], capacity: Resources, *, held: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """Return the orders of the tasks in the sequence in which they are best done.

    A task that cannot start now (it needs more than `capacity`, or is in `held`: nobody is there to do it) comes
    after every task that can, unless that one depends on it. Raises `BadDecomposition` as `check_dependencies` does.
    """
    check_dependencies(tasks)
    waits = _waiting(tasks, capacity, held)
    groups = ([t for t in tasks if t.order not in waits], [t for t in tasks if t.order in waits])
    return tuple(group[job].order for group in groups for job in sequence(jobs_of(group, capacity)))


def schedule(tasks: Sequence[WorkTask], capacity: Resources) -> Schedule:
    """Lay out the tasks in the sequence given, several at once where they fit.

    A task that needs more than `capacity` is laid out as if it took all of it. Raises `BadDecomposition` as
    `check_dependencies` does, also for a sequence that breaks a dependency.
    """
    check_dependencies(tasks)
    jobs = jobs_of(tasks, capacity)
    if any(before > index for index, others in enumerate(jobs.before) for before in others):
        raise BadDecomposition("a task comes before one that it depends on")
    ends = in_sequence(jobs, range(len(tasks)))
    starts = {task.order: end - seconds for task, end, seconds in zip(tasks, ends, jobs.seconds, strict=True)}
    return Schedule(starts, max(ends, default=0))


def critical_path(tasks: Sequence[WorkTask]) -> int:
    """Return how long the tasks take at least, however many are done at once. Seconds."""
    jobs = make_jobs([_seconds(task) for task in tasks], places_before(tasks), [], [])
    return lower_bound(jobs)


def sequence(jobs: Jobs, seed: int = SEED) -> list[int]:
    """Return the jobs in the sequence of the shortest schedule found; as asked for, if none is shorter than that."""
    asked = list(jobs.forward)
    ends, bound = in_sequence(jobs, asked), lower_bound(jobs)
    if max(ends, default=0) <= bound:
        return asked
    best = _shortest(jobs, ends, bound, seed)
    return start_order(jobs, best) if max(best) < max(ends) else asked


def layouts(jobs: int) -> int:
    """Return how often so many jobs may be laid out."""
    return min(LAYOUTS_PER_JOB * jobs, LAYOUT_STEPS // max(1, jobs * jobs))


def _shortest(jobs: Jobs, asked: Sequence[int], bound: int, seed: int) -> Sequence[int]:
    budget = layouts(len(asked))
    found: list[Sequence[int]] = [asked]
    for ends in islice(_portfolio(jobs), budget // LAYOUTS_PER_TRIAL):
        found.append(ends)
        if max(ends) <= bound:
            return ends
    if len(asked) <= branch_and_bound.MOST_JOBS:
        return branch_and_bound.shortest(jobs, min(found, key=max), bound)
    return local_search.improve(jobs, found, bound, budget - LAYOUTS_PER_TRIAL * len(found), seed)


def _portfolio(jobs: Jobs) -> Iterator[list[int]]:
    """Lay the jobs out by every rule, one by one and all that fit at once, and push each schedule together."""
    for rule in RULES.values():
        ranks = [rule(jobs, job) for job in range(len(jobs.seconds))]
        by_list = in_sequence(jobs, topological(jobs.before, ranks))
        for ends in (by_list, by_rank(jobs, ranks)):
            yield justified(jobs, justified(jobs, ends), backward=True)


def jobs_of(tasks: Sequence[WorkTask], capacity: Resources) -> Jobs:
    """Return the tasks as jobs. What needs more than there is takes all of it; a dependency not listed is done."""
    limits = list(_sizes(capacity))
    needs = [_sizes(task.need) for task in tasks]
    demands = [[min(need[n], limit) for need in needs] for n, limit in enumerate(limits)]
    keys = dict.fromkeys(key for task in tasks for key in task.exclusive_keys)
    demands += [[int(key in task.exclusive_keys) for task in tasks] for key in keys]
    return make_jobs([_seconds(task) for task in tasks], places_before(tasks), demands, limits + [1] * len(keys))


def _waiting(tasks: Sequence[WorkTask], capacity: Resources, held: frozenset[int]) -> set[int]:
    """Return the orders of the tasks that cannot start now, and of all that depend on them."""
    room = _sizes(capacity)
    waits = set(held)
    before = places_before(tasks)
    jobs = make_jobs([0] * len(tasks), before, [], [])
    for index in jobs.forward:
        too_large = any(n > limit for n, limit in zip(_sizes(tasks[index].need), room, strict=True))
        if too_large or any(tasks[other].order in waits for other in before[index]):
            waits.add(tasks[index].order)
    return waits


def _share(jobs: Jobs, job: int) -> float:
    """How much of what is contended for a job takes, as a sum of shares."""
    return sum(needs[job] / limit for needs, limit in zip(jobs.demands, jobs.limits, strict=True) if limit)


def _sizes(resources: Resources) -> tuple[int, int, int]:
    return resources.cpu_cores, resources.memory_mb, resources.gpu_vram_mb


def _seconds(task: WorkTask) -> int:
    return task.resource_requirements.estimated_duration_seconds
