"""Two servers and three agents, each a program of its own, on a private PostgreSQL and a private RabbitMQ.

First a plan as the demo's (two changing steps that wait for leave to start, approved by digest), then many plans of
three quick tasks, submitted by this process and approved by policy. The agents write a line for each time work ran,
so that lost and doubled work is counted from its effects and not from what the database says.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.chores import EFFECTS
from bench.load import Load
from bench.meter import counted, percentile, private_home
from bench.programs import Programs
from bench.rabbit import PrivateRabbitMQ, private_rabbitmq, version
from chargehand.agent.identity import Identity
from chargehand.app.application import Application, open_application
from chargehand.domain.states import TaskStatus
from chargehand.private_postgres import PrivatePostgres
from chargehand.settings import Settings
from chargehand.store import migrate

SERVERS, AGENTS = 2, 3
DEMO = "Deploy the status page and add our existing portals to its config"
CHORES, TASKS = "sweep the yard, then water the plants and then feed the cat", 3
IN_FLIGHT = 32  # enough for every process to have something to do, few enough for latency to mean something
READY_SECONDS = 90.0  # five Pythons start at once


def run(*, quick: bool) -> Mapping[str, Any]:
    """Return the figures. Raises `BadConfiguration` (exit 5) where RabbitMQ is not installed."""
    with private_rabbitmq() as rabbit, private_home() as home:
        dsn = PrivatePostgres(home).start()
        migrate.upgrade(dsn)
        settings = {
            "CHARGEHAND_HOME": str(home),
            "CHARGEHAND_DATABASE_URL": dsn,
            "CHARGEHAND_AMQP_URL": rabbit.url,
            "CHARGEHAND_AUTO_APPROVE": "read",
            EFFECTS: str(home / "effects"),
        }
        with Programs(home, settings) as programs:
            return asyncio.run(_measure(programs, rabbit, home, dsn, plans=50 if quick else 500))


async def _measure(
    programs: Programs, rabbit: PrivateRabbitMQ, home: Path, dsn: str, *, plans: int
) -> Mapping[str, Any]:
    settings = Settings(home=home, database_url=dsn, amqp_url=rabbit.url)
    async with open_application(settings) as app:
        await _start(programs, app, home)
        load = Load(app.engine, app.store, app.wake)
        demo = await _demo(app, load)
        await load.run(CHORES, IN_FLIGHT, IN_FLIGHT)  # trained, connected, caches filled
        groups = {
            "servers": programs.pids("server"),
            "agents": programs.pids("agent"),
            "postgres": [PrivatePostgres(home).status().pid or 0],
            "rabbitmq": rabbit.pids,
        }
        with counted(groups, plans) as cpu:
            began = time.perf_counter()
            seconds = await load.run(CHORES, plans, IN_FLIGHT)
            wall = time.perf_counter() - began
        figures = {
            "versions": f"RabbitMQ {version()}, PostgreSQL {PrivatePostgres(home).status().version}",
            "processes": f"{SERVERS} servers, {AGENTS} agents",
            "demo_seconds": round(demo, 2),
            "plans": plans,
            "tasks": plans * TASKS,
            "in_flight": IN_FLIGHT,
            "plans_per_s": round(plans / wall, 1),
            "p50_ms": round(1000 * percentile(seconds, 0.50)),
            "p99_ms": round(1000 * percentile(seconds, 0.99)),
            "cpu_ms_per_plan": cpu,
        }
        ends = [programs.stop(name) for name in programs.names]
        return (
            figures
            | await _accounts(app, (home / "effects").read_text())
            | {"clean_exits": f"{ends.count(0)}/{len(ends)}"}
        )


async def _start(programs: Programs, app: Application, home: Path) -> None:
    for number in range(1, SERVERS + 1):
        programs.start(f"server-{number}", "server")
    for number in range(1, AGENTS + 1):
        name = f"agent-{number}"
        agent_id, key, generation = await app.registry.enrol(name, accept_all=True)
        Identity(str(agent_id), name, key, generation).save(home / name)
        programs.start(name, "agent", "run", "bench.chores:agent", "--home", str(home / name))
    async with asyncio.timeout(READY_SECONDS):
        while sum(agent["status"] == "online" for agent in await app.queries.agents()) < AGENTS:
            await app.changed(0.5)


async def _demo(app: Application, load: Load) -> float:
    """Submit the demo's sentence, approve its plan, and return the seconds from submission to end."""
    began = time.perf_counter()
    request_id = await app.engine.submit(DEMO, requester="bench")
    async with asyncio.timeout(READY_SECONDS):
        while (plan := await app.queries.plan(request_id)) is None:
            await app.changed(1.0)
        await app.control.approve(request_id, plan["digest"], "bench")
        await load.ended([request_id])
    return time.perf_counter() - began


async def _accounts(app: Application, effects: str) -> dict[str, Any]:
    """Compare what ran with what the database says was done."""
    lines = [line.split() for line in effects.splitlines()]
    runs, shares = Counter(UUID(task) for task, *_ in lines), Counter(process for *_, process in lines)
    requests = await app.queries.requests(limit=1_000_000)
    async with app.store.transaction() as tx:
        tasks = await tx.tasks_of(request["request_id"] for request in requests)
    done = {task.task_id for group in tasks.values() for task in group if task.status is TaskStatus.SUCCEEDED}
    return {
        "lost": len(done - set(runs)) + sum(request["status"] != "completed" for request in requests),
        "doubled": sum(times > 1 for times in runs.values()),
        "anomalies": dict(Counter(row["kind"] for row in await app.queries.anomalies(limit=1_000_000))) or 0,
        "tasks_by_agent": "/".join(str(count) for count in sorted(shares.values(), reverse=True)),
    }
