"""A pooler before the database: by session it works, by transaction it is refused, and told how to mend it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from bench.cable import Cable
from chargehand.app.doctor import examine
from chargehand.domain.errors import ChargehandError, DatabaseBusy, DatabaseRefuses
from chargehand.settings import Settings
from chargehand.store import address, migrate, sessions
from chargehand.store.postgres import PostgresStore
from chargehand.store.queries import Queries
from tests.pooler import Mode, pooled
from tests.postgres import throwaway_home
from tests.rabbitmq import free_ports

Run = Callable[[str, Mode, int], AbstractAsyncContextManager[str]]
BOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
PORT = 5432
CONFIGURATION = """
[databases]
{database} = host=127.0.0.1 port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {most}
max_client_conn = 100
"""


def parts(url: str) -> tuple[Path, str]:
    """Return the socket and the database of a private server's URL."""
    split = urlsplit(url)
    return Path(parse_qs(split.query)["host"][0]) / f".s.PGSQL.{PORT}", split.path[1:]


@asynccontextmanager
async def small(url: str, mode: Mode, most: int) -> AsyncIterator[str]:
    socket, database = parts(url)
    async with pooled(socket, mode, most) as port:
        yield f"postgresql://postgres@127.0.0.1:{port}/{database}"


@asynccontextmanager
async def pgbouncer(url: str, mode: Mode, most: int) -> AsyncIterator[str]:
    socket, database = parts(url)
    [port] = free_ports(1)
    with throwaway_home("pgbouncer") as home:
        async with Cable(socket) as cable:  # the socket's directory is closed to the user that pgbouncer runs as
            home.mkdir(mode=0o755)
            file = home / "pgbouncer.ini"
            file.write_text(CONFIGURATION.format(database=database, port=cable.port, listen=port, mode=mode, most=most))
            async with running(file, f"postgresql://postgres@127.0.0.1:{port}/{database}") as pooled_url:
                yield pooled_url


@asynccontextmanager
async def running(file: Path, url: str) -> AsyncIterator[str]:
    assert BOUNCER is not None
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    program = subprocess.Popen(  # noqa: ASYNC220 - it takes milliseconds
        [BOUNCER, *user, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await answering(url)
        yield url
    finally:
        program.kill()
        program.wait()


async def answering(url: str) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await (await asyncpg.connect(url)).close()
                return
            except OSError:
                await asyncio.sleep(0.05)


@pytest.fixture(
    params=[small, pytest.param(pgbouncer, marks=pytest.mark.skipif(BOUNCER is None, reason="no pgbouncer"))]
)
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


async def refusal(attempt: Callable[[], Awaitable[object]]) -> ChargehandError:
    with pytest.raises(ChargehandError) as caught:
        await attempt()
    return caught.value


async def test_by_transaction_is_refused_with_what_mends_it(run: Run, database_url: str) -> None:
    async with run(database_url, "transaction", 20) as url:
        store = PostgresStore(url, b"k")
        error = await refusal(store.open)
        await store.close()
    assert isinstance(error, DatabaseRefuses)
    assert "gives each transaction to another session" in str(error)
    assert "pool_mode = session" in error.hint
    assert "the server's own port" in error.hint


async def test_by_transaction_is_found_while_others_use_the_pooler(run: Run, database_url: str) -> None:
    async with run(database_url, "transaction", 20) as url:
        others = [await address.connect(url) for _ in range(5)]
        ending = asyncio.Event()
        busy = [asyncio.create_task(keep_busy(other, ending)) for other in others]
        assert isinstance(await refusal(lambda: sessions.look(url)), DatabaseRefuses)
        ending.set()
        await asyncio.gather(*busy)
        for other in others:
            await other.close()


async def keep_busy(connection: asyncpg.Connection[asyncpg.Record], ending: asyncio.Event) -> None:
    while not ending.is_set():
        await connection.execute("SELECT pg_sleep(0.002)")
        await asyncio.sleep(0.001)


async def test_by_session_everything_that_a_session_holds_lasts(run: Run, database_url: str) -> None:
    async with run(database_url, "session", 20) as url:
        assert (await sessions.look(url)).pooled
        assert await migrate.current(url) == migrate.HEAD
        store, other, queries = PostgresStore(url, b"k"), PostgresStore(url, b"k"), Queries(url)
        await store.open()
        await other.open()
        woken = asyncio.Event()
        stop_listening = await store.listen(lambda _: woken.set(), lambda: None)
        release = await store.try_hold(lambda: None)
        assert release is not None
        assert await other.try_hold(lambda: None) is None, "the lock is held, whoever asks"
        direct = await asyncpg.connect(database_url)
        await direct.execute("NOTIFY chargehand, 'decompose'")
        await asyncio.wait_for(woken.wait(), 5)
        assert await queries.requests() == []
        await release()
        await stop_listening()
        async with asyncio.timeout(5):
            while (again := await other.try_hold(lambda: None)) is None:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        await again()
        for opened in (store, other, queries, direct):
            await opened.close()


async def test_a_pooler_with_too_few_sessions_is_told(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "TIMEOUT", 0.5)
    async with run(database_url, "session", 1) as url:
        error = await refusal(lambda: sessions.look(url))
    assert isinstance(error, DatabaseBusy)
    assert "no second connection" in str(error)
    assert "up to 12" in error.hint


async def test_without_a_pooler_none_is_seen(database_url: str) -> None:
    assert await sessions.look(database_url) == sessions.Facts(pooled=False, reads_only=False)


@pytest.mark.parametrize(("mode", "state"), [("session", "ok"), ("transaction", "fail")])
async def test_doctor_tells_of_it(database_url: str, tmp_path: Path, mode: Mode, state: str) -> None:
    async with small(database_url, mode, 20) as url:
        checks = await examine(Settings(home=tmp_path / "home", database_url=url))
    (check,) = [check for check in checks if check.name == "database"]
    assert check.state == state
    assert "pools by session" in check.found if mode == "session" else "pool_mode = session" in check.remedy
