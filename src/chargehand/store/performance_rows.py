"""Between the rows of `agent_performance` and what is kept of an agent's runs."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import asyncpg

from chargehand.routing.performance import Counts, Lately, Performance


def performance(row: asyncpg.Record) -> Performance:
    """Return what a row of the `performance` statement says of one work type."""
    return Performance(
        Counts(row["success_count"], row["failure_count"], row["total_duration_ms"]),
        Lately(row["lately_successes"], row["lately_runs"]),
        row["total_duration_ms2"],
        row["p50_ms"],
        row["p90_ms"],
        row["resources_used"],
        row["difficulty_assessment"],
    )


def overall(row: asyncpg.Record) -> Lately:
    """Return what a row of the `performance` statement says of all the agent's work."""
    return Lately(row["overall_successes"], row["overall_runs"])


def columns(kept: Mapping[tuple[UUID, str], Performance]) -> list[list[object]]:
    """Return the arguments of the `learn` statement, in the order of agents and work types."""
    rows = [
        (
            agent_id,
            work_type,
            p.counts.successes,
            p.counts.failures,
            p.counts.total_duration_ms,
            p.total_duration_ms2,
            p.p50_ms,
            p.p90_ms,
            p.lately.successes,
            p.lately.runs,
            dict(p.resources_used),
            p.difficulty,
        )
        for (agent_id, work_type), p in sorted(kept.items())
    ]
    return [list(column) for column in zip(*rows, strict=True)]
