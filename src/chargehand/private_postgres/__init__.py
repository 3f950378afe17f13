"""The private PostgreSQL of the default set-up: nobody installs, configures or administers it.

It needs the standard library only, so that it can be started before anything else works.

Where things lie, below `<home>/postgres`:

    pg18/data        the cluster; the major version is part of its path
    dist/pg18/...    the binaries it runs on, kept so that a later major version can still read it
    socket/          0700, the only way in (a home with a long path gets /tmp/chargehand-<uid>-<hash> instead)
    log/             one file per weekday, overwritten after a week
    chargehand.conf  our settings, rewritten at each start; `ALTER SYSTEM` overrides them

PostgreSQL refuses to run as root, so root runs it under a user number that no account has (`account.OWN_NUMBERS`):
no other process reaches its files or its memory. Where that user cannot enter the home (it lies below a 0700
directory), `<home>/postgres` is a link to a directory of its own below /var/lib/chargehand-postgres. No permission of a
directory that is not ours is ever changed, and no account is made.
"""

from chargehand.private_postgres.binaries import Binaries, find_binaries
from chargehand.private_postgres.errors import HomeUnusable, PostgresBusy, PostgresCannotStart, PostgresMissing
from chargehand.private_postgres.server import PrivatePostgres, ServerStatus

__all__ = [
    "Binaries",
    "HomeUnusable",
    "PostgresBusy",
    "PostgresCannotStart",
    "PostgresMissing",
    "PrivatePostgres",
    "ServerStatus",
    "find_binaries",
]
