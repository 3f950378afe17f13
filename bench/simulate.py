"""Many simulated schedules of crashes, cuts and delays over the real engine and the real agents; or one, step by step.

A seed is a whole schedule: the same seed gives the same steps on any machine, so what one run finds another one shows.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.model.world import Verdict, simulate

SCHEDULES, QUICK = 10_000, 300
SHARE = 50
"""Schedules that a process takes at a time; after them it tidies its memory."""
SHOWN = 10
"""Breaches that are told in full."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    parser.add_argument("--schedules", type=int, help=f"how many schedules to run (default {SCHEDULES:,})")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0); the others follow it")
    parser.add_argument("--seed", type=int, help="run this one schedule and print it step by step")


def run(*, quick: bool, schedules: int | None = None, first: int = 0, seed: int | None = None) -> Mapping[str, Any]:
    """Run so many schedules on all cores; return what was found, with the seeds that show it."""
    if seed is not None:
        return replay(seed)
    began = time.perf_counter()
    verdicts = list(search(first, schedules or (QUICK if quick else SCHEDULES)))
    return summary(verdicts, time.perf_counter() - began)


def summary(verdicts: Sequence[Verdict], seconds: float) -> Mapping[str, Any]:
    """Return the figures of many schedules."""
    broken = [verdict for verdict in verdicts if verdict.broken]
    ends: Counter[str] = Counter()
    for verdict in verdicts:
        ends.update(verdict.statuses)
    return {
        "schedules": len(verdicts),
        "seconds": round(seconds, 1),
        "per_second": round(len(verdicts) / seconds, 1),
        "simulated_hours": round(sum(v.seconds for v in verdicts) / 3600, 1),
        "commits_checked": sum(v.checks for v in verdicts),
        "starts": sum(v.starts for v in verdicts),
        "crashes": sum(v.crashes for v in verdicts),
        "requests": dict(sorted(ends.items())),
        "broken": dict(Counter(v.broken for v in broken)),
        "found": {f"seed {v.seed}": v.detail for v in broken[:SHOWN]},
    }


def search(first: int, count: int) -> Iterator[Verdict]:
    """Yield the verdict of every seed from `first` on, in that order, found on all cores."""
    shares = [(at, min(SHARE, first + count - at)) for at in range(first, first + count, SHARE)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for verdicts in pool.map(_share, shares):
            yield from verdicts


def replay(seed: int) -> Mapping[str, Any]:
    """Run one schedule, print it step by step and return its verdict."""
    steps: list[str] = []
    verdict = simulate(seed, steps)
    print("\n".join(steps))
    return {"seed": seed, "broken": verdict.broken, "detail": verdict.detail, "steps": verdict.steps}


def _share(share: tuple[int, int]) -> list[Verdict]:
    gc.freeze()  # what is loaded stays; only what schedules leave is looked through
    gc.disable()
    first, count = share
    found = [simulate(seed) for seed in range(first, first + count)]
    gc.enable()
    gc.collect()
    return found
