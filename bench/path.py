"""Plans of three no-op tasks through the whole path: decomposing, routing, leases, journal, results, events, seals.

Everything is on (signatures, fsync, seals); orchestrator, broker and agent share this process. The CPU counted is this
process's and PostgreSQL's. A request is timed from its submission to its end. The transactions and statements are all
that these processes send meanwhile, apart from the watching of this benchmark itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.load import Load
from bench.meter import cpu_seconds, percentile, private_home
from bench.noop import INTENT, SLOTS, SPEC, nothing
from bench.steady import Fixed
from chargehand.agent import Agent
from chargehand.agent.runtime.runtime import AgentRuntime
from chargehand.broker.memory import MemoryBroker
from chargehand.domain import seals
from chargehand.domain.envelopes import derive_key
from chargehand.domain.risks import Risk
from chargehand.engine.engine import Engine
from chargehand.engine.loops import Loops, Wake
from chargehand.engine.request_control import RequestControl
from chargehand.engine.sweep import Sweep
from chargehand.private_postgres import PrivatePostgres
from chargehand.settings import Settings
from chargehand.store import migrate
from chargehand.store.postgres import PostgresStore
from chargehand.store.status_moves import Traffic

MASTER = b"b" * 32


@dataclass(frozen=True, slots=True)
class Rig:
    """What is measured, and the processes whose CPU counts."""

    load: Load
    traffic: Traffic
    pids: Sequence[int]


def run(*, quick: bool) -> Mapping[str, Any]:
    """Return figures per number of plans in flight."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    sizes = {1: 20, 16: 80} if quick else {1: 100, 16: 600, 64: 1000}
    with private_home() as home:
        dsn = PrivatePostgres(home).start()
        migrate.upgrade(dsn)
        postmaster = PrivatePostgres(home).status().pid
        return asyncio.run(_measure(dsn, home, sizes, [os.getpid(), postmaster or 0]))


async def _measure(dsn: str, home: Path, sizes: Mapping[int, int], pids: list[int]) -> dict[str, Any]:
    async with assembled(dsn, home, pids) as rig:
        return {str(in_flight): await plans_on(rig, in_flight, plans) for in_flight, plans in sizes.items()}


@asynccontextmanager
async def assembled(dsn: str, home: Path, pids: Sequence[int], **more: Any) -> AsyncIterator[Rig]:
    """Yield the whole path in this process over a migrated database; `more` are settings."""
    settings = Settings(home=home, auto_approve=frozenset({Risk.READ}), confidence_embedded=0.0, **more)
    store, watching = (PostgresStore(dsn, seals.seal_key(MASTER)) for _ in range(2))
    broker, wake = MemoryBroker(), Wake()
    await store.open()
    await watching.open()
    await broker.start()
    engine = Engine(store, broker, {Fixed.tier: Fixed()}, MASTER, settings)
    loops = Loops(engine, Sweep(engine, RequestControl(engine)), broker, wake)
    stop_listening = await store.listen(wake.steps, lambda: None)
    await loops.receive()
    runtime = await _agent(store, broker, home)
    await loops.work()
    try:
        yield Rig(Load(engine, watching, wake), store.traffic, pids)
    finally:
        await runtime.stop(drain=True)
        await loops.stop()
        await stop_listening()
        await broker.stop()
        await watching.close()
        await store.close()


async def _agent(store: PostgresStore, broker: MemoryBroker, home: Path) -> AgentRuntime:
    agent, agent_id = Agent("bench", slots=SLOTS), uuid4()
    agent.offer(SPEC, nothing)
    async with store.transaction() as tx:
        await tx.enrol(agent_id, "bench", agent_type="infra", pool="bench", grant_policy="bench")
    key = derive_key(MASTER, str(agent_id), 1)
    runtime = AgentRuntime(agent, broker, agent_id=str(agent_id), key=key, home=home / "agent")
    await runtime.start()
    while True:
        async with store.transaction() as tx:
            if (await tx.known_agents([agent_id]))[agent_id].incarnation:
                return runtime
        await asyncio.sleep(0.01)


async def plans_on(rig: Rig, in_flight: int, plans: int) -> dict[str, float]:
    """Run so many plans, so many at a time, and return what each of them cost."""
    cpu, asked, began = cpu_seconds(rig.pids), replace(rig.traffic), time.perf_counter()
    seconds = await rig.load.run(INTENT, plans, in_flight)
    wall, used = time.perf_counter() - began, cpu_seconds(rig.pids) - cpu
    return {
        "plans": plans,
        "cpu_ms": round(1000 * used / plans, 2),
        "transactions": round((rig.traffic.transactions - asked.transactions) / plans, 1),
        "statements": round((rig.traffic.statements - asked.statements) / plans, 1),
        "plans_per_s": round(plans / wall, 1),
        "p50_ms": round(1000 * percentile(seconds, 0.50), 1),
        "p99_ms": round(1000 * percentile(seconds, 0.99), 1),
    }
