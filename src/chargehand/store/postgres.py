"""Connections to PostgreSQL: transactions for the engine, a listener for wake-ups, the working process's lock."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from chargehand.catalog.catalog import Catalog
from chargehand.domain.errors import DatabaseRefuses
from chargehand.store import address, sessions
from chargehand.store.failures import MEANINGS, translated
from chargehand.store.status_moves import Traffic
from chargehand.store.transaction import Transaction

log = logging.getLogger("chargehand.store")

CHANNEL = "chargehand"
SERVER_LOCK = 0x63687372  # "chsr": every server holds this one, shared, so that others can see that somebody works
EMBEDDED_LOCK = 0x63686768  # "chgh": who holds this advisory lock runs the loops and the agents

# Every statement here finds its rows through an index. PostgreSQL keeps the plan of a prepared statement as long as a
# connection lasts; made while tables are small it would read all of them for ever (measured: 11,800 rows for a plan of
# three tasks instead of 3,800). What then looks expensive, because nothing else was left, must not be compiled.
THIS_SESSION = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
HOLDER = """SELECT pid, backend_start FROM pg_stat_activity WHERE pid = (
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""

LONG_LIVED = {
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "idle_session_timeout": "0",
}
"""A minute of silence, then a question every ten seconds: firewalls forget idle connections after some minutes. Idle
all its life, such a session must not be ended for being idle."""

LOOK_UP = {"enable_seqscan": "off", "jit": "off"}


class PostgresStore:
    """The store on one database. `seal_key` signs the histories of ended requests; `traffic` counts transactions."""

    def __init__(self, dsn: str, seal_key: bytes, *, max_connections: int = 8) -> None:
        self._dsn = dsn
        self._seal_key = seal_key
        self._max_connections = max_connections
        self.traffic = Traffic()
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._catalogs: dict[str, Catalog] = {}
        self._holder: asyncpg.Record | None = None  # the session that took the lock last, in this process
        self._doubtful: set[int] = set()  # connections, by their server's process, whose last transaction failed

    async def open(self) -> None:
        """Connect. Raises `DatabaseUnreachable`, and `DatabaseRefuses` for what only its operator can mend."""
        where = address.parse(self._dsn)

        async def prepare(connection: asyncpg.Connection[Any]) -> None:
            await where.prepare(connection, **LOOK_UP)
            await speak_json(connection)

        with translated():
            self._pool = await asyncpg.create_pool(
                min_size=0,  # with a floor the driver logs a traceback for every restart of the database
                max_size=self._max_connections,
                init=prepare,
                reset=self._look_at,
                **where.options,
            )
            async with self._pool.acquire() as connection:
                check_encoding(connection.get_settings().server_encoding)
                facts = await sessions.facts(connection)
        if facts.pooled:
            await sessions.check_lasting(self._dsn)
        if facts.reads_only:
            log.warning("%s: %s", MEANINGS["25006"].said, MEANINGS["25006"].hint)

    async def close(self) -> None:
        """Give the connections back."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction: it takes effect whole when the block ends, with its events, or not at all.

        Raises `DatabaseUnreachable` when the server goes away, `DatabaseBusy` when it cannot do this now, `DiskFull`
        when it has no space, and `DatabaseRefuses` when a permission is missing.
        """
        assert self._pool is not None, "the store is not open"
        with translated():
            async with self._pool.acquire() as connection:
                self._doubtful.add(connection.get_server_pid())
                self.traffic.transactions += 1
                async with connection.transaction():
                    tx = Transaction(connection, self._seal_key, self._catalogs, self.traffic)
                    yield tx
                    await tx.finish()
                self._doubtful.discard(connection.get_server_pid())

    async def _look_at(self, connection: asyncpg.Connection[Any]) -> None:
        """Ask a connection something after a transaction that failed; the pool drops it when it cannot answer.

        One that was cut off in the middle of a statement may be busy for ever, and would be given to the next. After a
        transaction that ended well there is nothing to ask: ours leave no session state, so the pool's own reset would
        be a round trip for nothing.
        """
        if (backend := connection.get_server_pid()) in self._doubtful:
            self._doubtful.discard(backend)
            await connection.execute("SELECT 1")

    async def listen(self, on_wake: Callable[[str], None], on_lost: Callable[[], None]) -> Callable[[], Any]:
        """Call `on_wake` with each notification's text, `on_lost` when the connection ends; return how to stop.

        A lost notification is made good by the sweep, so nothing depends on this being reliable.
        """
        with translated():
            connection = await _long_lived(self._dsn)
            await connection.add_listener(CHANNEL, lambda *sent: on_wake(str(sent[-1])))
            connection.add_termination_listener(lambda *_: on_lost())
        return connection.close

    async def try_hold(self, on_lost: Callable[[], None]) -> Callable[[], Any] | None:
        """Try to become the process that runs loops and agents; return how to give that up, or None."""
        with translated():
            connection = await _long_lived(self._dsn)
            if not await self._locked(connection):
                await connection.close()
                return None
            self._holder = await connection.fetchrow(THIS_SESSION)
            connection.add_termination_listener(lambda *_: on_lost())
        return connection.close

    async def _locked(self, connection: asyncpg.Connection[asyncpg.Record]) -> bool:
        """Take the lock. A session of this process whose connection is cut may still have it, and is ended then."""
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", EMBEDDED_LOCK):
            return True
        if self._holder is None or await connection.fetchrow(HOLDER, EMBEDDED_LOCK) != self._holder:
            return False
        await connection.execute("SELECT pg_terminate_backend($1)", self._holder["pid"])
        for _ in range(20):  # it takes milliseconds
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", EMBEDDED_LOCK):
                return True
            await asyncio.sleep(0.05)
        return False

    async def announce(self, on_lost: Callable[[], None]) -> Callable[[], Any]:
        """Be seen as a server for as long as the connection lasts; return how to leave."""
        with translated():
            connection = await _long_lived(self._dsn)
            await connection.execute("SELECT pg_advisory_lock_shared($1)", SERVER_LOCK)
            connection.add_termination_listener(lambda *_: on_lost())
        return connection.close

    async def served(self) -> bool:
        """Return whether a server works on this database."""
        query = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        with translated():
            assert self._pool is not None, "the store is not open"
            return bool(await self._pool.fetchval(query, SERVER_LOCK))


async def _long_lived(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """Connect for as long as the process lives."""
    return await address.connect(dsn, **LONG_LIVED)


def check_encoding(encoding: str) -> None:
    """Raise `DatabaseRefuses` for a database that cannot hold every text."""
    if encoding != "UTF8":
        raise DatabaseRefuses(
            f"the database stores text as {encoding}, which cannot hold what people and programs write",
            hint="Make one with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0.",
        )


async def speak_json(connection: asyncpg.Connection[Any]) -> None:
    await connection.set_type_codec("jsonb", encoder=to_json, decoder=json.loads, schema="pg_catalog")


def to_json(value: object) -> str:
    """Serialise for jsonb, which cannot hold NUL: tool output may have some."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("\\u0000", "\\ufffd")
