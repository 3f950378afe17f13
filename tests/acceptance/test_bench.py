"""The throughput benchmark runs as it is documented, and its figures are figures. How good they are is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench.rabbit import find_server
from tests.postgres import unavailable

KEYS = {
    "cpu_ms",
    "raw_cpu_ms",
    "raw_batch_cpu_ms",
    "plans_per_s",
    "raw_plans_per_s",
    "raw_batch_plans_per_s",
    "p50_ms",
    "p99_ms",
}


def bench(*options: str) -> Any:
    if find_server() is None:
        unavailable("RabbitMQ is not installed")
    command = [sys.executable, "-m", "bench", "throughput", "--quick", "--json", *options]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return json.loads(ran.stdout.splitlines()[-1])


def test_every_size_has_every_figure() -> None:
    figures = bench("--sizes", "1,16")
    for size in ("1", "16"):
        assert figures[size].keys() >= KEYS
        assert all(figures[size][key] > 0 for key in KEYS)


def test_growth_has_a_figure_for_each_step() -> None:
    grown = bench("--tasks", "3,9", "--agents", "3,9")
    assert all(grown["tasks"][step]["cpu_ms_per_task"] > 0 for step in ("3", "9"))
    assert all(grown["agents"][step]["cpu_ms"] > 0 for step in ("3", "9"))


def test_fuzzing_runs_each_target_in_its_own_process_and_finds_nothing() -> None:
    command = [sys.executable, "-m", "bench", "fuzz", "--seconds", "1", "--seed", "3", "--json"]
    chosen = ["--target", "header", "--target", "answer"]
    ran = subprocess.run([*command, *chosen], check=True, capture_output=True, text=True, timeout=120)
    figures = json.loads(ran.stdout.splitlines()[-1])
    assert figures["broken"] == []
    assert all(figures[name]["cases"] > 0 for name in ("header", "answer"))
