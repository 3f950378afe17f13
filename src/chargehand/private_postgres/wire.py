"""The few bytes of PostgreSQL's protocol that are needed to ask a server how it is, and to make a database.

A driver would be slow to import and is asynchronous; `psql` takes 20 ms and tells errors by their text only.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chargehand.private_postgres.account import SUPERUSER
from chargehand.private_postgres.errors import PostgresBusy

PORT = 5432  # part of the socket's file name, nothing listens on it
PROTOCOL = 3 << 16
TIMEOUT = 10.0  # seconds; a server that is alive answers within milliseconds
NO_SUCH_DATABASE = "3D000"
TOO_MANY_CONNECTIONS = "53300"


@dataclass(frozen=True)
class Answer:
    """What a server said. `sqlstate` is why it refused; neither that nor `ready`: nobody answered."""

    ready: bool = False
    sqlstate: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)


def socket_file(socket_dir: Path) -> Path:
    """Return the path of the socket itself."""
    return socket_dir / f".s.PGSQL.{PORT}"


def ask(socket_dir: Path, database: str, statement: str | None = None) -> Answer:
    """Connect to `database`, run `statement` if there is one, and say how it ended. A dead server is an answer too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(socket_file(socket_dir)))
            return _converse(connection, database, statement)
        except OSError:
            return Answer()


def run(socket_dir: Path, database: str, statement: str) -> None:
    """Run one statement. Raises `PostgresBusy` with the SQLSTATE when it fails."""
    answer = ask(socket_dir, database, statement)
    if not answer.ready:
        raise PostgresBusy(f"the database did not run `{statement}`: {answer.sqlstate or 'no answer'}")


def _converse(connection: socket.socket, database: str, statement: str | None) -> Answer:
    options = b"".join(word.encode() + b"\0" for word in ("user", SUPERUSER, "database", database))
    startup = struct.pack("!i", PROTOCOL) + options + b"\0"
    connection.sendall(struct.pack("!i", len(startup) + 4) + startup)
    answer = _read(connection)
    if answer.ready and statement is not None:
        query = statement.encode() + b"\0"
        connection.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        answer = _read(connection)
    if answer.ready:
        connection.sendall(b"X" + struct.pack("!i", 4))
    return answer


def _read(connection: socket.socket) -> Answer:
    """Read until the server waits for us (Z), refuses (E) or hangs up."""
    parameters: dict[str, str] = {}
    for kind, body in _messages(connection):
        if kind == b"E":
            return Answer(sqlstate=_sqlstate(body), parameters=parameters)
        if kind == b"S":
            name, value, _ = body.decode(errors="replace").split("\0")
            parameters[name] = value
        if kind == b"Z":
            return Answer(ready=True, parameters=parameters)
    return Answer(parameters=parameters)


def _messages(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    with connection.makefile("rb") as stream:
        while len(head := stream.read(5)) == 5:
            kind, length = struct.unpack("!ci", head)
            yield kind, stream.read(length - 4)


def _sqlstate(body: bytes) -> str:
    fields = {part[:1]: part[1:] for part in body.split(b"\0") if part}
    return fields.get(b"C", b"XX000").decode()
