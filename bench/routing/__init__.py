"""Policies of choosing an agent, side by side in simulated pools; the default is the product's own router.

    ./run bench routing [--scenario NAME or FILE] [--seed N] [--seeds N] [--json]

docs/routing.md describes the scenarios, the policies and the figures.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pydantic import ValidationError

from bench.routing.choosers import COMPARED, Maker, Product, known_agent, task_of
from bench.routing.scenario import Scenario, draw
from bench.routing.simulation import Outcome, Simulation
from chargehand.domain.errors import BadConfiguration
from chargehand.routing import router

BUILT_IN = Path(__file__).parent / "scenarios"
POOLS = (10, 1_000, 10_000)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Name the options beside those that all benchmarks have."""
    parser.add_argument("--scenario", default="twelve", help="a file, or one of those that come with the benchmark")
    parser.add_argument("--seed", type=int, default=1, help="of the first drawing of the scenario")
    parser.add_argument("--seeds", type=int, default=None, help="how many drawings; default 5, with --quick 1")


def run(*, quick: bool, scenario: str, seed: int, seeds: int | None) -> Mapping[str, Any]:
    """Return the figures of every policy over the drawings, and what a decision of the default costs."""
    asked = load(scenario)
    drawings = range(seed, seed + (seeds or (1 if quick else 5)))
    found: dict[str, list[Outcome]] = {name: [] for name in makers()}
    for number in drawings:
        for name, make in makers().items():
            world = draw(asked, number)
            found[name].append(Simulation(world, make(asked, number)).run())
    oracle = _first_try(found["oracle"])
    return {
        "scenario": asked.name,
        "seeds": list(drawings),
        "policies": {name: figures(outcomes, oracle) for name, outcomes in found.items()},
        "default": router.DEFAULT.name,
        "decision_us": {str(size): decision_us(size, 100 if quick else 1_000) for size in POOLS},
    }


def load(given: str) -> Scenario:
    """Read a scenario. Raises `BadConfiguration`."""
    known = {path.stem: path for path in sorted(BUILT_IN.glob("*/*.json"))}
    try:
        return Scenario.model_validate_json(known.get(given, Path(given)).read_bytes())
    except OSError as error:
        hint = f"Name a file, or one of {', '.join(known)}."
        raise BadConfiguration(f"no scenario {given}: {error.strerror}", hint=hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadConfiguration(f"{given}: {where}: {first['msg']}", hint="docs/routing.md describes it.") from error


def makers() -> dict[str, Maker]:
    """Return what makes each policy, by its name: the published ones, and the product's as they can be set."""
    ours = {policy.name: partial(Product, policy=policy) for policy in router.POLICIES.values()}
    ours = {name if name == router.DEFAULT.name else f"{name}, as it can be set": make for name, make in ours.items()}
    return COMPARED | ours


def figures(outcomes: Sequence[Outcome], oracle: float) -> dict[str, float | None]:
    """Return the figures of one policy over several drawings."""
    waits = sorted(wait for outcome in outcomes for wait in outcome.waits)
    fair = sum(outcome.late_fair for outcome in outcomes)
    late = sum(outcome.late_first for outcome in outcomes)
    return {
        "first_try_pct": round(_first_try(outcomes), 2),
        "regret_points": round(oracle - _first_try(outcomes), 2),
        "p50_wait_s": round(_part(waits, 0.50), 1),
        "p95_wait_s": round(_part(waits, 0.95), 1),
        "load_jain": round(statistics.mean(_jain(outcome.loads) for outcome in outcomes), 3),
        "late_joiner_share_pct": round(100 * late / fair, 1) if fair else None,
    }


def decision_us(size: int, times: int) -> dict[str, float]:
    """Return the CPU microseconds of one decision in a pool of that size, explanations and all."""
    chance = Random(size)
    agents = [known_agent(number, chance) for number in range(size)]
    task, spent = task_of(0), []
    for _ in range(times):
        luck = chance.getrandbits(31)
        before = time.thread_time_ns()
        router.route(task, agents, draw=luck)
        spent.append((time.thread_time_ns() - before) / 1_000)
    spent.sort()
    return {"p50": round(_part(spent, 0.50), 1), "p99": round(_part(spent, 0.99), 1)}


def _first_try(outcomes: Sequence[Outcome]) -> float:
    tries = [ok for outcome in outcomes for ok in outcome.first_tries]
    return 100 * sum(tries) / len(tries)


def _part(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _jain(loads: Sequence[float]) -> float:
    """Return Jain's index: 1 when all are loaded alike, 1/n when one does all the work."""
    return sum(loads) ** 2 / (len(loads) * sum(load**2 for load in loads)) if any(loads) else 1.0
