"""The named statements of `store/sql/hot.sql`, modelled: what is learnt of agents' runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bench.model.database import Row, Transaction
from bench.model.statements import columns, statement

COUNTS = ("success_count", "failure_count", "total_duration_ms", "total_duration_ms2")
LATELY = ("p50_ms", "p90_ms", "lately_successes", "lately_runs")


@statement
def performance(
    tx: Transaction, agents: Sequence[UUID], work_types: Sequence[str], intents: Sequence[str]
) -> list[Row]:
    found = []
    for key, work_type, intent in zip(agents, work_types, intents, strict=True):
        agent = tx.get("agent_registry", key)
        if agent is None:
            continue
        done = tx.get("agent_performance", (key, work_type, intent)) or {}
        found.append({
            "agent_id": key, "work_type": work_type, "intent": intent,
            **columns("overall_successes", "overall_runs")(agent),
            **{name: done.get(name, 0) for name in COUNTS},
            **{name: done.get(name, None if name.startswith("p") else 0.0) for name in LATELY},
            "resources_used": done.get("resources_used", {}), "difficulty": done.get("difficulty"),
        })  # fmt: skip
    return found


@statement
def learn(
    tx: Transaction, agents: Sequence[UUID], work_types: Sequence[str], intents: Sequence[str], *kept: Sequence[Any]
) -> int:
    names = (*COUNTS, *LATELY, "resources_used", "difficulty_assessment", "deviation_ms", "difficulty")
    keys = list(zip(agents, work_types, intents, strict=True))
    tx.hold("agent_performance", keys)
    for key, *values in zip(keys, *kept, strict=True):
        head = dict(zip(("agent_id", "work_type", "intent"), key, strict=True))
        row = dict(zip(names, values, strict=True)) | {"last_execution_at": tx.now}
        tx.put("agent_performance", key, {**head, **row})
    return len(agents)


@statement
def learn_overall(tx: Transaction, agents: Sequence[UUID], successes: Sequence[float], runs: Sequence[float]) -> int:
    tx.hold("agent_registry", agents)
    for key, good, n in zip(agents, successes, runs, strict=True):
        tx.update("agent_registry", key, overall_successes=good, overall_runs=n)
    return len(agents)
