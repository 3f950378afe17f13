"""One target in a process of its own: mutate, call, measure."""

from __future__ import annotations

import logging
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from random import Random
from typing import Any, NoReturn

from bench.fuzz import targets
from bench.fuzz.mutations import mutated

LONGEST = 1.0
"""Seconds of CPU for one case; by the clock a busy machine would be found guilty."""
MOST_MEMORY = 300
"""Megabytes that a target's process may grow by."""
HARD_LIMIT = 2 << 30  # bytes: what grows without end must not take the machine with it
MOST_FOUND = 20  # cases that are told; more are mostly the same one
SHOWN = 400  # characters of a case


class Hang(BaseException):
    """A case has used up its time. Not an `Exception`: a parser that catches those must not swallow it."""


def apart(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """Run a target in a process of its own and return its figures."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(course, name, seconds, seed).result()
        except BrokenProcessPool:
            return {"cases": 0, "found": [f"the process died (seed {seed})"]}


def course(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """Run a target in this process for so many seconds."""
    logging.disable(logging.CRITICAL)  # a parser may warn of each of a million cases
    target, chance = targets.TARGETS[name], Random(f"{name} {seed}")
    call = target.make()
    for text in target.seeds:  # what is imported or compiled once is not a case's own
        _tried(call, text, target)
    before, slowest, cases = _peak(), 0.0, 0
    found: list[str] = []
    resource.setrlimit(resource.RLIMIT_DATA, (HARD_LIMIT, HARD_LIMIT))
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(found) < MOST_FOUND:
        text = mutated(chance, target.seeds, target.words, target.longest)
        problem, took = _tried(call, text, target)
        cases, slowest = cases + 1, max(slowest, took)
        if problem:
            found.append(f"case {cases} of seed {seed}: {problem}: {text[:SHOWN]!r}")
    grown = (_peak() - before) // 1024
    if grown > MOST_MEMORY:
        found.append(f"grew by {grown} MB (seed {seed})")
    return {"cases": cases, "slowest_seconds": round(slowest, 3), "grown_mb": grown, "found": found}


def _tried(call: Callable[[str], object], text: str, target: targets.Target) -> tuple[str | None, float]:
    started = time.process_time()
    problem = None
    try:
        with _limited():
            call(text)
    except target.announced:
        pass
    except Hang:
        problem = f"more than {LONGEST:g} s"
    except Exception as error:  # noqa: BLE001 # whatever a parser lets through is what this looks for
        problem = f"{type(error).__name__}: {str(error)[:200]}"
    return problem, time.process_time() - started


@contextmanager
def _limited() -> Iterator[None]:
    """Raise `Hang` when the block has used its time of CPU."""
    signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _hang(*_: object) -> NoReturn:
    raise Hang


def _peak() -> int:
    """Return the most memory this process has had, in KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak
