"""What an audit reads, all of it as it was at one moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from chargehand.domain.records import Event
from chargehand.domain.seals import RequestState, Seal
from chargehand.store import address
from chargehand.store.failures import translated
from chargehand.store.postgres import speak_json

SEALS = """
SELECT request_id, event_count, mac, key_name, kind, position, link FROM seals
WHERE $1::uuid IS NULL OR request_id = $1 ORDER BY seal_id"""
REQUESTS = """
SELECT r.request_id, r.ended_at IS NOT NULL AS ended, r.event_count,
    (SELECT max(e.seq) FROM events e WHERE e.request_id = r.request_id) AS newest
FROM requests r WHERE $1::uuid IS NULL OR r.request_id = $1"""
STRAYS = """
SELECT DISTINCT e.request_id FROM events e
WHERE NOT EXISTS (SELECT FROM seals s WHERE s.request_id = e.request_id)
    AND NOT EXISTS (SELECT FROM requests r WHERE r.request_id = e.request_id)"""
EVENTS = """
SELECT request_id, seq, kind, task_id, attempt_id, data, at FROM events
WHERE request_id = ANY($1::uuid[]) ORDER BY request_id, seq"""


@dataclass(frozen=True, slots=True)
class AuditRows:
    """Reads for one audit."""

    _connection: asyncpg.Connection[Any]

    async def seals(self, only: UUID | None = None) -> list[Seal]:
        """Return all seals, or those of one request, oldest first."""
        return [Seal(**dict(row)) for row in await self._connection.fetch(SEALS, only)]

    async def requests(self, only: UUID | None = None) -> dict[UUID, RequestState]:
        """Return what the rows of all requests, or of one, say of their end."""
        rows = await self._connection.fetch(REQUESTS, only)
        return {row["request_id"]: RequestState(row["ended"], row["event_count"], row["newest"]) for row in rows}

    async def strays(self) -> list[UUID]:
        """Return requests of which there are only events."""
        return [row["request_id"] for row in await self._connection.fetch(STRAYS)]

    async def events(self, requests: Sequence[UUID]) -> dict[UUID, list[Event]]:
        """Return the histories of requests, in order."""
        found: dict[UUID, list[Event]] = {request_id: [] for request_id in requests}
        for request_id, *event in await self._connection.fetch(EVENTS, requests):
            found[request_id].append(Event(*event))
        return found


@asynccontextmanager
async def one_moment(dsn: str) -> AsyncIterator[AuditRows]:
    """Look at the database as it is now, whatever is written meanwhile. Raises `DatabaseUnreachable`."""
    with translated():
        connection = await address.connect(dsn)
        try:
            await speak_json(connection)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield AuditRows(connection)
        finally:
            await connection.close()
