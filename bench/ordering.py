"""How far orders are from the shortest schedule, and what finding them costs in CPU.

With `--set FILE`: one instance per line as JSON with `dur` (seconds), `succ` (per activity what comes after it), `req`
(per activity its need of each resource), `cap` (of each resource), `best` (the shortest makespan known), as the
collections of PSPLIB can be written. Without: plans from a seeded generator, measured against every order there is.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.meter import percentile
from chargehand.planning.dependencies import turned
from chargehand.planning.scheduling import ordering
from chargehand.planning.scheduling.schedule import Jobs, in_sequence, make_jobs

SEED = 20260
PLANS = {2: 60, 3: 60, 4: 60, 5: 60, 6: 60, 7: 20, 8: 8, 9: 2, 10: 1}  # by size; to try every order of ten takes 10 s
LARGE = 300


@dataclass(frozen=True, slots=True)
class Instance:
    """Durations, dependencies, demands (per resource, per job), limits (per resource), and the best makespan known."""

    seconds: list[int]
    before: list[tuple[int, ...]]
    demands: list[list[int]]
    limits: list[int]
    best: int

    def jobs(self) -> Jobs:
        return make_jobs(self.seconds, self.before, self.demands, self.limits)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that this benchmark alone has."""
    parser.add_argument("--set", dest="instances", type=Path, metavar="FILE", help="instances as JSON, one a line")


def run(*, quick: bool, instances: Path | None = None) -> Mapping[str, Any]:
    """Return the gaps to the best makespans known in per cent, and CPU per instance in milliseconds."""
    if instances is None:
        made = [
            with_best(random.Random(SEED + n), size)
            for size, most in PLANS.items()
            if not quick or size < 8
            for n in range(most)
        ]
        return {**_measured(made), f"plan_of_{LARGE}_cpu_ms": _large_plan()}
    read = list(_read(instances))
    return _measured(read[::8] if quick else read)


def _read(path: Path) -> Iterator[Instance]:
    for line in path.read_text().splitlines():
        row = json.loads(line)
        demands = [list(needs) for needs in zip(*row["req"], strict=True)]
        yield Instance(row["dur"], turned(row["succ"]), demands, row["cap"], row["best"])


def _measured(instances: Iterable[Instance]) -> dict[str, Any]:
    gaps, spent, infeasible = [], [], 0
    for instance in instances:
        began = time.process_time()
        jobs = instance.jobs()
        sequence = ordering.sequence(jobs)
        spent.append(1000 * (time.process_time() - began))
        ends = in_sequence(jobs, sequence)
        infeasible += not is_feasible(instance, ends)
        gaps.append(100 * (max(ends) - instance.best) / max(1, instance.best))
    return {
        "instances": len(gaps),
        "mean_gap_pct": round(statistics.mean(gaps), 3),
        "worst_gap_pct": round(max(gaps), 2),
        "best_pct": round(100 * sum(gap <= 0 for gap in gaps) / len(gaps), 1),
        "cpu_ms_p50": round(percentile(spent, 0.50), 2),
        "cpu_ms_p95": round(percentile(spent, 0.95), 2),
        "cpu_ms_max": round(max(spent), 2),
        "infeasible": infeasible,
    }


def is_feasible(instance: Instance, ends: Sequence[int]) -> bool:
    """Check a schedule against the instance by nothing but its definition."""
    starts = [end - lasts for end, lasts in zip(ends, instance.seconds, strict=True)]
    if any(ends[other] > starts[job] for job, others in enumerate(instance.before) for other in others):
        return False
    for now in starts:
        running = [job for job in range(len(ends)) if starts[job] <= now < ends[job]]
        if not _fits(instance, running):
            return False
    return min(starts) >= 0


def generated(draw: random.Random, size: int) -> Instance:
    """Make a plan as they come: some steps wait for others, machines have cores and memory, some work one host."""
    seconds = [draw.choice((5, 10, 20, 30, 45, 60, 90, 120, 300, 600)) for _ in range(size)]
    share = draw.choice((0.0, 0.1, 0.3))
    before = [tuple(other for other in range(job) if draw.random() < share) for job in range(size)]
    limits = [draw.choice((2, 4, 8)), draw.choice((4_000, 8_000, 16_000)), *[1] * draw.choice((0, 1, 2))]
    demands = [
        [draw.randint(0, min(4, limits[0])) for _ in range(size)],
        [draw.choice((0, 500, 1_000, 2_000, 4_000)) for _ in range(size)],
        *([int(draw.random() < 0.3) for _ in range(size)] for _ in limits[2:]),
    ]
    return Instance(seconds, before, demands, limits, best=0)


def with_best(draw: random.Random, size: int) -> Instance:
    """Make such a plan and find its shortest makespan."""
    made = generated(draw, size)
    return replace(made, best=by_brute_force(made))


def by_brute_force(instance: Instance) -> int:
    """Return the shortest makespan of all sequences there are, each laid out; those that begin alike only once."""
    known: set[tuple[int, ...]] = {(-1,) * len(instance.seconds)}  # starts of what is laid out
    for _ in instance.seconds:
        known = {
            (*starts[:job], _first_fit(instance, starts, job), *starts[job + 1 :])
            for starts in known
            for job, others in enumerate(instance.before)
            if starts[job] < 0 and all(starts[other] >= 0 for other in others)
        }
    return min(max(map(sum, zip(starts, instance.seconds, strict=True))) for starts in known)


def _first_fit(instance: Instance, starts: Sequence[int], job: int) -> int:
    ends = [start + lasts for start, lasts in zip(starts, instance.seconds, strict=True)]
    laid = [other for other, start in enumerate(starts) if start >= 0]
    ready = max((ends[other] for other in instance.before[job]), default=0)
    for start in sorted({ready, *(ends[other] for other in laid if ends[other] > ready)}):
        end = start + instance.seconds[job]
        moments = [start, *(starts[other] for other in laid if start < starts[other] < end)]
        at_once = [[other for other in laid if starts[other] <= moment < ends[other]] for moment in moments]
        if all(_fits(instance, [job, *others]) for others in at_once):
            return start
    raise AssertionError("after all the others there is room")


def _fits(instance: Instance, running: Sequence[int]) -> bool:
    pairs = zip(instance.demands, instance.limits, strict=True)
    return all(sum(needs[job] for job in running) <= limit for needs, limit in pairs)


def _large_plan() -> float:
    instance = generated(random.Random(SEED), LARGE)
    began = time.process_time()
    ordering.sequence(instance.jobs())
    return round(1000 * (time.process_time() - began), 1)
