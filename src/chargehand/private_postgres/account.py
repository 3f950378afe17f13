"""The account the server runs as: ours, or one of its own when we are root, because PostgreSQL refuses to run as root.

Root's server has a user number that no account has: nothing else runs under it, so nothing else reads its files or its
memory, or ends it. Nothing has to be added to /etc/passwd for that, only `initdb` looks there (`for_initdb`).
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chargehand.private_postgres.errors import USE_YOUR_OWN, PostgresBusy, PostgresCannotStart

OWN_NUMBERS = range(60_800, 60_900)
"""Numbers that neither useradd (to 60,000), systemd (60,001 to 60,577 and from 61,184) nor Debian gives to anybody, and
that a container with the usual 65,536 numbers has."""

NOBODY = "nobody"  # whom older versions ran root's server as

SUPERUSER = "postgres"  # of the database, in every cluster: who owns it on the machine must not matter to clients


@dataclass(frozen=True)
class Account:
    """A user of this machine. `switch` is true when we are root and have to become it."""

    name: str
    uid: int
    gid: int
    switch: bool

    def own(self, path: Path, mode: int) -> None:
        """Give a path of ours to this account."""
        if self.switch:
            os.chown(path, self.uid, self.gid)
        path.chmod(mode)

    def run(self, command: Sequence[str], *, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a program of PostgreSQL's as this account. `timeout` is in seconds; raises `PostgresBusy` after it.

        The environment is made anew: the server outlives us, and must inherit neither API keys nor PG* variables.
        """
        try:
            return subprocess.run(
                command,
                cwd=cwd,
                env=_environment(cwd),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                umask=0o077,
                start_new_session=True,
                check=False,
                user=self.uid if self.switch else None,
                group=self.gid if self.switch else None,
                extra_groups=() if self.switch else None,
            )
        except subprocess.TimeoutExpired as error:
            raise PostgresBusy(f"{Path(command[0]).name} did not end within {timeout:g} s") from error


def server_account(cluster: Path) -> Account:
    """Return the account to run `cluster` as. Raises `PostgresCannotStart` where there is none to be.

    For root that is whoever owns the cluster already, so that `sudo` in a user's home leaves a usable home behind; else
    a number of the server's own.
    """
    uid = os.geteuid()
    if uid != 0:
        return _ours(uid)
    status = cluster.stat() if cluster.exists() else None
    if status is None or is_left_over(cluster):
        return _of_its_own()
    try:
        return _from(pwd.getpwuid(status.st_uid), switch=True)
    except KeyError:
        return _nameless(status.st_uid, status.st_gid)


def is_left_over(folder: Path) -> bool:
    """Whether root made this for a server and no account of the server's own has it: it was killed on the way, or this
    is from an older version, which ran the server as `nobody`. In a home of `nobody`'s own, that user is the right one.
    """
    return folder.exists() and folder.lstat().st_uid in (0, nobody()) and folder.parent.stat().st_uid == 0


def nobody() -> int | None:
    """Return the number of `nobody`, None where there is no such account."""
    try:
        return pwd.getpwnam(NOBODY).pw_uid
    except KeyError:
        return None


def for_initdb(account: Account) -> Account:
    """Return the account to run `initdb` as, which wants a name: for one without, `nobody` in the account's group.

    Who is `nobody` without that group can enter no directory that only the group may, nor look into the process.
    Raises `PostgresCannotStart` where `nobody` has no name either.
    """
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        number = nobody()
        if number is None:
            raise _no_entry("`nobody`, which root makes the database as,") from None
        return Account(NOBODY, number, account.gid, switch=True)
    return account


def _ours(uid: int) -> Account:
    try:
        return _from(pwd.getpwuid(uid), switch=False)
    except KeyError as error:
        raise _no_entry(f"user id {uid}") from error


def _of_its_own() -> Account:
    number = next((n for n in OWN_NUMBERS if not _is_taken(n)), None)
    if number is None:
        raise PostgresCannotStart(f"every user number from {OWN_NUMBERS.start} on is taken", hint=USE_YOUR_OWN)
    return _nameless(number, number)


def _is_taken(number: int) -> bool:
    for known in (pwd.getpwuid, grp.getgrgid):
        try:
            known(number)
        except KeyError:
            continue
        return True
    return False


def _nameless(uid: int, gid: int) -> Account:
    return Account(f"the database's user {uid}", uid, gid, switch=True)


def _no_entry(who: str) -> PostgresCannotStart:
    return PostgresCannotStart(
        f"{who} has no entry in /etc/passwd, and PostgreSQL's initdb needs one",
        hint=f"run as a user that has one, {USE_YOUR_OWN}",
    )


def _from(entry: pwd.struct_passwd, *, switch: bool) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    # PGUSER: without it pg_ctl asks as the account's name, and the log fills with 'role "nobody" does not exist'.
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C", "PGUSER": SUPERUSER, **kept}
