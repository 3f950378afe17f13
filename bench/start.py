"""What starting costs, in processes of their own: the command line, the private PostgreSQL, a warm status."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.meter import private_home
from chargehand.private_postgres import PrivatePostgres


def run(*, quick: bool) -> Mapping[str, Any]:
    """Return medians over a few runs; CPU is user and system together."""
    times = 3 if quick else 7
    with private_home() as home:
        cold = _timed(lambda: PrivatePostgres(home).start())
        environment = os.environ | {"CHARGEHAND_HOME": str(home)}
        _command(environment, "status")
        return {
            "help_cpu_ms": _median(lambda: _command(environment, "--help")[0], times),
            "status_warm_ms": _median(lambda: _command(environment, "status")[1], times),
            "postgres_cold_ms": round(1000 * cold),
            "postgres_attach_ms": _median(lambda: _timed(lambda: PrivatePostgres(home).start()), times),
            "postgres_warm_ms": _median(lambda: _restarted(home), times),
        }


def _restarted(home: Path) -> float:
    PrivatePostgres(home).stop()
    return _timed(lambda: PrivatePostgres(home).start())


def _command(environment: Mapping[str, str], *arguments: str) -> tuple[float, float]:
    """Run the CLI and return its CPU and wall seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "chargehand", *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _median(measure: Callable[[], float], times: int) -> int:
    return round(1000 * statistics.median(measure() for _ in range(times)))
