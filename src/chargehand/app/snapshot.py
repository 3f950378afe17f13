"""One request with everything that is shown of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chargehand.store.queries import Queries, Row, Rows


@dataclass(frozen=True)
class Snapshot:
    """One request with everything that is shown of it."""

    request: Row
    plan: Row | None
    tasks: Rows
    attempts: Rows
    decomposition: Row | None
    questions: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """How long the work has taken, from the approval to the end."""
        ended = self.request["ended_at"]
        if ended is None or self.plan is None or self.plan["decided_at"] is None:
            return None
        return float((ended - self.plan["decided_at"]).total_seconds())


async def snapshot(queries: Queries, request_id: UUID) -> Snapshot:
    """Read one request with its newest plan. Raises `UnknownId`."""
    request = await queries.request(request_id)
    plan, decompositions = await asyncio.gather(queries.plan(request_id), queries.decompositions(request_id))
    tasks, attempts = await asyncio.gather(queries.tasks(request_id), queries.attempts(request_id))
    latest = decompositions[-1] if decompositions else None
    return Snapshot(request, plan, of_plan(tasks, plan), attempts, latest, asked_back(request, latest))


def of_plan(tasks: Rows, plan: Row | None) -> Rows:
    """Return the newest plan's tasks, and those that were done under an earlier one."""
    return [t for t in tasks if plan is None or t["plan_id"] == plan["plan_id"] or t["status"] == "succeeded"]


def asked_back(request: Row, decomposition: Row | None) -> tuple[str, ...]:
    """Return the questions a request waits with."""
    if request["status"] != "asking" or decomposition is None:
        return ()
    value: Any = decomposition["value"]
    return tuple(value["ambiguities"])
