"""The promises hold over thousands of simulated schedules, and bugs planted on purpose are found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.model.plan import WORKS, draw
from bench.model.promises import PROMISES
from tests.simulation.mutant import MUTANTS

SCHEDULES = 1_000
"""Some forty seconds on two cores, for every change; `./run soak` runs ten thousand."""

PLANTED = {"fencing_removed": 0, "marked_before_published": 0, "no_sweep": 1_500}
"""Bugs, and the schedule at which the search for each begins: one schedule in some thousand needs the sweep."""
REPLAY = """
import hashlib, sys
from bench.model.world import simulate
for seed in map(int, sys.argv[1:]):
    steps = []
    simulate(seed, steps)
    print(seed, len(steps), hashlib.sha256("\\n".join(steps).encode()).hexdigest())
"""


def _python(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _last(text: str) -> Any:
    return json.loads(text.strip().splitlines()[-1])


def test_every_promise_holds_whatever_goes_wrong() -> None:
    figures = _last(_python("-m", "bench", "simulate", "--schedules", str(SCHEDULES), "--json"))
    assert figures["broken"] == {}, figures["found"]
    assert figures["schedules"] == SCHEDULES
    # Enough went wrong, and enough was done all the same.
    assert figures["crashes"] > SCHEDULES / 4
    assert figures["starts"] > 2 * SCHEDULES
    assert {"completed", "failed", "cancelled", "rejected", "in_review"} <= figures["requests"].keys()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    found = _last(_python("-m", "tests.simulation.mutant", name, "1000", str(PLANTED[name])))
    assert found["broken"] in MUTANTS[name].breaks, found


def test_a_seed_is_the_same_schedule_in_every_process() -> None:
    seeds = [str(seed) for seed in range(15)]
    first, second = (_python("-c", REPLAY, *seeds, PYTHONHASHSEED=chosen) for chosen in ("1", "2"))
    assert first.splitlines() == second.splitlines()


def test_a_seed_is_shown_step_by_step() -> None:
    shown = _python("-m", "bench", "simulate", "--seed", "3", "--json")
    assert "request.accepted" in shown
    assert _last(shown)["broken"] == ""


def test_mutants_name_promises() -> None:
    for name, mutant in MUTANTS.items():
        assert mutant.breaks <= PROMISES.keys(), name


def test_schedules_differ_in_everything_that_can_go_wrong() -> None:
    schedules = [draw(seed) for seed in range(400)]
    assert {fault.kind for schedule in schedules for fault in schedule.faults} == {
        *("crash", "cut", "no_database", "database_restart", "broker_restart", "wipe"),
    }
    assert {work for schedule in schedules for job in schedule.jobs for work in job.works} == {w.intent for w in WORKS}
    assert any(schedule.fair for schedule in schedules)
    assert {len(schedule.servers) for schedule in schedules} == {1, 2}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_still_fits_the_source(name: str) -> None:
    root = Path(__file__).parents[2]
    for module, old, _ in MUTANTS[name].edits:
        source = root if module.startswith("bench.") else root / "src"
        assert (source / f"{module.replace('.', '/')}.py").read_text().count(old) == 1, f"{module}: {old}"
