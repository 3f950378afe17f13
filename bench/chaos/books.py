"""Reads the database as an auditor does: with statements of its own, not with the product's."""

from __future__ import annotations

from typing import Any

import asyncpg

from bench.chaos.accounts import Books
from chargehand.app.application import Application

OPEN = "status NOT IN ('completed', 'failed', 'cancelled', 'rejected', 'refused', 'expired', 'in_review')"

LEFTOVERS = {
    "open_requests": f"SELECT count(*) FROM requests WHERE {OPEN}",
    "open_attempts": "SELECT count(*) FROM attempts WHERE status IN ('leased', 'accepted', 'started')",
    "slots": "SELECT COALESCE(sum(in_flight), 0) FROM agent_registry",
    "exclusive_keys": "SELECT count(*) FROM exclusive_keys",
    "orders": "SELECT count(*) FROM outbox WHERE attempt_id IS NOT NULL",
    "claims": "SELECT count(*) FROM requests WHERE claim_until IS NOT NULL",
    "open_tasks": """SELECT count(*) FROM tasks JOIN requests r USING (request_id)
                     WHERE tasks.status IN ('ready', 'dispatched', 'running') AND r.status <> 'in_review'""",
}
"""What must be nought when all has come to rest, by kind."""


class Auditor:
    """A connection of its own to the database, past every cable."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def under_way(self) -> int:
        """Return how many requests have neither ended nor reached a person."""
        [row] = await self._rows(LEFTOVERS["open_requests"])
        return int(row[0])

    async def leftovers(self) -> dict[str, int]:
        """Return what is still taken, by kind."""
        connection = await asyncpg.connect(self._dsn, timeout=10)
        try:
            return {kind: int(await connection.fetchval(query)) for kind, query in LEFTOVERS.items()}
        finally:
            await connection.close()

    async def anomalies(self) -> dict[str, int]:
        """Return how many messages changed nothing, by kind."""
        rows = await self._rows("SELECT kind, count(*) FROM anomalies GROUP BY kind ORDER BY kind")
        return {row[0]: row[1] for row in rows}

    async def books(self, app: Application) -> Books:
        """Return everything the accounts need."""
        requests = await self._rows("SELECT request_id, idempotency_key, status FROM requests")
        tasks = await self._rows("SELECT task_id, request_id, status, (spec->>'retry_safe')::boolean FROM tasks")
        attempts = await self._rows("SELECT attempt_id, task_id, lease_token, status FROM attempts")
        return Books(
            {row[0]: (row[1], row[2]) for row in requests},
            {row[0]: (row[1], row[2], row[3]) for row in tasks},
            {row[0]: (row[1], row[2], row[3]) for row in attempts},
            frozenset(row[0] for row in await self._rows("SELECT request_id FROM plans")),
            frozenset(row[0] for row in await self._rows("SELECT DISTINCT request_id FROM events")),
            await self.leftovers(),
            len((audit := await app.verify_audit()).wrong) + len(audit.chain),
        )

    async def _rows(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self._dsn, timeout=10)
        try:
            await connection.set_type_codec("jsonb", encoder=str, decoder=str, schema="pg_catalog")
            return list(await connection.fetch(query))
        finally:
            await connection.close()
