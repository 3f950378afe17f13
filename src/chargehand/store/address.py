"""The database's URL: what of it is ours to read, what the driver takes, and what must not be guessed at.

The driver passes every parameter that it does not know on to the server, which refuses it; libpq's usual ones stand in
the URLs that hosting companies show. And part of a password that is not quoted would be taken for a port or a path, and
told in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import asyncpg

from chargehand.domain.errors import DatabaseRefuses

TIMEOUT = 10.0
"""Seconds to connect, unless the URL says otherwise."""

DRIVERS = frozenset({
    "host", "port", "user", "password", "dbname", "database", "passfile", "sslmode", "sslcert", "sslkey", "sslrootcert",
    "sslcrl", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs",
    "krbsrvname", "gsslib", "application_name", "options", "search_path",
})  # fmt: skip
"""Parameters that the driver reads, or passes on to a server that knows them."""

KEEPALIVES: Mapping[str, str] = {
    "keepalives_idle": "tcp_keepalives_idle",
    "keepalives_interval": "tcp_keepalives_interval",
    "keepalives_count": "tcp_keepalives_count",
    "tcp_user_timeout": "tcp_user_timeout",
}
"""libpq's names -> the server's settings for its own end of the connection, which find the same dead peers."""

WITHOUT_MEANING = frozenset(
    {"keepalives", "client_encoding", "fallback_application_name", "load_balance_hosts", "service"}
)
"""Taken and not needed here: keep-alives are always on, and the encoding is always UTF-8."""

ONLY: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),  # the driver has none
    "gssencmode": frozenset({"disable", "prefer"}),
    "require_auth": frozenset(),
}
"""Parameters of which only these values can be kept; another one asks for a protection that we do not have."""


EVERY_SESSION: Mapping[str, str] = {"default_transaction_isolation": "read committed"}
"""What our statements are written for, whatever the role, the database or the server has as its default."""


class Address(NamedTuple):
    """How to connect: a URL that the driver understands, seconds, and settings of the session."""

    dsn: str
    timeout: float
    settings: Mapping[str, str]

    @property
    def options(self) -> dict[str, Any]:
        """The driver's arguments."""
        return {"dsn": self.dsn, "timeout": self.timeout}

    async def prepare(self, connection: asyncpg.Connection[Any], **settings: str) -> None:
        """Give a new session its settings, and those in `settings`; names and values are ours or digits.

        Not while connecting: a pooler refuses a connection for every parameter that it does not know. Nor without a
        limit: it may take a client long before it has a session for it.
        """
        wanted = {**EVERY_SESSION, **self.settings, **settings}
        await connection.execute("".join(f"SET {name} = '{value}';" for name, value in wanted.items()), timeout=TIMEOUT)


async def connect(url: str, **settings: str) -> asyncpg.Connection[asyncpg.Record]:
    """Connect once; `settings` are the session's. Raises what `parse` and the driver raise."""
    where = parse(url)
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(**where.options)
    try:
        await where.prepare(connection, **settings)
    except BaseException:
        connection.terminate()
        raise
    return connection


def parse(url: str) -> Address:
    """Return how to connect to that URL. Raises `DatabaseRefuses` for one that cannot be read as it stands."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        raise _wrong("it must begin with postgresql://")
    ends = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    if "@" in rest[ends:]:
        raise _wrong(
            "there is an @ behind the host",
            "In a user name, password or parameter, write / as %2F, ? as %3F, # as %23, : as %3A and @ as %40.",
        )
    _check_ports(rest[:ends].rpartition("@")[2])
    server, _, query = url.partition("?")
    return _sorted_out(server, dict(parse_qsl(query, keep_blank_values=True)))


def _check_ports(hosts: str) -> None:
    for host in hosts.split(","):
        port = "" if host.endswith("]") else host.rpartition(":")[2] if ":" in host else ""
        if port and not (port.isascii() and port.isdigit()):
            raise _wrong("a port is not a number")


def _sorted_out(place: str, parameters: Mapping[str, str]) -> Address:
    kept, settings, timeout = {}, {}, TIMEOUT
    for name, value in parameters.items():
        if name == "connect_timeout":
            timeout = float(_digits(name, value)) or TIMEOUT
        elif name in KEEPALIVES:
            settings[KEEPALIVES[name]] = _digits(name, value)
        elif name in ONLY:
            if value not in ONLY[name]:
                raise _wrong(f"{name}={value} cannot be kept", "Leave it out, or connect through something that can.")
        elif name in DRIVERS:
            kept[name] = value
        elif name not in WITHOUT_MEANING:
            raise _wrong(f"the parameter {name!r} is not understood", "docs/settings.md lists those that are.")
    return Address(f"{place}?{urlencode(kept)}" if kept else place, timeout, settings)


def _digits(name: str, text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise _wrong(f"{name} is not a whole number")
    return text


def _wrong(problem: str, hint: str = "docs/settings.md shows one.") -> DatabaseRefuses:
    return DatabaseRefuses(f"CHARGEHAND_DATABASE_URL cannot be read: {problem}", hint=hint)
