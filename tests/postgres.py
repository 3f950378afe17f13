"""Real PostgreSQL for tests: one private server a session, one fresh database a test.

    async def test_something(database_url: str) -> None: ...

`database_url` works with asyncpg, and with SQLAlchemy after `.set(drivername="postgresql+asyncpg")`.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qs, urlsplit

import pytest

from chargehand.private_postgres import PostgresMissing, PrivatePostgres, find_binaries, wire

BASES = "chargehand-test-"
TEMPLATE = "chargehand_template"
_numbers = itertools.count(1)


def unavailable(reason: str) -> NoReturn:
    """Skip on a laptop, saying why; fail in CI, where a test that never runs would look like one that passes."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must be able to run this: {reason}")
    pytest.skip(reason)


def require_postgres() -> None:
    """Skip, or fail in CI, when there are no PostgreSQL binaries."""
    try:
        find_binaries()
    except PostgresMissing as error:
        unavailable(f"{error}; {error.hint}")


@contextmanager
def throwaway_home(name: str = "home") -> Iterator[Path]:
    """Yield a home whose server, data and socket are gone afterwards.

    It is not below pytest's tmp_path: that is 0700, so root's data would go to /var/lib and stay there.
    """
    base = Path(tempfile.mkdtemp(prefix=f"{BASES}{os.getpid()}-", dir="/tmp"))
    base.chmod(0o711)
    try:
        yield base / name
    finally:
        discard(base / name)
        shutil.rmtree(base, ignore_errors=True)


def discard(home: Path) -> None:
    """Stop a home's server and remove what it has outside of the home."""
    server = PrivatePostgres(home)
    with suppress(OSError):
        place = (home / "postgres").resolve()
        sockets = server.status().socket_dir
        server.stop(mode="immediate")
        for directory in (place, sockets):
            if directory and not directory.is_relative_to(home):
                shutil.rmtree(directory, ignore_errors=True)


def prepare_template(dsn: str) -> None:
    """Bring the database that every test's is copied from to the current schema.

    In a thread of its own: the migration runs an event loop, and the session's must stay the main thread's.
    """
    if importlib.util.find_spec("chargehand.store.migrate") is None:
        return
    from chargehand.store import migrate

    with ThreadPoolExecutor(1) as thread:
        thread.submit(migrate.upgrade, dsn).result()


def with_database(dsn: str, database: str) -> str:
    """Return `dsn` for another database of the same server."""
    server, _, options = dsn.partition("?")
    return f"{server.rpartition('/')[0]}/{database}?{options}"


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The URL of an empty database on the session's own server."""
    require_postgres()
    _end_orphans()
    with throwaway_home() as home:
        dsn = PrivatePostgres(home).start()
        # These databases need to survive kill -9, not a power cut.
        _run(dsn, "ALTER SYSTEM SET fsync = off")
        _run(dsn, "SELECT pg_reload_conf()")
        yield dsn


@pytest.fixture(scope="session")
def template_database(postgres_dsn: str) -> str:
    """The name of a database with the current schema and nothing in it."""
    _run(postgres_dsn, f"CREATE DATABASE {TEMPLATE}")
    prepare_template(with_database(postgres_dsn, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_url(postgres_dsn: str, template_database: str) -> Iterator[str]:
    """The URL of a database of this test's own, with the current schema."""
    with database_of_its_own(postgres_dsn, template_database) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(postgres_dsn: str, template_database: str) -> Iterator[str]:
    """The URL of a database that the tests of a module share, because what runs over it is slow to start."""
    with database_of_its_own(postgres_dsn, template_database) as url:
        yield url


@contextmanager
def database_of_its_own(server: str, template: str) -> Iterator[str]:
    """Yield the URL of a new database, which is dropped afterwards."""
    name = f"test_{next(_numbers)}"
    _run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield with_database(server, name)
    _run(server, f"DROP DATABASE {name} WITH (FORCE)")


def _run(dsn: str, statement: str) -> None:
    options = parse_qs(urlsplit(dsn).query)
    wire.run(Path(options["host"][0]), "postgres", statement)


def _end_orphans() -> None:
    """End the servers of sessions that were killed before they could."""
    for base in Path("/tmp").glob(f"{BASES}*"):
        pid = base.name.removeprefix(BASES).partition("-")[0]
        if base.stat().st_uid == os.geteuid() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            for home in base.iterdir():
                discard(home)
            shutil.rmtree(base, ignore_errors=True)
