"""What a backup and a restore do to databases: one consistent look, being alone, a fresh database, the swap."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import asyncpg

from chargehand.domain.errors import BadConfiguration, BadRequest, TransientError
from chargehand.store import address
from chargehand.store.failures import translated
from chargehand.store.postgres import EMBEDDED_LOCK, SERVER_LOCK

COUNTED = {"requests": "requests", "agents": "agent_registry", "seals": "seals"}
"""What is counted, and its table: what a person knows a number for, and what the other tables hang on."""

MAINTENANCE = "postgres"  # the database that is always there to connect to while another one is renamed
LONGEST = 63  # bytes of a name in PostgreSQL


@dataclass(frozen=True)
class Snapshot:
    """One moment of a database, good while its transaction lasts."""

    name: str
    revision: str
    postgres: int
    rows: dict[str, int]


@dataclass(frozen=True)
class Ground:
    """The database that is to be restored to. `tables` are those of any kind that it has."""

    database: str
    postgres: int
    tables: int
    requests: int
    owned: bool
    may_create: bool


@asynccontextmanager
async def snapshot(dsn: str) -> AsyncIterator[Snapshot]:
    """Hold a snapshot that another program can dump. Raises `DatabaseUnreachable`, or `BadConfiguration` when empty."""
    async with _held(dsn) as connection:
        with translated():
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # a dump may take long
            if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
                raise BadConfiguration("there is nothing to back up: the database is empty")
            taken = Snapshot(
                await connection.fetchval("SELECT pg_export_snapshot()"),
                str(await connection.fetchval("SELECT version_num FROM alembic_version")),
                connection.get_server_version().major,
                await _counts(connection),
            )
        yield taken


async def counts(dsn: str) -> dict[str, int]:
    """Return the rows of the counted tables."""
    async with _connected(dsn) as connection:
        return await _counts(connection)


async def survey(dsn: str) -> Ground:
    """Look at the database that is to be restored to."""
    async with _connected(dsn) as connection:
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p')"
            " AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
        )
        known = await connection.fetchval("SELECT to_regclass('requests')") is not None
        row = await connection.fetchrow(
            """SELECT datname, pg_has_role(datdba, 'USAGE') AS owned,
                      (SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user) AS may_create
               FROM pg_database WHERE datname = current_database()"""
        )
        assert row is not None, "we are connected to it"
        requests = await connection.fetchval("SELECT count(*) FROM requests") if known else 0
        major = connection.get_server_version().major
        return Ground(row["datname"], major, tables, requests, row["owned"], row["may_create"])


@asynccontextmanager
async def alone(dsn: str) -> AsyncIterator[None]:
    """Keep servers and workers from the database while the block lasts. Raises `TransientError` when others use it.

    A server that starts meanwhile waits; a command follows, as it does when another process works.
    """
    others = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') = 'client backend'"""
    async with _held(dsn) as connection:
        with translated():
            for lock in (EMBEDDED_LOCK, SERVER_LOCK):
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
                    raise in_use()
            if await connection.fetchval(others):
                raise in_use()
        yield


async def fresh(dsn: str, database: str) -> str:
    """Make an empty database beside `database` and return its URL. What a killed restore left there is removed."""
    name = f"{database}_restoring"
    if len(name.encode()) > LONGEST:
        raise BadRequest(f"the name {database} is too long to make another one of it", hint="Rename the database.")
    await drop(dsn, name)
    async with _connected(with_database(dsn, MAINTENANCE)) as connection:
        await connection.execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE template0 ENCODING 'UTF8'")
    return with_database(dsn, name)


async def drop(dsn: str, name: str) -> None:
    """Remove a database that a restore made, if it is there."""
    async with _connected(with_database(dsn, MAINTENANCE)) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")


async def swap(dsn: str, database: str) -> str:
    """Put the fresh database in the place of `database`, in one step; return the name the old one has now.

    Raises `TransientError` when a session still uses either; nothing is changed then.
    """
    async with _connected(with_database(dsn, MAINTENANCE)) as connection:
        names = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        kept = _free(f"{database}_before_restore", names)
        try:
            async with connection.transaction():
                await connection.execute(f"ALTER DATABASE {_quoted(database)} RENAME TO {_quoted(kept)}")
                await connection.execute(
                    f"ALTER DATABASE {_quoted(f'{database}_restoring')} RENAME TO {_quoted(database)}"
                )
        except asyncpg.ObjectInUseError as error:
            raise in_use() from error
        return kept


async def drop_letters(dsn: str) -> None:
    """Remove what waited to be sent when the backup was made: those orders were sent then, and are long over."""
    async with _connected(dsn) as connection:
        await connection.execute("DELETE FROM outbox")


def with_database(dsn: str, database: str) -> str:
    """Return the URL of another database of the same server."""
    head, mark, query = dsn.partition("?")
    scheme, slashes, rest = head.partition("://")
    return f"{scheme}{slashes}{rest.partition('/')[0]}/{quote(database, safe='')}{mark}{query}"


def in_use() -> TransientError:
    """Return the error that says who has to leave."""
    return TransientError(
        "the database is in use",
        hint="Stop every server, and every command that runs or watches, then try again; nothing was changed.",
    )


async def _counts(connection: asyncpg.Connection[Any]) -> dict[str, int]:
    # The names are ours, from the constant above.
    return {what: await connection.fetchval(f"SELECT count(*) FROM {table}") for what, table in COUNTED.items()}


def _free(name: str, taken: set[str]) -> str:
    candidates = (name, *(f"{name}_{number}" for number in range(2, 100)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    with translated():
        async with _held(dsn) as connection:
            yield connection


@asynccontextmanager
async def _held(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Keep a connection while other work is done: what goes wrong there says nothing about the database."""
    with translated():
        connection = await address.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()
