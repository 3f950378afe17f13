"""What takes too long for every change: many schedules, long chaos and every benchmark, one after the other.

Each part is a process of its own with a bound, so the whole ends by itself. A part that breaks a promise, fails or does
not end in time is named under `broken`, and the others still run.

    ./run soak [--only PART ...] [--first SEED] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from bench.programs import ROOT
from bench.simulate import SCHEDULES

TIDY_SECONDS = 60.0  # a part that is told to stop ends its servers first
TOLD = 2_000  # characters of what a part said before it failed


@dataclass(frozen=True, slots=True)
class Part:
    """A benchmark with its options, and after how many seconds it is stopped: several times what two cores need."""

    options: tuple[str, ...]
    bound: float


PARTS = {
    "simulate": Part(("--schedules", str(SCHEDULES)), 2_400),  # 366 s
    "chaos": Part(("--seconds", "600"), 1_200),  # starting, draining for 300 s at most, and the accounts come on top
    "fuzz": Part(("--seconds", "600", "--at-once", "2"), 4_500),  # ten minutes for each of its targets
    "fits": Part((), 900),
    "throughput": Part((), 1_200),
    "path": Part((), 600),
    "fleet": Part((), 600),
    "tiers": Part((), 600),
    "ordering": Part((), 600),
    "routing": Part((), 600),
    "start": Part((), 300),
}
"""Those that look for broken promises come first."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--first", type=int, default=0, help="the first seed of the simulation (default 0)")


def run(*, quick: bool, only: Sequence[str] | None = None, first: int = 0) -> Mapping[str, Any]:
    """Run the parts and return the figures of each, the date, and what was broken."""
    more = {"simulate": ("--first", str(first))}
    figures: dict[str, Any] = {}
    for name in only or PARTS:
        options = ("--quick",) if quick else PARTS[name].options
        figures[name] = figures_of(name, Part((*options, *more.get(name, ())), PARTS[name].bound))
        say(name, figures[name])
    broken = {name: found["broken"] for name, found in figures.items() if found.get("broken")}
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", **figures, "broken": broken}


def figures_of(name: str, part: Part) -> dict[str, Any]:
    """Run one part to its end or to its bound and return its figures; `took` is seconds in all."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-P", "-m", "bench", name, "--json", *part.options]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        process = subprocess.Popen(command, stdout=out, stderr=errors, start_new_session=True, env=environment)
        in_time = ended_in_time(process, part.bound)
        said, complaint = read(out), read(errors)
    took = {"took": round(time.monotonic() - began, 1)}
    if not in_time:
        return took | {"broken": [f"it did not end in {part.bound:g} s"]}
    try:
        return took | dict(json.loads(said.splitlines()[-1]))
    except (IndexError, ValueError):
        return took | {"broken": [f"it gave no figures: {complaint[-TOLD:].strip()}"]}


def ended_in_time(process: subprocess.Popen[bytes], bound: float) -> bool:
    """Wait for a process; one that is too slow, or not wanted any more, is told to stop, and killed if it does not."""
    try:
        process.wait(bound)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(TIDY_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that it works in
                process.wait()


def read(file: IO[str]) -> str:
    """Return everything that a process wrote into a file."""
    file.seek(0)
    return file.read()


def say(name: str, found: Mapping[str, Any]) -> None:
    """Tell whoever watches that a part has ended."""
    print(f"{name}: {found['took']:g} s, {found.get('broken') or 'nothing broken'}", file=sys.stderr, flush=True)
