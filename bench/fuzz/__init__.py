"""Texts that nobody would write, given to each parser of foreign text: none may hang, crash or eat the memory.

Each target runs in a process of its own: seeds of the real format are mutated, a schedule of chance decides how, and
its number is printed. A case that takes more than a second of CPU, raises what its parser does not announce, or lets
the process grow by more than 300 MB is a promise broken; it is told with its seed and text.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

QUICK = 2.0  # seconds for each target, for a first look


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each target runs")
    parser.add_argument("--at-once", type=int, default=1, help="how many targets run side by side")
    parser.add_argument("--seed", type=int, help="of the schedule; drawn and printed when none is given")
    parser.add_argument("--target", action="append", help="only this one; may be given several times")


def run(
    *,
    quick: bool = False,
    seconds: float = 60.0,
    at_once: int = 1,
    seed: int | None = None,
    target: list[str] | None = None,
) -> Mapping[str, Any]:
    """Run the targets, `at_once` of them side by side, and return their figures; `broken` lists what was found."""
    from bench.fuzz import course, targets

    chosen = seed if seed is not None else random.randrange(2**31)
    names = target or list(targets.TARGETS)
    with ThreadPoolExecutor(at_once) as threads:  # each only waits for the process of its target
        ran = threads.map(lambda name: course.apart(name, QUICK if quick else seconds, chosen), names)
        figures = dict(zip(names, ran, strict=True))
    broken = [f"{name}: {found}" for name, each in figures.items() for found in each["found"]]
    return {"seed": chosen, **figures, "broken": broken}
