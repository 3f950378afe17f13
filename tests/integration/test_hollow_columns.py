"""Every column of the database says more than one thing in a run with all that happens, or the reason stands here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Column

from chargehand.domain.intents import Resources
from chargehand.domain.messages import Failure
from chargehand.engine.agent_registry import Registry
from chargehand.store import migrate
from chargehand.store.tables import metadata
from tests.builders import make_spec
from tests.older_schema import back_to_before
from tests.world import MASTER, World, decomposition

SAFE = make_spec("deploy_page", retry_safe=True, exclusive_keys=("page",))
ONCE = make_spec("send_mail", work_type="add_configuration", agent_type="desktop")
KINDS = ("failed", "retryable", "infrastructure", "unknown", "permanent")

CONSTANT: Mapping[str, tuple[str, ...]] = {
    "the test writes what is read, so nothing is asked for values or cached (test_two_questions)": (
        "llm_calls: purpose tokens_cached",
    ),
    "nothing holds a key or waits to be sent when all is done (test_path)": (
        "exclusive_keys: key attempt_id request_id held_since",
        "outbox: message_id queue body attempt_id failures due_at created_at",
    ),
    "one tier reads everything here, and it is written by the test (test_llm_tiers)": (
        "decompositions: tier model thresholds",
        "llm_calls: tier model prompt_version seconds tokens_in tokens_out cost_usd choice",
        "tasks: read_by_tier read_by_model",
    ),
    "one wish and one review are enough here (test_path, test_leases)": (
        "out_of_scope: wish times last_request_id first_at last_at",
        "reviews: review_id request_id task_id kind reason context",
        "reviews: status resolution resolved_by created_at resolved_at",
    ),
    "both agents were enrolled alike, and their offers never changed (test_registry, test_copied_tokens)": (
        "agent_registry: agent_type incarnation grant_policy version spoken_generation rival rival_since rival_at",
        "agent_intents: granted granted_by unavailable absent_since",
    ),
    "no slot is taken at the end, and no agent failed often enough in a row (test_leases)": (
        "agent_registry: in_flight infrastructure_failures circuit_open_until",
    ),
    "nobody waits by choice, and nothing fails on our side (test_routing, test_database_faults)": (
        "tasks: waits_for chose_until wants_capacity due_at failures forgiven",
        "requests: claim_token claim_until failures",
        "attempts: cancel_sent incarnation lease_seconds",
    ),
    "all plans ask the same people, late answers are the only anomaly (test_consent, test_impersonation)": (
        "plans: ruling",
        "anomalies: kind",
    ),
    "the sweep, which links seals, does not come by here (test_audit)": ("seals: position link",),
}
"""Columns that such a run leaves at one value: why, and which tests fill them."""


def listed() -> set[str]:
    """Return the columns of `CONSTANT` as TABLE.COLUMN."""
    parts = (line.partition(": ") for lines in CONSTANT.values() for line in lines)
    return {f"{table}.{column}" for table, _, columns in parts for column in columns.split()}


async def everything(world: World) -> None:
    """Let happen what can: work that goes well and badly, people who agree and do not, agents that come and go."""
    registry = Registry(world.store, MASTER)
    one = await world.agent("one", SAFE, ONCE, slots=2)
    two = await world.agent("two", SAFE, slots=3, cores=4)
    await one.beat(free=Resources(cpu_cores=2, memory_mb=900), load=0.5)
    await registry.configure("two", pool="cellar", specializations=["deploy_service"])
    await _people(world)
    for n, kind in enumerate((None, *KINDS)):
        failure = Failure(kind=kind, message="no") if kind else None
        words = f"all of it {n}"
        await world.approved("deploy_page", "send_mail", words=words, key=words, priority=("high", "low")[n % 2])
        for _ in range(4):
            await world.due_now()
            await world.engine.dispatch()
            for agent in (one, two):
                for order in await agent.orders():
                    await agent.accept(order)
                    await agent.start(order)
                    fields: dict[str, Any] = {"duration_ms": 1000 + 77 * n, "resources_used": {"memory_mb": 10.0 + n}}
                    await agent.finish(order, failure, **fields)
                    await agent.finish(order, None, summary="something else")
    await registry.drain("two", drained=True)
    await registry.rotate("two")
    await world.sweep.mark_offline()


async def _people(world: World) -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    rejected = await world.planned("send_mail", words="not this", otherwise=("wait",), mode="parallel")
    plan = await world.queries.plan(rejected)
    assert plan is not None
    world.model.answers["but this"] = decomposition("deploy_page")
    await world.control.reject(rejected, plan["digest"], "bob", "but this")
    await world.engine.decompose()
    await world.approved("deploy_page", words="later", not_before=soon)
    await world.planned("deploy_page", words="tried", dry_run=True)
    world.model.answers["a pony"] = decomposition(out_of_scope=["a pony"])
    await world.engine.submit("a pony", requester="carl")
    await world.engine.submit("nobody reads this", requester="carl")
    await world.engine.decompose()


async def constants(world: World) -> dict[str, int]:
    """Return the columns that hold at most one value, with the number of rows."""
    found = {}
    for table in metadata.sorted_tables:
        (row,) = await world.run(f"SELECT count(*) AS n, {', '.join(map(_distinct, table.columns))} FROM {table.name}")
        found.update({f"{table.name}.{c.name}": row["n"] for c in table.columns if row[c.name] < 2})
    return found


def _distinct(column: Column[Any]) -> str:
    return f'count(DISTINCT COALESCE("{column.name}"::text, \'\')) AS "{column.name}"'


async def test_every_column_says_something(world: World) -> None:
    await everything(world)
    found = await constants(world)
    assert found.keys() <= listed(), "these columns never differ: give them a meaning, or let them go"


def test_only_columns_that_there_are_are_excused() -> None:
    assert listed() <= {f"{table.name}.{column.name}" for table in metadata.sorted_tables for column in table.columns}
    named = {name for reason in CONSTANT for name in re.findall(r"test_\w+", reason)}
    assert named <= {path.stem for path in Path(__file__).parent.glob("test_*.py")}


async def test_a_person_can_name_the_only_agent_of_a_subtask(world: World) -> None:
    for name in ("one", "two"):
        await world.agent(name, SAFE)
    request_id = await world.engine.submit("only there", requester="ann")
    await world.engine.decompose()
    value = decomposition("deploy_page")
    pinned = {**value, "subtasks": [{**value["subtasks"][0], "agent": "two"}]}
    await world.control.write(request_id, pinned, "ann")
    plan = await world.reads.plan(request_id)
    assert plan is not None
    assert plan.plan.tasks[0].pinned_agent == "two"
    await world.control.approve(request_id, plan.digest, "bob", "it has the page")
    await world.engine.dispatch()
    assert (len(await world.agents["one"].orders()), len(await world.agents["two"].orders())) == (0, 1)
    assert (await world.reads.trail(request_id)).approvals[0].words == "it has the page"


async def test_a_model_cannot_name_the_agent(world: World) -> None:
    await world.agent("one", SAFE)
    value = decomposition("deploy_page")
    world.model.answers["do it"] = {**value, "subtasks": [{**value["subtasks"][0], "agent": "one"}]}
    request_id = await world.engine.submit("do it", requester="ann")
    await world.engine.decompose()
    plan = await world.reads.plan(request_id)
    assert plan is not None
    assert plan.plan.tasks[0].pinned_agent is None


async def test_older_plans_can_be_read_and_calls_keep_their_times(world: World, database_url: str) -> None:
    await world.agent("one", SAFE)
    request_id = await world.approved("deploy_page")
    for statement in back_to_before("0007"):
        await world.run(statement)
    await asyncio.to_thread(migrate.upgrade, database_url)
    trail = await world.reads.trail(request_id)
    assert trail.differences == ()
    assert trail.plans[0].plan.tasks[0].intent == "deploy_page"
    (call,) = trail.llm_calls
    assert trail.request.created_at < call.created_at < trail.plans[0].created_at + timedelta(seconds=1)
