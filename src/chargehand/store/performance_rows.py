"""Between the rows of `agent_performance` and what is kept of an agent's runs."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import asyncpg

from chargehand.domain.records import Outcome
from chargehand.routing.performance import Counts, Lately, Performance

Key = tuple[UUID, str, str]
"""Agent, work type, intent; of the whole work type without an intent."""


def keys_of(outcome: Outcome) -> tuple[Key, Key]:
    """Return what an outcome says something of: the work type, and the intent."""
    agent_id, work_type = outcome.agent_id, outcome.work_type
    return (agent_id, work_type, ""), (agent_id, work_type, outcome.intent)


def performance(row: asyncpg.Record) -> Performance:
    """Return what a row of the `performance` statement says of one intent, or of one work type."""
    return Performance(
        Counts(row["success_count"], row["failure_count"], row["total_duration_ms"]),
        Lately(row["lately_successes"], row["lately_runs"]),
        row["total_duration_ms2"],
        row["p50_ms"],
        row["p90_ms"],
        row["resources_used"],
        row["difficulty"],
    )


def overall(row: asyncpg.Record) -> Lately:
    """Return what a row of the `performance` statement says of all the agent's work."""
    return Lately(row["overall_successes"], row["overall_runs"])


def columns(kept: Mapping[Key, Performance]) -> list[list[object]]:
    """Return the arguments of the `learn` statement, in the order of agents, work types and intents."""
    rows = [
        (
            agent_id,
            work_type,
            intent,
            p.counts.successes,
            p.counts.failures,
            p.counts.total_duration_ms,
            p.total_duration_ms2,
            p.p50_ms,
            p.p90_ms,
            p.lately.successes,
            p.lately.runs,
            dict(p.resources_used),
            p.assessment,
            p.deviation_ms,
            p.difficulty,
        )
        for (agent_id, work_type, intent), p in sorted(kept.items())
    ]
    return [list(column) for column in zip(*rows, strict=True)]
