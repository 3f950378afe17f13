"""The private server of one home: start or find it, stop it, say how it is."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chargehand.private_postgres import pidfile
from chargehand.private_postgres.account import SUPERUSER
from chargehand.private_postgres.binaries import Binaries
from chargehand.private_postgres.errors import PostgresBusy, PostgresCannotStart, PostgresMissing, explained
from chargehand.private_postgres.launch import INITDB_TIMEOUT, START_TIMEOUT, choose, launch
from chargehand.private_postgres.locks import exclusive
from chargehand.private_postgres.pidfile import PidFile
from chargehand.private_postgres.places import Place, check_name, establish, locate, make_home
from chargehand.private_postgres.processes import is_postmaster
from chargehand.private_postgres.wire import NO_SUCH_DATABASE, PORT, TOO_MANY_CONNECTIONS, ask, run, socket_file

DATABASE = "chargehand"
POLL = 0.02  # seconds
STOP_TIMEOUT = 60.0  # seconds; a fast stop ends sessions and writes one checkpoint
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

Mode = Literal["smart", "fast", "immediate"]


@dataclass(frozen=True)
class ServerStatus:
    """How the private server is, for people. What is not known is None."""

    running: bool
    provider: str
    pid: int | None = None
    version: str | None = None
    data_dir: Path | None = None
    socket_dir: Path | None = None
    log_dir: Path | None = None


class PrivatePostgres:
    """The PostgreSQL server of one home directory, shared by every process that uses that home.

    It outlives the process that started it: finding it again takes milliseconds, and work that waits in it is safe.
    """

    def __init__(self, home: Path, *, binaries: Binaries | None = None) -> None:
        self._home = home.absolute()
        self._given = binaries

    def start(self) -> str:
        """Return the URL of the database, after making and starting what is missing. Repeating it does no harm.

        Raises `PostgresMissing`, `PostgresCannotStart`, `PostgresBusy`, `HomeUnusable` or `DiskFull`.
        """
        with explained(self._home):
            check_name(self._home)
            make_home(self._home)
            return self._attach() or self._start_alone()

    def stop(self, *, mode: Mode = "fast") -> None:
        """Stop the server, if it runs: `smart` waits for sessions, `immediate` leaves recovery to the next start."""
        with explained(self._home):
            if locate(self._home) is None:
                return
            with self._alone():
                found = self._postmaster()
                if found is not None:
                    self._end(found.pid, mode)

    def status(self) -> ServerStatus:
        """Look, and change nothing. Raises `HomeUnusable` when the home cannot be read."""
        with explained(self._home):
            place = locate(self._home)
            major = place.major() if place else None
            found = self._postmaster()
            answer = ask(found.socket_dir, DATABASE) if found and found.socket_dir else None
            return ServerStatus(
                running=found is not None,
                provider=self._provider(place),
                pid=found.pid if found else None,
                version=answer.parameters.get("server_version") if answer else None,
                data_dir=place.data(major) if place and major else None,
                socket_dir=found.socket_dir if found else None,
                log_dir=place.log if place else None,
            )

    def _alone(self) -> AbstractContextManager[None]:
        return exclusive(self._home / "postgres.lock", INITDB_TIMEOUT + START_TIMEOUT)

    def _attach(self) -> str | None:
        """Return the URL if the server is up, which needs no lock."""
        found = self._postmaster()
        if found is None or not found.ready or found.socket_dir is None:
            return None
        answer = ask(found.socket_dir, DATABASE)
        return _url(found.socket_dir) if answer.ready or answer.sqlstate == TOO_MANY_CONNECTIONS else None

    def _start_alone(self) -> str:
        with self._alone():
            if url := self._attach():
                return url
            place = establish(self._home)
            if self._postmaster() is None:
                launch(place, self._given)
            return _url(self._await_database(place))

    def _await_database(self, place: Place) -> Path:
        """Wait until the database answers, and return the socket's directory."""
        deadline = time.monotonic() + START_TIMEOUT
        while found := self._postmaster():
            answer = ask(found.socket_dir, DATABASE) if found.socket_dir else None
            if found.socket_dir and answer and answer.ready:
                return found.socket_dir
            if found.socket_dir and answer and answer.sqlstate == NO_SUCH_DATABASE:
                run(found.socket_dir, SUPERUSER, f"CREATE DATABASE {DATABASE}")
            elif time.monotonic() > deadline or _unreachable(found):
                raise _silent(found)
            time.sleep(POLL)
        raise PostgresCannotStart(f"PostgreSQL stopped right after its start (log: {place.log})")

    def _postmaster(self) -> PidFile | None:
        """Return what the living postmaster wrote about itself."""
        place = locate(self._home)
        major = place.major() if place else None
        if place is None or major is None:
            return None
        found = pidfile.read(place.data(major))
        return found if found and is_postmaster(found.pid, place.data(major)) else None

    def _end(self, pid: int, mode: Mode) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT
        with suppress(ProcessLookupError):
            os.kill(pid, SIGNALS[mode])
        while self._postmaster() is not None:
            if time.monotonic() > deadline:
                raise PostgresBusy(f"PostgreSQL (process {pid}) has not stopped after {STOP_TIMEOUT:g} s")
            time.sleep(POLL)

    def _provider(self, place: Place | None) -> str:
        try:
            return choose(place or Place(self._home / "postgres"), self._given).provider
        except PostgresMissing as error:
            return str(error)


def _url(socket_dir: Path) -> str:
    # The port names the socket's file; without it a PGPORT in somebody's environment would.
    return f"postgresql://{SUPERUSER}@/{DATABASE}?host={socket_dir}&port={PORT}"


def _unreachable(found: PidFile) -> bool:
    return found.ready and found.socket_dir is not None and not socket_file(found.socket_dir).exists()


def _silent(found: PidFile) -> PostgresBusy:
    return PostgresBusy(
        f"PostgreSQL (process {found.pid}) runs but does not answer in {found.socket_dir}",
        hint=f"if this goes on, end it with `kill -INT {found.pid}` and try again; nothing is lost",
    )
