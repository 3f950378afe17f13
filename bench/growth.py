"""How the cost grows: per task with the length of a plan, per plan with the number of agents that are known."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg

from bench.meter import counted
from bench.noop import INTENT, SPEC
from bench.rabbit import PrivateRabbitMQ
from bench.stage import Stage, stage
from bench.steady import Fixed
from chargehand.catalog import catalog
from chargehand.domain.plans import DecomposedRequest, Subtask
from chargehand.domain.records import RequestMove, RequestRecord
from chargehand.domain.states import RequestStatus

IN_FLIGHT = 8
LEAST_PLANS = 16  # two rounds
TASKS_MEASURED = 900  # where plans are short, more of them
PLANS_OF_AGENTS = 150
REGISTERED = SPEC.model_copy(update={"content_hash": SPEC.bound_hash})
"""The offer as the registry has it: bound to its terms."""
INTENTS_IN_FLEET = 100
"""A large fleet is not ten thousand of one kind: each hundredth agent offers what is asked for, and they are busy."""


async def run(
    home: Path, dsn: str, rabbit: PrivateRabbitMQ, *, tasks: Sequence[int], agents: Sequence[int], quick: bool
) -> dict[str, Any]:
    """Return the figures by number of tasks and of agents."""
    share = 10 if quick else 1
    figures: dict[str, Any] = {}
    async with stage(home, dsn, rabbit) as ours:
        if tasks:
            figures["tasks"] = {
                str(n): await _long_plans(ours, n, LEAST_PLANS if quick else max(LEAST_PLANS, TASKS_MEASURED // n))
                for n in tasks
            }
        if agents:
            figures["agents"] = {str(n): await _with_agents(ours, dsn, n, PLANS_OF_AGENTS // share) for n in agents}
    return figures


async def _long_plans(ours: Stage, tasks: int, plans: int) -> dict[str, Any]:
    async def submit() -> UUID:
        return await submit_typed(ours, tasks)

    await ours.load.keep(submit, IN_FLIGHT, IN_FLIGHT)
    with counted(ours.groups, plans * tasks) as cpu:
        began = time.perf_counter()
        await ours.load.keep(submit, plans, IN_FLIGHT)
        wall = time.perf_counter() - began
    return {
        "plans": plans,
        "cpu_ms_per_task": cpu.pop("in_all"),
        "tasks_per_s": round(plans * tasks / wall, 1),
        "cpu_ms_by_part": cpu,
    }


async def submit_typed(ours: Stage, tasks: int) -> UUID:
    """Accept and plan a request in one transaction, as if it had been decomposed: no model writes 300 subtasks."""
    engine = ours.app.engine
    words = f"{tasks} times nothing"
    request_id = uuid4()
    request = RequestRecord(request_id, words, "bench", "sequential", False, RequestStatus.DECOMPOSING, uuid4())
    decomposed = DecomposedRequest(
        request_id=request_id,
        subtasks=tuple(
            Subtask(order=n, name=INTENT, intent=INTENT, confidence=1.0, depends_on=(n - 1,) if n > 1 else ())
            for n in range(1, tasks + 1)
        ),
        tier=Fixed.tier,
        model=Fixed.model,
    )
    async with ours.app.store.transaction() as tx:
        await tx.accept(request, None, request.body_digest)
        await tx.move_requests([RequestMove(request_id, RequestStatus.ACCEPTED, request.status, "typed")])
        await engine.plan(tx, [(request, decomposed)], {request_id: catalog.merge([REGISTERED])})
    return request_id


async def _with_agents(ours: Stage, dsn: str, number: int, plans: int) -> dict[str, Any]:
    await register(dsn, number)
    await ours.load.run(INTENT, IN_FLIGHT, IN_FLIGHT)
    with counted(ours.groups, plans) as cpu:
        await ours.load.run(INTENT, plans, IN_FLIGHT)
    return {"plans": plans, "cpu_ms": cpu.pop("in_all"), "cpu_ms_by_part": cpu}


async def register(dsn: str, number: int) -> None:
    """Fill the registry up to so many agents: online, heard of lately, every slot taken."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            FLEET, number, INTENTS_IN_FLEET, INTENT, json.dumps(REGISTERED.model_dump(mode="json"))
        )
        await connection.execute("ANALYZE agent_registry; ANALYZE agent_intents")
    finally:
        await connection.close()


FLEET = """
WITH made AS (
    INSERT INTO agent_registry (agent_id, agent_type, pool_name, capabilities, name, status, slots, in_flight,
        incarnation, last_heartbeat_at)
    SELECT gen_random_uuid(), 'infra', 'bench', '[]', 'other-' || n, 'busy', 4, 4, 'other.1', now() + interval '1 day'
    FROM generate_series((SELECT count(*) FROM agent_registry), $1 - 1) AS n
    RETURNING agent_id, substr(name, 7)::int AS n
), worked AS (
    INSERT INTO agent_performance (agent_id, work_type, success_count, last_execution_at)
    SELECT agent_id, 'monitor_system', 20, now() FROM made
)
INSERT INTO agent_intents (agent_id, intent, spec, content_hash, granted)
SELECT agent_id, o.intent, jsonb_set($4::jsonb, '{intent}', to_jsonb(o.intent)), $4::jsonb->>'content_hash', true
FROM made, LATERAL (SELECT CASE n % $2 WHEN 0 THEN $3 ELSE $3 || n % $2 END AS intent) AS o
"""


async def database(dsn: str, name: str, schema: str) -> str:
    """Make another database on the same server and return where it is."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    other = urlsplit(dsn)._replace(path=f"/{name}").geturl()
    connection = await asyncpg.connect(other)
    try:
        await connection.execute(schema)
    finally:
        await connection.close()
    return other
