"""The private server against real processes: started, shared, killed, and started again."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from chargehand.domain.errors import DatabaseUnreachable, DiskFull
from chargehand.private_postgres import (
    HomeUnusable,
    PostgresCannotStart,
    PostgresMissing,
    PrivatePostgres,
    find_binaries,
    kept,
    wire,
)
from chargehand.private_postgres.account import OWN_NUMBERS, server_account
from chargehand.private_postgres.places import SYSTEM_PLACE, Place, socket_dir
from chargehand.store.postgres import PostgresStore
from tests.postgres import discard, require_postgres, throwaway_home, unavailable

ROOT = os.geteuid() == 0
SOURCE = Path(__file__).parents[2] / "src"
START = """
import sys
from pathlib import Path
from chargehand.private_postgres import PrivatePostgres
server = PrivatePostgres(Path(sys.argv[1]))
print(server.start(), server.status().pid, flush=True)
"""
AND_DIE = START + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.fixture(scope="module", autouse=True)
def _postgres() -> None:
    require_postgres()


@pytest.fixture
def home() -> Iterator[Path]:
    with throwaway_home() as path:
        yield path


@pytest.fixture(scope="module")
def warm_home() -> Iterator[Path]:
    """A home whose cluster exists. Its server may run or not."""
    with throwaway_home() as path:
        PrivatePostgres(path).start()
        yield path


def starter(home: Path, code: str = START) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", code, str(home)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def runs(python: str, user: int | None) -> bool:
    check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    with suppress(OSError):
        return subprocess.run(check, user=user, check=False, capture_output=True).returncode == 0
    return False


def pid_of(server: PrivatePostgres) -> int:
    pid = server.status().pid
    assert pid is not None
    return pid


def data_of(server: PrivatePostgres) -> Path:
    data = server.status().data_dir
    assert data is not None
    return data


def ask(url: str, statement: str) -> object:
    async def fetch() -> object:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return run(fetch())


def ask_sqlalchemy(url: str, statement: str) -> object:
    async def fetch() -> object:
        engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
        async with engine.connect() as connection:
            result = (await connection.execute(text(statement))).scalar_one()
        await engine.dispose()
        return result

    return run(fetch())


def run(coroutine: Coroutine[object, object, object]) -> object:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # the session's loop stays the current one
        return runner.run(coroutine)


def eventually(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_cold_then_attached_then_warm(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-secret")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGPORT", "1")
    server = PrivatePostgres(home)
    assert not server.status().running
    assert not home.exists()

    url = server.start()
    pid = pid_of(server)
    assert ask(url, "SELECT current_database()") == "chargehand"
    assert PrivatePostgres(home).start() == url
    assert pid_of(server) == pid

    assert ask(url, "SHOW listen_addresses") == ""
    assert ask(url, "SHOW fsync") == "on"
    assert ask(url, "SELECT upper('ä')") in ("Ä", "ä")  # 14 to 16 have no locale for it that exists everywhere
    assert ask(url, "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL") == 0
    assert server.status().version == ask(url, "SHOW server_version")
    sockets = server.status().socket_dir
    assert sockets is not None
    assert sockets.stat().st_mode & 0o777 == 0o700
    if Path("/proc/self/environ").exists():
        assert b"a-secret" not in Path(f"/proc/{pid}/environ").read_bytes()

    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    server.stop()
    assert not server.status().running
    assert ask(server.start(), "SELECT answer FROM kept") == 42
    assert pid_of(server) != pid


def test_a_dropped_database_is_made_again(warm_home: Path) -> None:
    server = PrivatePostgres(warm_home)
    url = server.start()
    sockets = server.status().socket_dir
    assert sockets is not None
    wire.run(sockets, "postgres", "DROP DATABASE chargehand WITH (FORCE)")
    assert server.start() == url
    assert ask(url, "SELECT 1") == 1


def test_six_processes_at_once_share_one_server(home: Path) -> None:
    starters = [starter(home) for _ in range(6)]
    outputs = {process.communicate(timeout=60)[0] for process in starters}
    assert [process.returncode for process in starters] == [0] * 6
    assert len(outputs) == 1, outputs
    assert str(pid_of(PrivatePostgres(home))) in outputs.pop()


def test_the_server_outlives_the_process_that_started_it(warm_home: Path) -> None:
    server = PrivatePostgres(warm_home)
    server.stop()
    parent = starter(warm_home, AND_DIE)
    url, pid = parent.communicate(timeout=60)[0].split()
    assert parent.returncode == -signal.SIGKILL
    assert server.start() == url
    assert pid_of(server) == int(pid)
    assert ask(url, "SELECT 1") == 1


def test_a_killed_postmaster_is_replaced_and_nothing_committed_is_lost(warm_home: Path) -> None:
    server = PrivatePostgres(warm_home)
    url = server.start()
    ask(url, "CREATE TABLE IF NOT EXISTS committed AS SELECT 7 AS answer")
    pid = pid_of(server)
    os.kill(pid, signal.SIGKILL)
    url = server.start()
    assert pid_of(server) != pid
    assert ask(url, "SELECT answer FROM committed") == 7


@pytest.mark.parametrize("state", ["zombie", "another program"])
def test_a_lock_file_that_names_something_else_is_no_server(warm_home: Path, state: str) -> None:
    """PostgreSQL itself would refuse to start here, for as long as that process is there."""
    server = PrivatePostgres(warm_home)
    server.start()
    data, sockets = data_of(server), server.status().socket_dir
    assert sockets is not None
    left = (data / "postmaster.pid").read_text().splitlines()
    server.stop()
    account = server_account(data)
    command = ["/bin/true"] if state == "zombie" else ["/bin/sleep", "60"]
    other = subprocess.Popen(command, user=account.uid if account.switch else None)
    try:
        if state == "zombie" and Path("/proc/self").exists():
            eventually(lambda: Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        text = "\n".join([str(other.pid), *left[1:], ""])
        for lock in (data / "postmaster.pid", Path(f"{wire.socket_file(sockets)}.lock")):
            lock.write_text(text)
            account.own(lock, 0o600)
        assert not server.status().running
        server.start()
        assert pid_of(server) != other.pid
    finally:
        other.kill()
        other.wait()


def test_killed_in_the_middle_of_initdb(home: Path) -> None:
    first = starter(home)
    eventually(lambda: any(home.glob("postgres/pg*/initdb-*/base")))
    first.kill()
    first.communicate()
    server = PrivatePostgres(home)
    assert ask(server.start(), "SELECT 1") == 1
    server.stop()
    server.start()
    assert not list(home.glob("postgres/pg*/initdb-*"))


@pytest.mark.parametrize("name", ["with a space, and 'more'", "/".join(["deep"] * 30)])
def test_a_path_that_is_long_or_odd(name: str) -> None:
    with throwaway_home(name) as home:
        url = PrivatePostgres(home).start()
        assert ask(url, "SELECT 1") == 1
        assert str(ask_sqlalchemy(url, "SHOW data_directory")).startswith(str(home))


def test_data_of_an_older_version_keeps_its_version(home: Path) -> None:
    """Starting the newest would look as if everything were gone."""
    try:
        older = find_binaries(find_binaries().major - 2)
    except PostgresMissing as error:
        pytest.skip(f"one version is enough for everything else: {error}")
    PrivatePostgres(home, binaries=older).start()
    PrivatePostgres(home).stop()
    server = PrivatePostgres(home)
    server.start()
    assert (server.status().version or "").startswith(f"{older.major}.")
    server.stop()
    with pytest.raises(PostgresMissing, match=str(older.major)):
        PrivatePostgres(home, binaries=find_binaries()).start()


def test_a_full_disk_is_named(home: Path) -> None:
    """The binaries fit on 24 MB or they do not; with them the cluster never does."""
    disk = home.parent
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0711", "none", str(disk)]
    if not ROOT or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        with pytest.raises((DiskFull, PostgresCannotStart)) as caught:
            PrivatePostgres(home).start()
        assert "free some space" in caught.value.hint
        assert not PrivatePostgres(home).status().running
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class TestNormalUser:
    """As root these run as `nobody`; as anybody else, as oneself."""

    @pytest.fixture
    def base(self) -> Iterator[Path]:
        with throwaway_home() as home:
            home.parent.chmod(0o755)
            yield home.parent

    def run_as_user(self, base: Path, home: Path, code: str = START) -> subprocess.CompletedProcess[str]:
        account = pwd.getpwnam("nobody") if ROOT else pwd.getpwuid(os.geteuid())
        user = account.pw_uid if ROOT else None
        # The checkout and the environment may lie where `nobody` cannot read: give it copies.
        path = base / "path"
        if not path.exists():
            subprocess.run(["cp", "-r", SOURCE, path], check=True)
            subprocess.run(["chmod", "-R", "a+rX", path], check=True)
            (base / "dist").mkdir(mode=0o755)
        wheel = kept.keep(find_binaries(), base / "dist").directory.parents[2]
        environment = {"PYTHONPATH": f"{path}:{wheel}", "PATH": os.environ["PATH"]}
        command = [self.python(user), "-c", code, str(home)]
        return subprocess.run(command, env=environment, user=user, capture_output=True, text=True, check=False)

    def python(self, user: int | None) -> str:
        usable = next((path for path in (sys.executable, "/usr/bin/python3") if runs(path, user)), None)
        return usable or unavailable("`nobody` can run no Python 3.11 on this machine")

    def test_starts_and_attaches_in_a_home_of_its_own(self, base: Path) -> None:
        home = base / "home"
        if ROOT:
            home.mkdir()
            os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
            home.chmod(0o700)
        first, second = self.run_as_user(base, home), self.run_as_user(base, home)
        assert first.returncode == 0, first.stderr
        assert first.stdout == second.stdout
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / "postgres").resolve() == home / "postgres"
        # `sudo` finds the same server and leaves it to its owner.
        server = PrivatePostgres(home)
        assert server.start() in first.stdout
        server.stop()
        server.start()
        assert data_of(server).stat().st_uid == home.stat().st_uid

    @pytest.mark.skipif(not ROOT, reason="makes a directory of another user's")
    def test_a_home_it_may_not_write_is_named(self, base: Path) -> None:
        (base / "home").mkdir(mode=0o755)
        done = self.run_as_user(base, base / "home")
        assert done.returncode == 1
        assert "HomeUnusable: the private database cannot use" in done.stderr
        assert str(base / "home") in done.stderr.splitlines()[-1]


@pytest.mark.skipif(not ROOT, reason="root only")
class TestRoot:
    def test_a_home_below_a_closed_directory(self, tmp_path: Path) -> None:
        """Like /root/x: the data goes where the server's user can be, and the closed directory stays closed."""
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        home = closed / "home"
        server = PrivatePostgres(home)
        try:
            url = server.start()
            assert ask(url, "SELECT 1") == 1
            assert closed.stat().st_mode & 0o777 == 0o700
            assert (home / "postgres").resolve().parent == SYSTEM_PLACE
            assert (home / "postgres/home").read_text() == f"{home}\n"
            assert data_of(server).stat().st_uid in OWN_NUMBERS
        finally:
            discard(home)

    def test_a_home_that_is_closed_later_is_explained(self, warm_home: Path) -> None:
        PrivatePostgres(warm_home).stop()
        warm_home.chmod(0o700)
        with pytest.raises(HomeUnusable, match="the database's user 60") as caught:
            PrivatePostgres(warm_home).start()
        assert caught.value.hint == f"chmod o+x {warm_home}"
        warm_home.chmod(0o711)

    def test_whoever_is_nobody_cannot_read_or_change_the_database(self, home: Path) -> None:
        """Another program that runs as `nobody`: by the socket, by the files, by its memory, by a signal."""
        server = PrivatePostgres(home)
        ask(server.start(), "CREATE TABLE secrets AS SELECT 'of root' AS words")
        pid, sockets, data = pid_of(server), server.status().socket_dir, data_of(server)
        account = pwd.getpwnam("nobody")
        attacks = {
            "connect": f"import socket; socket.socket(socket.AF_UNIX).connect('{wire.socket_file(sockets or home)}')",
            "list": f"import os; os.listdir('{data}')",
            "read": f"open('{data}/postgresql.conf').read()",
            "trust": f"open('{data}/pg_hba.conf', 'a').write('local all all trust')",
            "memory": f"open('/proc/{pid}/mem', 'rb+').read(1)",
            "descriptors": f"import os; os.listdir('/proc/{pid}/fd')",
            "signal": f"import os; os.kill({pid}, 2)",
            "shared": "import glob; [open(path, 'rb+') for path in glob.glob('/dev/shm/PostgreSQL.*')] or 1 / 0",
        }
        for name, code in attacks.items():
            done = subprocess.run(
                [self.python_of_all(), "-c", code], user=account.pw_uid, group=account.pw_gid, extra_groups=(),
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            expected = "ZeroDivisionError" if name == "shared" else "PermissionError"
            assert expected in done.stderr or "PermissionError" in done.stderr, (name, done.stdout, done.stderr)
        assert pid_of(server) == pid
        owners = {path.lstat().st_uid for path in [data, *data.rglob("*")]}
        assert owners == {data.stat().st_uid}
        assert owners <= set(OWN_NUMBERS)
        assert data.parent.stat().st_mode & 0o777 == 0o700

    def python_of_all(self) -> str:
        number = pwd.getpwnam("nobody").pw_uid
        usable = next((path for path in ("/usr/bin/python3", sys.executable) if runs(path, number)), None)
        return usable or unavailable("`nobody` can run no Python on this machine")

    @pytest.mark.parametrize("killed_on_the_way", [False, True])
    def test_a_database_of_nobody_gets_a_user_of_its_own_at_the_next_start(
        self, home: Path, killed_on_the_way: bool
    ) -> None:
        server = PrivatePostgres(home)
        ask(server.start(), "CREATE TABLE kept AS SELECT 42 AS answer")
        server.stop()
        former = pwd.getpwnam("nobody")
        data, place = data_of(server), home / "postgres"
        for folder in (data.parent, place / "log", place / "socket"):
            subprocess.run(["chown", "-R", f"{former.pw_uid}:{former.pw_gid}", str(folder)], check=True)
        if killed_on_the_way:
            os.chown(data.parent, 0, 0)
            os.chown(data / "PG_VERSION", OWN_NUMBERS.start, OWN_NUMBERS.start)
        outside = home / "of-root"
        outside.write_text("mine")
        planted = data / "base" / "link"
        planted.symlink_to(outside)
        os.chown(planted, former.pw_uid, former.pw_gid, follow_symlinks=False)
        assert ask(server.start(), "SELECT answer FROM kept") == 42
        assert {path.lstat().st_uid for path in [data, *data.rglob("*")]} <= set(OWN_NUMBERS)
        assert outside.stat().st_uid == 0, "a link that was put there leads nowhere"
        assert (place / "log").stat().st_uid in OWN_NUMBERS

    def test_the_maker_of_the_cluster_is_alone_in_it(self, home: Path) -> None:
        """initdb wants a user with a name; while it runs, no other `nobody` can enter."""
        first = starter(home)
        eventually(lambda: any(home.glob("postgres/pg*/initdb-*/base")))
        (cluster,) = home.glob("postgres/pg*")
        status = cluster.stat()
        first.communicate()
        assert (status.st_mode & 0o777, status.st_uid in OWN_NUMBERS, status.st_gid in OWN_NUMBERS) == (
            0o710,
            True,
            True,
        )
        assert cluster.stat().st_mode & 0o777 == 0o700

    def test_somebody_elses_socket_directory_is_not_used(self, tmp_path: Path) -> None:
        with throwaway_home("/".join(["deep"] * 30)) as home:
            account = server_account(home)
            squatted = socket_dir(Place(home.resolve() / "postgres"), account)
            squatted.mkdir(mode=0o777)
            try:
                with pytest.raises(HomeUnusable, match=squatted.name):
                    PrivatePostgres(home).start()
            finally:
                squatted.rmdir()


async def test_a_store_says_once_that_the_database_is_away_and_works_when_it_is_back(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = PrivatePostgres(home)
    store = PostgresStore(server.start(), b"k" * 32)
    await store.open()
    server.stop()
    with pytest.raises(DatabaseUnreachable):
        async with store.transaction() as tx:
            await tx.staff()
    server.start()
    async with asyncio.timeout(30), store.transaction() as tx:
        await tx._connection.execute("SELECT 1")
    assert [record for record in caplog.records if record.name.startswith("asyncpg")] == []
    await store.close()
    server.stop()
    with pytest.raises(DatabaseUnreachable):
        await store.open()
