"""PostgreSQL between "works" and "unreachable": each refusal is one plain error with what mends it, and passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chargehand.app.application import Application, open_application
from chargehand.app.worker import worker_beside
from chargehand.domain.errors import ChargehandError, DatabaseBusy, DatabaseRefuses, DatabaseUnreachable
from chargehand.domain.intents import Risk
from chargehand.settings import Settings
from chargehand.store import migrate
from chargehand.store.failures import MEANINGS, meaning_of
from chargehand.store.postgres import PostgresStore
from chargehand.store.queries import Queries
from tests.postgres import with_database

ROLE = "guest"
SLOW = """#!/bin/sh
# chargehand:
#   intent: compact_archive
#   work_type: run_automation
#   description: Compact the archive
#   examples: [compact the archive, please compact the archive, compact our archive, the archive must be compacted]
#   risk: read
sleep 3
echo done >> "{effects}"
"""


@pytest.fixture
async def root(database_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A superuser's connection to the test's database, with a role that owns nothing yet."""
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"CREATE ROLE {ROLE} LOGIN")
    await connection.execute(f"GRANT ALL ON DATABASE {name} TO {ROLE}; GRANT ALL ON SCHEMA public TO {ROLE}")
    await connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
    await connection.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")
    yield connection
    others = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
    await connection.execute(others)
    await connection.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")
    await connection.close()


def guest(url: str) -> str:
    return url.replace("//postgres@", f"//{ROLE}@")


@pytest.fixture
def fresh(postgres_dsn: str) -> Iterator[str]:
    """The URL of an empty database in which a guest may not make tables."""
    from tests.postgres import _run

    _run(postgres_dsn, "CREATE DATABASE fresh")
    yield with_database(postgres_dsn, "fresh")
    _run(postgres_dsn, "DROP DATABASE fresh WITH (FORCE)")


async def fault(url: str) -> ChargehandError:
    """Return what the store and the queries raise, which must be the same thing."""
    found: list[ChargehandError] = []
    store, queries = PostgresStore(url, b"k"), Queries(url)
    for attempt in (store.open, queries.requests):
        with pytest.raises(ChargehandError) as caught:
            await attempt()
        found.append(caught.value)
    await store.close()
    await queries.close()
    assert type(found[0]) is type(found[1])
    assert found[0].hint
    assert found[0].exit_code == 5
    return found[0]


async def test_a_role_that_may_not_log_in(root: asyncpg.Connection[Any], database_url: str) -> None:
    await root.execute(f"ALTER ROLE {ROLE} NOLOGIN")
    error = await fault(guest(database_url))
    assert isinstance(error, DatabaseRefuses)
    assert "refuses the user" in str(error)


async def test_a_database_that_is_not_there(root: asyncpg.Connection[Any], database_url: str) -> None:
    error = await fault(with_database(database_url, "nosuch"))
    assert isinstance(error, DatabaseRefuses)
    assert "CREATE DATABASE" in error.hint


async def test_too_many_connections(root: asyncpg.Connection[Any], database_url: str) -> None:
    await root.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
    error = await fault(guest(database_url))
    assert isinstance(error, DatabaseBusy)
    assert "CONNECTION LIMIT" in error.hint


async def test_a_parameter_that_the_server_does_not_know(root: asyncpg.Connection[Any], database_url: str) -> None:
    with pytest.raises(DatabaseRefuses, match="'whatever' is not understood"):
        await PostgresStore(f"{database_url}&whatever=1", b"k").open()


async def test_libpqs_usual_parameters_are_taken(database_url: str) -> None:
    store = PostgresStore(f"{database_url}&connect_timeout=10&channel_binding=prefer&keepalives_idle=30", b"k")
    await store.open()
    await store.close()


async def test_a_schema_in_which_nothing_may_be_made(root: asyncpg.Connection[Any], fresh: str) -> None:
    with pytest.raises(DatabaseRefuses) as caught:
        await migrate.ensure(guest(fresh), upgrade_old=False)
    assert "GRANT USAGE, CREATE ON SCHEMA public" in caught.value.hint


async def test_a_search_path_to_nowhere(root: asyncpg.Connection[Any], fresh: str) -> None:
    await root.execute(f"ALTER ROLE {ROLE} SET search_path = nosuch")
    with pytest.raises(DatabaseRefuses) as caught:
        await migrate.ensure(guest(fresh), upgrade_old=False)
    assert "search_path" in caught.value.hint


async def test_a_database_that_only_reads(root: asyncpg.Connection[Any], database_url: str) -> None:
    store = PostgresStore(guest(database_url), b"k")
    await root.execute(f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
    await store.open()
    with pytest.raises(DatabaseBusy) as caught:
        async with store.transaction() as tx:
            await tx.end_claims()
    assert "target_session_attrs=read-write" in caught.value.hint
    await store.close()


async def test_an_encoding_that_cannot_hold_every_text(postgres_dsn: str) -> None:
    from tests.postgres import _run

    _run(
        postgres_dsn,
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )
    try:
        with pytest.raises(DatabaseRefuses, match="LATIN1"):
            await PostgresStore(with_database(postgres_dsn, "latin"), b"k").open()
    finally:
        _run(postgres_dsn, "DROP DATABASE latin WITH (FORCE)")


def test_every_code_that_the_table_names_is_one_of_postgresqls() -> None:
    known = {
        state: kind
        for kind in vars(asyncpg.exceptions).values()
        if isinstance(kind, type) and (state := getattr(kind, "sqlstate", None))
    }
    for code in MEANINGS:
        assert any(state.startswith(code) for state in known), code
    for state, kind in known.items():
        meaning = meaning_of(kind("told"))
        assert (meaning is None) is not (state in MEANINGS or state[:2] in MEANINGS), state
    assert isinstance(meaning_of(asyncpg.DeadlockDetectedError("x")), DatabaseBusy)
    assert isinstance(meaning_of(asyncpg.AdminShutdownError("x")), DatabaseUnreachable)
    assert meaning_of(asyncpg.UniqueViolationError("x")) is None, "a fault of ours must not pass for the database's"


# --- while it runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(root: asyncpg.Connection[Any], database_url: str, tmp_path: Path) -> Settings:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "compact.sh").write_text(SLOW.format(effects=tmp_path / "effects"))
    (scripts / "compact.sh").chmod(0o755)
    return Settings(
        home=tmp_path / "home",
        database_url=guest(database_url),
        scripts=(scripts,),
        playbooks=(tmp_path / "none",),
        auto_approve=frozenset({Risk.READ}),
        heartbeat_seconds=0.5,
        sweep_seconds=0.2,
    )


@asynccontextmanager
async def under_way(settings: Settings) -> AsyncIterator[tuple[Application, Any]]:
    """A process that works, in the middle of a step that is not safe to repeat."""
    async with open_application(settings) as app, worker_beside(app) as worker:
        await asyncio.wait_for(worker.holding.wait(), 30)
        request_id = await app.engine.submit("compact the archive", requester="ann")
        async with asyncio.timeout(60):
            while not [a for a in await app.queries.attempts(request_id) if a["status"] == "started"]:
                await app.changed(0.5)
        yield app, request_id


async def ended(app: Application, request_id: Any) -> str:
    async with asyncio.timeout(60):
        while (status := (await app.queries.request(request_id))["status"]) in ("running", "accepted", "decomposing"):
            await app.changed(0.5)
    return str(status)


async def test_cut_connections_do_not_end_the_step_that_runs(
    root: asyncpg.Connection[Any], settings: Settings, tmp_path: Path
) -> None:
    async with under_way(settings) as (app, request_id):
        await root.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")
        assert await ended(app, request_id) == "completed"
    assert (tmp_path / "effects").read_text() == "done\n", "once"


async def test_a_refused_reconnect_does_not_end_it_either(
    root: asyncpg.Connection[Any], settings: Settings, tmp_path: Path
) -> None:
    async with under_way(settings) as (app, request_id):
        await root.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
        await root.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")
        await asyncio.sleep(2)
        await root.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
        assert await ended(app, request_id) == "completed"
        listening = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND query ILIKE 'LISTEN%'"
        await asyncio.sleep(2)
        assert await root.fetchval(listening, ROLE) == 1, "it listens again"
    assert (tmp_path / "effects").read_text() == "done\n"


async def test_a_failover_to_read_only_loses_nothing(
    root: asyncpg.Connection[Any], settings: Settings, tmp_path: Path
) -> None:
    async with under_way(settings) as (app, request_id):
        await root.execute(f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
        await root.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")
        await asyncio.sleep(4)  # the result comes while nothing can be written
        await root.execute(f"ALTER ROLE {ROLE} RESET default_transaction_read_only")
        await root.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")
        assert await ended(app, request_id) == "completed"
    assert (tmp_path / "effects").read_text() == "done\n"


async def test_an_idle_session_timeout_of_the_role_ends_no_step(
    root: asyncpg.Connection[Any], settings: Settings, tmp_path: Path
) -> None:
    await root.execute(f"ALTER ROLE {ROLE} SET idle_session_timeout = '1s'")
    async with under_way(settings) as (app, request_id):
        assert await ended(app, request_id) == "completed"
    assert (tmp_path / "effects").read_text() == "done\n"


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
async def test_the_default_isolation_level_of_a_role_does_not_matter(
    root: asyncpg.Connection[Any], database_url: str, level: str
) -> None:
    await root.execute(f"ALTER ROLE {ROLE} SET default_transaction_isolation = '{level}'")
    store, queries = PostgresStore(guest(database_url), b"k"), Queries(guest(database_url))
    await store.open()
    async with store.transaction() as tx:
        assert await tx._connection.fetchval("SHOW transaction_isolation") == "read committed"
    async with queries._engine.connect() as connection:
        assert (await connection.exec_driver_sql("SHOW transaction_isolation")).scalar() == "read committed"
    await queries.close()
    await store.close()


async def test_a_database_that_only_reads_is_told_at_the_start(
    root: asyncpg.Connection[Any], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await root.execute(f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
    store = PostgresStore(guest(database_url), b"k")
    await store.open()
    await store.close()
    assert "the database only reads just now" in caplog.text
