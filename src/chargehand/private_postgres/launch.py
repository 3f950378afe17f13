"""Make a cluster and start a server on it. Everything here happens under the home's lock."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from chargehand import folders
from chargehand.private_postgres import pidfile
from chargehand.private_postgres.account import SUPERUSER, Account, for_initdb, is_left_over, server_account
from chargehand.private_postgres.binaries import Binaries, find_binaries
from chargehand.private_postgres.conf import ACCESS, INCLUDE, initdb_options, render
from chargehand.private_postgres.errors import (
    FULL_HINT,
    HomeUnusable,
    PostgresBusy,
    PostgresCannotStart,
    PostgresMissing,
)
from chargehand.private_postgres.kept import keep, kept, prune
from chargehand.private_postgres.places import Place, blocked_at, give, make_private, socket_dir
from chargehand.private_postgres.processes import attached, is_postmaster
from chargehand.private_postgres.wire import socket_file

# Seconds. All are far above what a busy laptop needs (1.5, 0.2 and 2); recovery after a crash of a large one is longer.
INITDB_TIMEOUT = 120.0
START_TIMEOUT = 60.0
SESSIONS_TIMEOUT = 30.0
LITTLE_SPACE = 64 << 20  # bytes; two log segments and change: with less, a full disk is the likely cause
FATAL = ("FATAL", "PANIC", "error:")


def launch(place: Place, given: Binaries | None) -> None:
    """Start a server, making the cluster first if there is none. Returns when it accepts connections.

    Raises `PostgresMissing`, `HomeUnusable`, `PostgresCannotStart` or `PostgresBusy`.
    """
    chosen = choose(place, given)
    account = server_account(place.cluster(chosen.major))
    if closed := blocked_at(place.root, account):
        raise HomeUnusable(f"{account.name}, who runs the database, may not enter {closed}", hint=f"chmod o+x {closed}")
    binaries = keep(chosen, place.dist)
    _take_over(place, binaries.major, account)
    make_private(place.cluster(binaries.major), account)
    make_private(place.log, account)
    make_private(socket_dir(place, account), account)
    _clear_unfinished(place.cluster(binaries.major))
    if place.major() is None:
        _make_cluster(place, binaries, account)
    _start(place, binaries, account)
    prune(place.dist, binaries)


def choose(place: Place, given: Binaries | None) -> Binaries:
    """Return the binaries for this place. Data decides the version: a newer one would start with an empty database."""
    major = place.major()
    if given is not None:
        if major not in (None, given.major):
            raise PostgresMissing(f"the data in {place.root} is PostgreSQL {major}'s, the binaries are {given.major}'s")
        return given
    try:
        return find_binaries(major)
    except PostgresMissing:
        copy = next(kept(place.dist, major), None) if major else None
        if copy is None:
            raise
        return copy


def _take_over(place: Place, major: int, account: Account) -> None:
    """Give a cluster that older versions ran as `nobody` to the server's own account: once, while no server runs.

    A start that was killed in the middle of initdb has left the directory open to the group; it is closed again.
    """
    cluster = place.cluster(major)
    if not account.switch:
        return
    if is_left_over(cluster):
        for folder in (place.log, place.root / "socket", cluster):  # in this order: what it is told by goes last
            if is_left_over(folder):
                give(folder, account)
    if cluster.exists() and cluster.lstat().st_uid == account.uid:
        cluster.chmod(0o700)


def _make_cluster(place: Place, binaries: Binaries, account: Account) -> None:
    """Run initdb aside and rename the result: a cluster is there entirely or not at all."""
    cluster, maker = place.cluster(binaries.major), for_initdb(account)
    unfinished = Path(tempfile.mkdtemp(prefix="initdb-", dir=cluster))
    if maker != account:
        cluster.chmod(0o710)  # its group, which is the server's alone, may pass for as long as initdb runs
    maker.own(unfinished, 0o700)
    command = [binaries.tool("initdb"), "-D", str(unfinished), "-U", SUPERUSER, *initdb_options(binaries.major)]
    try:
        done = maker.run(command, cwd=place.root, timeout=INITDB_TIMEOUT)
    finally:
        cluster.chmod(0o700)
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise _failure("initdb failed", done.stderr, place)
    with (unfinished / "postgresql.conf").open("a", encoding="utf-8") as settings:
        settings.write(INCLUDE)
    (unfinished / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
    if maker != account:
        give(unfinished, account)
    unfinished.rename(place.data(binaries.major))
    _sync(cluster)


def _start(place: Place, binaries: Binaries, account: Account) -> None:
    data, sockets = place.data(binaries.major), socket_dir(place, account)
    _clear_stale(data, sockets)
    _replace(place.conf, render(sockets, binaries.major))
    first_words = place.log / "start.log"
    first_words.unlink(missing_ok=True)
    wait = ["-w", "-t", f"{START_TIMEOUT:.0f}", "-s"]
    command = [binaries.tool("pg_ctl"), "start", "-D", str(data), "-l", str(first_words), *wait]
    done = account.run(command, cwd=place.root, timeout=START_TIMEOUT + 15)
    if done.returncode == 0:
        return
    left = pidfile.read(data)
    if left and is_postmaster(left.pid, data):
        raise PostgresBusy(f"PostgreSQL is still starting after {START_TIMEOUT:g} s (log: {place.log})")
    raise _failure(f"PostgreSQL {binaries.major} cannot start", _last_words(place.log) or done.stderr, place)


def _clear_stale(data: Path, sockets: Path) -> None:
    """Remove what a dead postmaster left. PostgreSQL does so itself, but not for a zombie or a number used again.

    Without its file PostgreSQL could not see sessions that still write to the cluster, so they are waited for.
    """
    left = pidfile.read(data)
    deadline = time.monotonic() + SESSIONS_TIMEOUT
    while left and left.segment and attached(left.segment):
        if time.monotonic() > deadline:
            raise PostgresBusy("sessions of a server that was killed still work on the database")
        time.sleep(0.02)
    lock = socket_file(sockets)
    for path in (data / pidfile.NAME, lock.with_name(f"{lock.name}.lock"), lock):
        path.unlink(missing_ok=True)


def _clear_unfinished(cluster: Path) -> None:
    """Remove what a killed initdb left. One that still runs, without anybody waiting for it, fails: harmless."""
    for leftover in cluster.glob("initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _replace(path: Path, text: str) -> None:
    """Write a file that everybody may read, entirely or not at all."""
    folders.write(path, text.encode(), 0o644)
    path.chmod(0o644)  # where the umask took away what the server's user needs


def _sync(directory: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_words(log: Path) -> str:
    """Return the end of what the server wrote last: before its log collector ran, and after."""
    files = sorted(log.glob("*.log"), key=lambda path: path.stat().st_mtime)
    return "\n".join(path.read_text(errors="replace")[-4000:] for path in files[-2:])


def _failure(what: str, words: str, place: Place) -> PostgresCannotStart:
    """Say what the server said. Its words choose the hint, never what we do."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    reasons = [line for line in lines if any(word in line for word in FATAL)] or lines
    full = shutil.disk_usage(place.root).free < LITTLE_SPACE or "No space left" in words or " 53100 " in words
    message = f"{what}: {'; '.join(reasons[-2:]) or 'it said nothing'} (log: {place.log})"
    return PostgresCannotStart(message, hint=f"the disk of {place.root} is full: {FULL_HINT}" if full else None)
