"""What a plan costs: CPU milliseconds over all processes, plans a second and latency, at 1, 16 and 64 in flight.

Plans of three no-op tasks, one after the other, on agents in processes of their own, over a private RabbitMQ and a
private PostgreSQL, with everything on: signatures, leases, journals, routing decisions, events, seals. Beside them, on
the same servers and in the same run, the yardstick in `raw`, and with `--peers` other products. With `--tasks` and
`--agents`: how the cost grows with the length of plans and the number of agents that are known. docs/performance.md
says how to read it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import growth
from bench import peers as others
from bench.meter import counted, percentile, private_home
from bench.noop import INTENT
from bench.rabbit import PrivateRabbitMQ, private_rabbitmq, version
from bench.stage import AGENTS, SERVERS, Stage, infrastructure, stage
from bench.timing import Timed, timed
from chargehand.private_postgres import PrivatePostgres
from chargehand.store import migrate

PLANS = {1: 60, 16: 300, 64: 600}
QUICK = {1: 3, 16: 16, 64: 64}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    parser.add_argument("--peers", action="store_true", help="other products as well; installs them into a cache")
    parser.add_argument("--sizes", type=_numbers, default=(), metavar="1,16,64", help="plans in flight to measure")
    parser.add_argument("--tasks", type=_numbers, default=(), metavar="3,30,300", help="cost per task of long plans")
    parser.add_argument("--agents", type=_numbers, default=(), metavar="10,1000,10000", help="cost with many agents")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def run(
    *,
    quick: bool,
    peers: bool = False,
    sizes: Sequence[int] = (),
    tasks: Sequence[int] = (),
    agents: Sequence[int] = (),
) -> dict[str, Any]:
    """Return the figures of `sizes` (none given: all of them), or those of growth where that is asked for.

    Raises `BadConfiguration` (exit 5) where RabbitMQ is not installed.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    plans = QUICK if quick else PLANS
    chosen = {size: plans[size] for size in sizes or plans}
    with private_rabbitmq() as rabbit, private_home() as home:
        dsn = PrivatePostgres(home).start()
        migrate.upgrade(dsn)
        figures: dict[str, Any] = {
            "versions": f"RabbitMQ {version()}, PostgreSQL {PrivatePostgres(home).status().version}, "
            f"Python {sys.version.split()[0]}",
            "processes": f"{SERVERS} server, {AGENTS} agents, the submitting process",
        }
        if tasks or agents:
            grown = asyncio.run(growth.run(home, dsn, rabbit, tasks=tasks, agents=agents, quick=quick))
            return figures | grown
        figures |= asyncio.run(_side_by_side(home, dsn, rabbit, chosen))
        if peers:
            figures["peers"] = asyncio.run(_peers(home, dsn, rabbit, quick=quick))
        return figures


async def _peers(home: Path, dsn: str, rabbit: PrivateRabbitMQ, *, quick: bool) -> dict[str, Any]:
    databases = {name: await growth.database(dsn, f"peer_{name}", "SELECT") for name in others.PEERS}
    return await others.run(rabbit.url, databases, infrastructure(home, rabbit), quick=quick)


async def _side_by_side(
    home: Path, dsn: str, rabbit: PrivateRabbitMQ, sizes: Mapping[int, int]
) -> dict[str, dict[str, Any]]:
    raw_dsn = await growth.database(dsn, "raw", (Path(__file__).parent / "raw" / "schema.sql").read_text())
    groups = infrastructure(home, rabbit)
    async with stage(home, dsn, rabbit) as ours:
        figures = {}
        for in_flight, plans in sizes.items():
            mine = await plans_through(ours, plans, in_flight)
            loop = ["bench.raw.loop", raw_dsn, rabbit.url]
            one, many = [
                await timed([sys.executable, "-m", *loop, form], plans, in_flight, groups)
                for form in ("single", "shared")
            ]
            figures[str(in_flight)] = mine | _beside(one, many)
        return figures


def _beside(one: Timed, many: Timed) -> dict[str, float]:
    return {
        "raw_cpu_ms": one.cpu_ms,
        "raw_batch_cpu_ms": many.cpu_ms,
        "raw_plans_per_s": one.plans_per_s,
        "raw_batch_plans_per_s": many.plans_per_s,
    }


async def plans_through(ours: Stage, plans: int, in_flight: int, words: str = INTENT) -> dict[str, Any]:
    """Run plans, some first to warm up, and return what they cost."""
    await ours.load.run(words, max(in_flight, plans // 5), in_flight)
    with counted(ours.groups, plans) as cpu:
        began = time.perf_counter()
        seconds = await ours.load.run(words, plans, in_flight)
        wall = time.perf_counter() - began
    return {
        "plans": plans,
        "cpu_ms": cpu.pop("in_all"),
        "plans_per_s": round(plans / wall, 1),
        "p50_ms": round(1000 * percentile(seconds, 0.50), 1),
        "p99_ms": round(1000 * percentile(seconds, 0.99), 1),
        "cpu_ms_by_part": cpu,
    }
