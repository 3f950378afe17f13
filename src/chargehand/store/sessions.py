"""Whether a session of the database is ours for as long as we are connected.

A listener and an advisory lock last as long as their session. A pooler that lends a session for one transaction at a
time takes both away without a word: nothing would be woken, and two processes would do the same work.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import asyncpg

from chargehand.domain.errors import DatabaseBusy, DatabaseRefuses
from chargehand.store import address
from chargehand.store.failures import NOT_KEPT, POOLING, translated

ROUNDS = 3
"""How often it is tried: other clients of the pooler may take the session in between, and give it back."""

FACTS = "SELECT pg_backend_pid() AS process, current_setting('transaction_read_only')::bool AS reads_only"


class Facts(NamedTuple):
    """What a session says of itself: `pooled`, somebody stands between us and the server."""

    pooled: bool
    reads_only: bool


async def facts(connection: asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]) -> Facts:
    """Ask a session. A pooler makes up the process that it tells when one connects, for it has none to give yet."""
    said = await connection.fetchrow(FACTS)
    assert said is not None  # one row, always
    return Facts(said["process"] != connection.get_server_pid(), said["reads_only"])


async def look(url: str) -> Facts:
    """Connect and ask; where a pooler stands between, see that sessions last.

    Raises `DatabaseUnreachable`, `DatabaseBusy`, and `DatabaseRefuses` where they do not.
    """
    with translated():
        connection = await address.connect(url)
        try:
            found = await facts(connection)
        finally:
            await connection.close()
    if found.pooled:
        await check_lasting(url)
    return found


async def check_lasting(url: str) -> None:
    """Raise `DatabaseRefuses` where another client can get the session that we have."""
    with translated():
        first = await address.connect(url)
        try:
            second = await _second(url)
            try:
                lasting = [await _is_kept(first, second) for _ in range(ROUNDS)]
            finally:
                await second.close()
        finally:
            await first.close()
    if not all(lasting):
        raise DatabaseRefuses(NOT_KEPT, hint=POOLING)


async def _second(url: str) -> asyncpg.Connection[Any]:
    try:
        return await address.connect(url)
    except TimeoutError as error:
        raise DatabaseBusy(
            f"a pooler before the database gives no second connection within {address.TIMEOUT:g} s",
            hint="Raise its pool size: each Chargehand process uses up to 12 connections.",
        ) from error


async def _is_kept(first: asyncpg.Connection[Any], second: asyncpg.Connection[Any]) -> bool:
    """Whether the first one's session is still its own while the second one is in a transaction."""
    process = "SELECT pg_backend_pid()"
    mine = await first.fetchval(process)
    async with second.transaction():
        return bool(mine != await second.fetchval(process) and mine == await first.fetchval(process))
