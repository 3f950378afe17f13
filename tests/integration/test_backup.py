"""A backup holds everything, a restore brings back all of it or changes nothing, and nothing starts by itself."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chargehand.app.application import open_application
from chargehand.app.backup_restore import bring_back, make_backup
from chargehand.backup.manifest import BadArchive, Manifest, sign
from chargehand.domain import seals
from chargehand.domain.errors import BadConfiguration, BadRequest, DiskFull, SchemaTooNew, TransientError
from chargehand.settings import Settings
from chargehand.store.backup_copies import with_database
from chargehand.store.postgres import PostgresStore
from tests.builders import make_spec
from tests.world import MASTER, World, close_world, open_world

SAFE = make_spec("deploy_page", retry_safe=True)
MEMBERS = ("manifest.json", "database.dump", "master.key")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
async def lived_in(postgres_dsn: str, template_database: str) -> AsyncIterator[World]:
    """A world with a request that has ended, one that runs and one that waits for approval; open, as in real life."""
    await run(postgres_dsn, f"CREATE DATABASE lived_in TEMPLATE {template_database}")
    world = await open_world(with_database(postgres_dsn, "lived_in"))
    agent = await world.agent("infra-1", SAFE)
    await world.approved("deploy_page", words="the first")
    await world.engine.dispatch()
    await agent.work_off()
    await world.approved("deploy_page", "deploy_page", words="the second")
    await world.engine.dispatch()
    await world.planned("deploy_page", words="the third")
    yield world
    await close_world(world)
    await run(postgres_dsn, "DROP DATABASE lived_in WITH (FORCE)")


@pytest.fixture(scope="module")
def source(lived_in: World, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of that world's installation, which has its key."""
    home = tmp_path_factory.mktemp("source") / "home"
    return settings(home, with_database(postgres_dsn, "lived_in"), MASTER)


@pytest.fixture(scope="module")
async def made(source: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "a.backup"
    await make_backup(source, path, with_key=True)
    return path


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A backup of the world, for one test to do with it what it wants."""
    return Path(shutil.copy2(made, tmp_path / "a.backup"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    """A new installation whose database cannot even be reached: what is refused must be refused before."""
    return settings(tmp_path / "elsewhere", "postgresql://nobody@127.0.0.1:1/none")


@pytest.fixture
async def target(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Settings]:
    """The settings of a new installation: an empty database and a home without a key."""
    name = f"restored_{next(_numbers)}"
    await run(postgres_dsn, f"CREATE DATABASE {name}")
    yield settings(tmp_path / "target", with_database(postgres_dsn, name))
    left = await run(postgres_dsn, "SELECT datname FROM pg_database WHERE datname LIKE $1", f"{name}%")
    assert f"{name}_restoring" not in [row["datname"] for row in left], "nothing unfinished is left"
    for row in left:
        await run(postgres_dsn, f"DROP DATABASE {row['datname']} WITH (FORCE)")


SEALS = "SELECT request_id, event_count, kind, mac, position, link FROM seals ORDER BY seal_id"


def settings(home: Path, url: str, key: bytes | None = None) -> Settings:
    home.mkdir(mode=0o700)
    if key is not None:
        (home / "master.key").write_bytes(key)
        (home / "master.key").chmod(0o600)
    return Settings(home=home, database_url=url, playbooks=(home / "none",))


async def run(dsn: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


async def test_everything_comes_back_and_nothing_starts(lived_in: World, archive: Path, target: Settings) -> None:
    done = await bring_back(target, archive, replace=False)
    assert (done.kept, done.wrong, len(done.paused)) == (None, {}, 1)
    assert done.manifest.rows == {"requests": 3, "agents": 1, "seals": 4}
    async with open_application(target) as app:
        statuses = {row["text"]: row["status"] for row in await app.queries.requests()}
        assert statuses == {"the first": "completed", "the second": "paused", "the third": "awaiting_approval"}
        assert [row["name"] for row in await app.queries.agents()] == ["infra-1"]
        assert (await app.verify_audit()).holds
        assert await run(app.dsn, SEALS) == await lived_in.run(SEALS)
        assert await run(app.dsn, "SELECT * FROM outbox") == []
        assert await app.control.resume(done.paused[0], "ann") == "running"
    key = target.home / "master.key"
    assert (key.read_bytes(), stat.S_IMODE(key.stat().st_mode)) == (MASTER, 0o600)
    assert await lived_in.run("SELECT * FROM outbox"), "the world itself goes on"
    assert sorted(path.name for path in target.home.iterdir() if path.name.startswith("restore")) == []


def test_a_backup_is_one_private_file(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert list(made.parent.iterdir()) == [made], "and nothing beside it"
    with tarfile.open(made) as tar:
        assert tuple(tar.getnames()) == MEMBERS


async def test_a_backup_overwrites_nothing(archive: Path, source: Settings) -> None:
    with pytest.raises(BadRequest, match="there already"):
        await make_backup(source, archive, with_key=True)
    with pytest.raises(DiskFull, match="No such file"):
        await make_backup(source, archive.parent / "nowhere" / "b", with_key=True)


async def test_without_its_key_a_backup_needs_it_from_elsewhere(
    source: Settings, target: Settings, tmp_path: Path
) -> None:
    await make_backup(source, tmp_path / "b", with_key=False)
    assert MASTER not in (tmp_path / "b").read_bytes()
    with pytest.raises(BadConfiguration, match="no") as caught:
        await bring_back(target, tmp_path / "b", replace=False)
    assert "master.key" in caught.value.hint
    (target.home / "master.key").write_bytes(MASTER)
    (target.home / "master.key").chmod(0o600)
    assert (await bring_back(target, tmp_path / "b", replace=False)).wrong == {}


async def test_another_key_is_never_overwritten(archive: Path, elsewhere: Settings) -> None:
    key = elsewhere.home / "master.key"
    key.write_bytes(b"x" * 32)
    key.chmod(0o600)
    with pytest.raises(BadConfiguration, match="another master key"):
        await bring_back(elsewhere, archive, replace=True)
    assert [(path.name, path.read_bytes()) for path in elsewhere.home.iterdir()] == [("master.key", b"x" * 32)]


def altered(change: Callable[[dict[str, bytes]], object]) -> Callable[[Path], None]:
    """Return a function that rewrites a backup with some of its members changed."""

    def rewrite(path: Path) -> None:
        with tarfile.open(path) as tar:
            members = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
        change(members)
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))

    return rewrite


def flip(members: dict[str, bytes]) -> None:
    dump = bytearray(members["database.dump"])
    dump[len(dump) // 2] ^= 1
    members["database.dump"] = bytes(dump)


def claim(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    """Change what the manifest says, without being able to sign it."""

    def change(members: dict[str, bytes]) -> None:
        said = json.loads(members["manifest.json"])
        said["manifest"] |= changes
        members["manifest.json"] = json.dumps(said).encode()

    return change


def other_key(members: dict[str, bytes]) -> None:
    members["master.key"] = b"y" * 32


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (altered(flip), "database.dump is not what was written"),
        (altered(claim(rows={"requests": 0, "agents": 0, "seals": 0})), "altered"),
        (altered(other_key), "altered"),
        (altered(lambda members: members.pop("master.key")), "other files"),
        (altered(lambda members: members.update({"../evil": b"x"})), "other files"),
        (altered(lambda members: members.update({"manifest.json": b"[]"})), "manifest cannot be read"),
        (altered(lambda members: members.pop("manifest.json")), "no manifest.json"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "."),
        (lambda path: path.write_bytes(b"not a tar"), "is not a backup"),
        (lambda path: path.unlink(), "there is no file"),
    ],
    ids=["dump", "manifest", "key", "less", "more", "nonsense", "headless", "cut", "foreign", "missing"],
)
async def test_a_damaged_or_altered_archive_changes_nothing(
    archive: Path, elsewhere: Settings, tamper: Callable[[Path], None], says: str
) -> None:
    tamper(archive)
    with pytest.raises(BadArchive, match=says):
        await bring_back(elsewhere, archive, replace=False)
    assert list(elsewhere.home.iterdir()) == []


async def test_a_home_with_the_key_refuses_what_somebody_else_signed(archive: Path, source: Settings) -> None:
    def resign(members: dict[str, bytes]) -> None:
        del members["master.key"]
        said = json.loads(members["manifest.json"])["manifest"]
        del said["members"]["master.key"]
        members["manifest.json"] = sign(Manifest.model_validate(said), b"z" * 32)

    altered(resign)(archive)
    with pytest.raises(BadArchive, match="another master key"):
        await bring_back(source, archive, replace=True)


def restated(**changes: Any) -> Callable[[Path], None]:
    """Return a function that changes a backup's manifest and signs it again, as a later Chargehand might write it."""

    def change(members: dict[str, bytes]) -> None:
        said = Manifest.model_validate(json.loads(members["manifest.json"])["manifest"])
        members["manifest.json"] = sign(said.model_copy(update=changes), MASTER)

    return altered(change)


async def test_a_newer_schema_is_refused(archive: Path, elsewhere: Settings) -> None:
    restated(schema_revision="9999")(archive)
    with pytest.raises(SchemaTooNew, match="9999"):
        await bring_back(elsewhere, archive, replace=False)
    assert list(elsewhere.home.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"postgres": 99}, BadConfiguration, "PostgreSQL 99"),
        ({"pg_dump": 99}, BadConfiguration, "pg_restore of PostgreSQL 99"),
        ({"rows": {"requests": 77}}, BadArchive, "3 of 77 requests"),
    ],
)
async def test_what_fails_later_leaves_nothing_behind(
    archive: Path, target: Settings, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    restated(**changes)(archive)
    with pytest.raises(error, match=says):
        await bring_back(target, archive, replace=False)
    await untouched(target)


async def test_replacing_keeps_the_old_database(archive: Path, target: Settings) -> None:
    await bring_back(target, archive, replace=False)
    with pytest.raises(BadRequest, match="not empty: it has 3 requests"):
        await bring_back(target, archive, replace=False)
    assert target.database_url is not None
    await run(target.database_url, "CREATE TABLE mine ()")
    done = await bring_back(target, archive, replace=True)
    assert done.kept is not None
    assert done.kept.endswith("_before_restore")
    mine = "SELECT to_regclass('mine') IS NOT NULL AS there"
    assert (await run(target.database_url, mine))[0]["there"] is False
    assert (await run(with_database(target.database_url, done.kept), mine))[0]["there"] is True
    again = await bring_back(target, archive, replace=True)
    assert again.kept == f"{done.kept}_2"


@asynccontextmanager
async def a_worker(dsn: str) -> AsyncIterator[None]:
    store = PostgresStore(dsn, seals.seal_key(MASTER))
    release = await store.try_hold(lambda: None)
    assert release is not None
    yield
    await release()


@asynccontextmanager
async def a_server(dsn: str) -> AsyncIterator[None]:
    leave = await PostgresStore(dsn, seals.seal_key(MASTER)).announce(lambda: None)
    yield
    await leave()


@asynccontextmanager
async def a_watcher(dsn: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(dsn)
    yield
    await connection.close()


async def test_a_database_in_use_is_left_alone(archive: Path, target: Settings) -> None:
    assert target.database_url is not None
    for somebody in (a_worker, a_server, a_watcher):
        async with somebody(target.database_url):
            with pytest.raises(TransientError, match="in use"):
                await bring_back(target, archive, replace=True)
    await untouched(target)


async def untouched(target: Settings) -> None:
    """Assert that a refused restore left neither tables nor a key nor files."""
    assert target.database_url is not None
    assert await run(target.database_url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    assert list(target.home.iterdir()) == []
