"""What can go wrong with the private server, and what a person does about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chargehand.domain.errors import BadConfiguration, ChargehandError, DatabaseUnreachable, DiskFull

USE_YOUR_OWN = "or set CHARGEHAND_DATABASE_URL to a PostgreSQL of your own (14 or later)"


class PostgresMissing(BadConfiguration):
    """There are no PostgreSQL binaries of the version that is needed."""

    code = "postgres-missing"
    hint = f"pip install 'chargehand[postgres]', install your system's postgresql package, {USE_YOUR_OWN}"


class HomeUnusable(BadConfiguration):
    """The directory Chargehand keeps its things in cannot be written, reached or named."""

    code = "home-unusable"
    hint = "set CHARGEHAND_HOME to a directory that you may write"


class PostgresCannotStart(BadConfiguration):
    """The server was started and gave up; the message has its last words."""

    code = "postgres-cannot-start"
    hint = f"read the server's log, {USE_YOUR_OWN}"


class PostgresBusy(DatabaseUnreachable):
    """The server is being started or stopped, or still recovers from a crash. Try again."""

    code = "postgres-busy"
    hint = "try again in a minute; nothing was lost"


WEAK_ROOT = f"root may not do this here, as in a container with few capabilities: run as a normal user, {USE_YOUR_OWN}"
FULL = {errno.ENOSPC, errno.EDQUOT}
FULL_HINT = "free some space there and try again; nothing was lost"


def explain(error: OSError, home: Path) -> ChargehandError:
    """Return the error a person can act on for what the operating system refused below `home`."""
    where = error.filename or home
    if error.errno in FULL:
        return DiskFull(f"no space is left for the database in {home}", hint=FULL_HINT)
    if error.errno == errno.ENAMETOOLONG:
        return HomeUnusable(f"the path {home} is too long", hint="set CHARGEHAND_HOME to a shorter path")
    reason = error.strerror or str(error)
    weak_root = error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() == 0
    return HomeUnusable(f"the private database cannot use {where}: {reason}", hint=WEAK_ROOT if weak_root else None)


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Turn refusals of the operating system into errors a person can act on."""
    try:
        yield
    except OSError as error:
        raise explain(error, home) from error
