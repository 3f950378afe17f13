"""A private RabbitMQ: data, ports, cookie and port mapper of its own, so that no server of the machine's is touched."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chargehand.domain.errors import BadConfiguration, BrokerUnreachable

START_SECONDS, STOP_SECONDS = 90.0, 20.0  # measured: 6 to 8 s and 1 s; CI machines are slower
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"  # what the server's greeting begins with

# One thread that does not spin: whoever uses the broker needs the processor, too.
MODEST = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"


def find_server() -> Path | None:
    """Return the program that starts RabbitMQ. Not Debian's in /usr/sbin: that wants to be its own user."""
    places = [Path("/usr/lib/rabbitmq/bin/rabbitmq-server"), *Path("/opt/homebrew/sbin").glob("rabbitmq-server")]
    return next((place for place in places if place.is_file() and shutil.which("epmd")), None)


def free_ports(number: int) -> list[int]:
    """Return ports of the loopback interface that nothing listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


class PrivateRabbitMQ:
    """A server of our own with its data below `base`. `erlang` are further arguments of its virtual machine.

    `users` maps each name to its password; the first may do everything.
    """

    def __init__(self, base: Path, *, users: Sequence[str] = ("server",), erlang: str = "") -> None:
        self.base = base
        self.port, self._epmd_port, self._distribution_port = free_ports(3)
        self.passwords = {user: secrets.token_hex(8) for user in users}
        self.start_seconds = 0.0  # how long the last start took
        self._erlang = erlang
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the user is found that may do everything."""
        return self.url_of(next(iter(self.passwords)))

    @property
    def pids(self) -> list[int]:
        """The processes that CPU is counted of, with their descendants."""
        return [process.pid for process in (self._server, self._epmd) if process is not None]

    def url_of(self, user: str, password: str | None = None, port: int | None = None) -> str:
        """Return a user's URL, through another port (a proxy's) or with another password where one is given."""
        secret = quote(password or self.passwords[user], safe="")
        return f"amqp://{user}:{secret}@127.0.0.1:{port or self.port}/"

    def start(self) -> None:
        """Start and wait until it talks. Raises `BadConfiguration` without RabbitMQ, `BrokerUnreachable`."""
        program = find_server()
        if program is None:
            raise BadConfiguration("RabbitMQ is not installed", hint="Debian, Ubuntu: apt-get install rabbitmq-server")
        began = time.monotonic()
        self._write_configuration()
        if self._epmd is None:
            command = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            (self.base / "epmd.pid").write_text(str(self._epmd.pid))
        with (self.base / "output.log").open("ab") as output:
            self._server = subprocess.Popen(
                [program], env=self._environment(), stdout=output, stderr=output, start_new_session=True
            )
        (self.base / "group.pid").write_text(str(self._server.pid))
        self._wait_until_it_talks(began + START_SECONDS)
        self.start_seconds = time.monotonic() - began

    def stop(self) -> None:
        """Stop as an operator would; queues and messages stay."""
        if self._server is None:
            return
        with suppress(OSError, ValueError):
            os.kill(int((self.base / "server.pid").read_text()), signal.SIGTERM)
        try:
            self._server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._server = None

    def kill(self) -> None:
        """Take its power away."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(STOP_SECONDS)
            self._server = None

    def wipe(self) -> None:
        """Lose everything. Only while it does not run."""
        assert self._server is None
        shutil.rmtree(self.base / "data")

    def close(self) -> None:
        """Stop, and leave nothing behind."""
        self.stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(STOP_SECONDS)
        shutil.rmtree(self.base, ignore_errors=True)

    def configuration(self) -> Mapping[str, object]:
        """Return the lines of rabbitmq.conf."""
        return {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "load_definitions": self.base / "definitions.json",
            "disk_free_limit.absolute": "1MB",  # a full disk is not what this is about
            "log.file.level": "warning",
        }

    def definitions(self) -> dict[str, list[dict[str, Any]]]:
        """Return what it starts with: the first user may do everything, the others nothing."""
        names = list(self.passwords)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "vhosts": [{"name": "/"}],
            "users": [
                {"name": name, "password": password, "tags": "administrator" if name == names[0] else ""}
                for name, password in self.passwords.items()
            ],
            "permissions": [{"user": names[0], "vhost": "/", **everything}],
        }

    def _wait_until_it_talks(self, deadline: float) -> None:
        assert self._server is not None
        while not _talks(self.port):
            if self._server.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = (self.base / "output.log").read_text()[-2000:]
                raise BrokerUnreachable(f"a private RabbitMQ did not start: {said}")
            time.sleep(0.1)

    def _write_configuration(self) -> None:
        lines = "".join(f"{key} = {value}\n" for key, value in self.configuration().items())
        (self.base / "rabbitmq.conf").write_text(lines)
        (self.base / "definitions.json").write_text(json.dumps(self.definitions()))
        (self.base / "plugins").write_text("[].\n")
        (self.base / "environment.conf").touch()

    def _environment(self) -> dict[str, str]:
        ours = {
            "HOME": self.base,  # Erlang's cookie
            "RABBITMQ_NODENAME": f"private{self.port}@localhost",
            "RABBITMQ_DIST_PORT": self._distribution_port,
            "ERL_EPMD_PORT": self._epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": self.base / "data",
            "RABBITMQ_LOG_BASE": self.base / "log",
            "RABBITMQ_CONFIG_FILE": self.base / "rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": self.base / "environment.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.base / "plugins",
            "RABBITMQ_PID_FILE": self.base / "server.pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{MODEST} {self._erlang}",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return kept | {name: str(value) for name, value in ours.items()}


@contextmanager
def private_rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """Yield a running server; it and everything of it is gone afterwards. Raises as `PrivateRabbitMQ.start`."""
    server = PrivateRabbitMQ(Path(tempfile.mkdtemp(prefix="chargehand-bench-amqp-", dir="/tmp")))
    try:
        server.start()
        yield server
    finally:
        server.close()


def version() -> str:
    """Return the installed version."""
    program = find_server()
    installed = sorted(program.parents[1].glob("lib/rabbitmq_server-*")) if program else []
    return installed[-1].name.partition("-")[2] if installed else "unknown"


def _talks(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
        connection.sendall(PROTOCOL_HEADER)
        return connection.recv(1) == METHOD_FRAME
    return False
