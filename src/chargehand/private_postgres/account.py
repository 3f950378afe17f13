"""The account the server runs as: ours, or `nobody` when we are root, because PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chargehand.private_postgres.errors import USE_YOUR_OWN, PostgresBusy, PostgresCannotStart

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

    For root that is whoever owns the cluster already, so that `sudo` in a user's home leaves a usable home behind.
    """
    uid = os.geteuid()
    try:
        if uid != 0:
            return _from(pwd.getpwuid(uid), switch=False)
        owner = cluster.stat().st_uid if cluster.exists() else 0
        return _from(pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody"), switch=True)
    except KeyError as error:
        who = f"user id {uid}" if uid else "`nobody`, which root runs the database as,"
        raise PostgresCannotStart(
            f"{who} has no entry in /etc/passwd, and PostgreSQL's initdb needs one",
            hint=f"run as a user that has one, {USE_YOUR_OWN}",
        ) from error


def _from(entry: pwd.struct_passwd, *, switch: bool) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    # PGUSER: without it pg_ctl asks as the account's name, and the log fills with 'role "nobody" does not exist'.
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C", "PGUSER": SUPERUSER, **kept}
