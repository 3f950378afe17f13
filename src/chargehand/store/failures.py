"""What PostgreSQL's errors mean for us: one table, by SQLSTATE, whichever driver or layer raises them.

    translated()            a block in which they become ours
    meaning_of(error)       the same for one error; None for what is a fault of ours

`busy` and `unreachable` pass by themselves, `configuration` needs the line that is told, `unstorable` never passes: it
is the value's fault. The codes are those of PostgreSQL's appendix "Error Codes"; what is not listed is not translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import asyncpg

from chargehand.domain.errors import (
    ChargehandError,
    DatabaseBusy,
    DatabaseRefuses,
    DatabaseUnreachable,
    DiskFull,
    Unstorable,
)
from chargehand.domain.masking import without_passwords

Kind = Literal["unreachable", "busy", "full", "configuration", "unstorable"]


class Row(NamedTuple):
    """What an SQLSTATE, or all that begin like it, means: its kind, what is said, and what helps."""

    kind: Kind
    said: str
    hint: str


CHECK = (
    "Check that PostgreSQL runs, that CHARGEHAND_DATABASE_URL is right, and that a pooler before it has connections to "
    "give; nothing accepted is lost."
)
GRANT = (
    "As the database's owner: GRANT USAGE, CREATE ON SCHEMA public TO user; for tables that somebody else made, also "
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO user."
)
POOLING = (
    "Let the pooler (pgbouncer: pool_mode = session) give a client its session for as long as it is connected, or name "
    "the server's own port in CHARGEHAND_DATABASE_URL: a listener and a lock last as long as their session."
)
NOT_KEPT = "a pooler before the database gives each transaction to another session"
PASSES = "It passes by itself and is tried again; nothing accepted is lost."

MEANINGS: Mapping[str, Row] = {
    "08": Row("unreachable", "the database does not answer", CHECK),
    "08P01": Row("configuration", "the server, or a pooler before it, refuses the connection",
        "A pooler such as pgbouncer must reach the server, know this user and database, and pool by session."),
    "22": Row("unstorable", "the database cannot hold a value", Unstorable.hint),
    "25006": Row("busy", "the database only reads just now",
        "It is a standby, fails over, is full, or has default_transaction_read_only set. With several hosts in "
        "CHARGEHAND_DATABASE_URL, add target_session_attrs=read-write."),
    "25P03": Row("busy", "the database ended a transaction that stood still", PASSES),
    "25P04": Row("busy", "the database ended a transaction that took too long",
        "Look at transaction_timeout of the role and the database: 0, or a minute, is right for Chargehand."),
    "26000": Row("configuration", NOT_KEPT, POOLING),  # a statement that we prepared is gone,
    "42P05": Row("configuration", NOT_KEPT, POOLING),  # or is there though we have not
    "53": Row("busy", "the database is short of resources", PASSES),
    "53100": Row("full", "the database has no space left on its disk",
        "Free some space and try again; what was accepted before is safe."),
    "53300": Row("busy", "the database has too many connections",
        "Raise max_connections or the role's CONNECTION LIMIT; each Chargehand process uses up to 12."),
    "40001": Row("busy", "the database undid a transaction that met another one", PASSES),
    "40P01": Row("busy", "the database undid a transaction to end a deadlock", PASSES),
    "54": Row("unstorable", "the database cannot hold something so large", Unstorable.hint),
    "55P03": Row("busy", "a row of the database is locked by somebody else", PASSES),
    "57": Row("unreachable", "the database stops or restarts", CHECK),
    "57014": Row("busy", "the database ended a statement that took too long",
        "Look at statement_timeout of the role and the database: 0, or a minute, is right for Chargehand."),
    "57P05": Row("unreachable", "the database ended a connection that was idle",
        "Set idle_session_timeout to 0 for this role; Chargehand sets it where it may."),
    "58": Row("busy", "the database's machine has a problem", "Look into PostgreSQL's log and at the disk."),
    "28": Row("configuration", "the database refuses the user or the password",
        "Correct them in CHARGEHAND_DATABASE_URL (in a password, / is written as %2F and so on), or see pg_hba.conf."),
    "3D000": Row("configuration", "the server has no database of that name",
        "Create it: CREATE DATABASE name OWNER user; or correct CHARGEHAND_DATABASE_URL."),
    "3F000": Row("configuration", "the user's search_path names no schema that is there",
        "ALTER ROLE user RESET search_path, or create the schema that it names."),
    "42501": Row("configuration", "the database user lacks a permission", GRANT),
    "42704": Row("configuration", "the server does not know a parameter of the connection",
        "Look at what stands behind the ? in CHARGEHAND_DATABASE_URL."),
}  # fmt: skip

CLASSES: Mapping[Kind, type[ChargehandError]] = {
    "unreachable": DatabaseUnreachable,
    "busy": DatabaseBusy,
    "full": DiskFull,
    "configuration": DatabaseRefuses,
    "unstorable": Unstorable,
}

UNREACHABLE = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What the driver raises without a code: the connection could not be made, or is gone."""


def sqlstate_of(error: BaseException | None) -> str | None:
    """Return the code of an error, which SQLAlchemy wraps twice; None where PostgreSQL did not say one."""
    for _ in range(4):  # ours, SQLAlchemy's, its adapter's, the driver's
        if error is None:
            return None
        code = getattr(error, "sqlstate", None)
        if isinstance(code, str) and len(code) == 5:
            return code
        error = getattr(error, "orig", None) or error.__cause__
    return None


def meaning_of(error: BaseException) -> ChargehandError | None:
    """Return our error for one of the database's; None for what is neither, or a fault of ours."""
    code = sqlstate_of(error)
    row = MEANINGS.get(code or "") or MEANINGS.get((code or "")[:2])
    if row is None and code is None and _is_unreachable(error):
        row = MEANINGS["08"]
    if row is None:
        return None
    told = _first_line(error)
    return CLASSES[row.kind](f"{row.said}: {told}" if told else row.said, hint=row.hint)


def _is_unreachable(error: BaseException) -> bool:
    original = getattr(error, "orig", error)
    return isinstance(error, UNREACHABLE) or isinstance(getattr(original, "__cause__", None) or original, UNREACHABLE)


def _first_line(error: BaseException) -> str:
    """The server's own first line, or the class of an error without words; passwords are hidden."""
    original = getattr(error, "orig", error)
    cause = original.__cause__ if getattr(original, "__cause__", None) is not None else original
    lines = str(cause).strip().splitlines()
    return without_passwords(lines[0] if lines else type(cause).__name__)


class translated:
    """Turn the errors of the driver and of SQLAlchemy into ours.

    Raises `DatabaseUnreachable`, `DatabaseBusy`, `DiskFull`, `DatabaseRefuses` or `Unstorable`; others pass.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, ChargehandError):
            return
        meaning = meaning_of(error)
        if meaning is not None:
            raise meaning from error
