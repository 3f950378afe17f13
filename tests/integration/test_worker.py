"""One process works; the others wait, and take over when it ends."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from chargehand.app.application import Application, open_application
from chargehand.app.worker import worker_beside
from chargehand.domain.errors import BadConfiguration, DatabaseUnreachable, SchemaTooNew
from chargehand.domain.risks import Risk
from chargehand.settings import Settings
from chargehand.store import migrate
from chargehand.store.postgres import PostgresStore
from chargehand.store.queries import Queries
from tests.world import World

SCRIPT = """#!/bin/sh
# chargehand:
#   intent: count_sheep
#   work_type: run_automation
#   description: Count the sheep
#   examples: [count the sheep, please count the sheep, count sheep, count all sheep]
#   risk: read
#   retry_safe: true
echo "progress: one"
sleep 0.2
echo sheep >> "{effects}"
"""


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "count.sh").write_text(SCRIPT.format(effects=tmp_path / "effects"))
    (scripts / "count.sh").chmod(0o755)
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        scripts=(scripts,),
        playbooks=(tmp_path / "none",),
        auto_approve=frozenset({Risk.READ}),
        heartbeat_seconds=0.5,
        sweep_seconds=0.2,
    )


@asynccontextmanager
async def app(settings: Settings) -> AsyncIterator[Application]:
    async with open_application(settings) as opened:
        yield opened


async def test_a_request_submitted_anywhere_is_done_by_whoever_works(settings: Settings, tmp_path: Path) -> None:
    async with app(settings) as worker, app(settings) as watcher, worker_beside(worker) as work:
        await asyncio.wait_for(work.holding.wait(), 20)
        request_id = await watcher.engine.submit("count the sheep", requester="ann")
        assert await _end(watcher, request_id) == "completed"
    assert (tmp_path / "effects").read_text() == "sheep\n"
    async with app(settings) as auditor:
        assert (await auditor.verify_audit()).holds


async def test_another_process_takes_over_when_the_one_that_worked_ends(settings: Settings) -> None:
    async with app(settings) as first, app(settings) as second, worker_beside(second) as waiting:
        await asyncio.wait_for(waiting.holding.wait(), 30)
        async with worker_beside(first) as next_one:
            await asyncio.sleep(0.7)
            assert not next_one.holding.is_set(), "one at a time"
            await waiting.stop()
            await asyncio.wait_for(next_one.holding.wait(), 30)
            request_id = await second.engine.submit("count the sheep", requester="ann")
            assert await _end(second, request_id) == "completed"


async def test_running_work_is_finished_before_the_process_ends(settings: Settings, tmp_path: Path) -> None:
    async with app(settings) as one:
        async with worker_beside(one) as work:
            await asyncio.wait_for(work.holding.wait(), 20)
            request_id = await one.engine.submit("count the sheep", requester="ann")
            while not [a for a in await one.queries.attempts(request_id) if a["status"] == "started"]:
                await one.changed(1)
        assert (tmp_path / "effects").read_text() == "sheep\n"
        assert await _status(one, request_id) == "completed", "and its result was recorded"


async def test_this_machines_agent_is_there_at_once_though_its_journal_was_lost(settings: Settings) -> None:
    """Nobody swept meanwhile, so the former life still counts as online; who has the lock knows better."""
    journal = settings.home / "agents" / "infra-1" / "journal"
    async with app(settings) as one, worker_beside(one) as work:
        await asyncio.wait_for(work.holding.wait(), 20)
    shutil.rmtree(journal)
    async with app(settings) as one:
        (before,) = await one.agents()
        assert before.status != "offline"
        async with worker_beside(one) as work:
            await asyncio.wait_for(work.holding.wait(), 20)
            (after,) = await one.agents()
            assert after.incarnation != before.incarnation
            assert after.rival is None


async def test_an_unreachable_database_is_one_clear_error(tmp_path: Path) -> None:
    unreachable = Settings(home=tmp_path / "home", database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnreachable) as caught:
        async with open_application(unreachable):
            pytest.fail("there is nothing to open")
    assert "CHARGEHAND_DATABASE_URL" in caught.value.hint


async def test_a_database_of_a_newer_chargehand_is_refused(settings: Settings, world: World) -> None:
    await world.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="9999"):
        async with open_application(settings):
            pytest.fail("it must not be touched")
    await world.run("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(BadConfiguration) as caught:
        await migrate.ensure(settings.database_url or "", upgrade_old=False)
    assert "db upgrade" in caught.value.hint


async def test_the_schema_in_the_migrations_is_the_one_in_the_tables(database_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import Connection

    from chargehand.store.tables import metadata

    def difference(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    engine = migrate.engine(database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(difference) == []
    await engine.dispose()
    newest = sorted(path.name[:4] for path in (migrate.FOLDER / "versions").glob("[0-9]*.py"))[-1]
    assert newest == migrate.HEAD


async def test_a_url_may_have_the_options_that_operators_write(database_url: str) -> None:
    url = database_url + ("&" if "?" in database_url else "?") + "sslmode=prefer&application_name=here"
    queries = Queries(url)
    await queries.reviews()
    await queries.close()
    await asyncio.to_thread(migrate.upgrade, url)


async def test_a_connection_that_was_left_busy_is_not_given_to_the_next(database_url: str) -> None:
    store = PostgresStore(database_url, b"k" * 32, max_connections=1)
    await store.open()
    left: list[asyncio.Task[object]] = []

    async def given_up() -> None:
        async with store.transaction() as tx:
            left.append(asyncio.create_task(tx._connection.execute("SELECT pg_sleep(5)")))
            await asyncio.sleep(0.2)
            raise KeyError("the program gives up in the middle of a statement")

    with pytest.raises(DatabaseUnreachable):
        await given_up()
    async with asyncio.timeout(3), store.transaction() as tx:
        assert (await tx.catalog()).intents == ()
    with pytest.raises(asyncpg.PostgresConnectionError):
        await left[0]
    await store.close()


async def _end(app: Application, request_id: UUID) -> str:
    async with asyncio.timeout(60):
        while (status := await _status(app, request_id)) in ("accepted", "decomposing", "running"):
            await app.changed(1)
    return status


async def _status(app: Application, request_id: UUID) -> str:
    return str((await app.queries.request(request_id))["status"])
