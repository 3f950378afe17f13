"""Real RabbitMQ for tests: `CHARGEHAND_TEST_AMQP_URL`, or one private server a session, started when first needed.

    async def test_something(amqp_url: str) -> None: ...

`private_rabbitmq` is the private one in any case: it may be killed, wiped, and has users with few permissions.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pamqp.frame
import pytest
from pamqp.commands import Connection

from bench import rabbit
from bench.rabbit import find_server, free_ports
from tests.postgres import unavailable

__all__ = ["PrivateRabbitMQ", "free_ports", "started"]

SETTING = "CHARGEHAND_TEST_AMQP_URL"
BASES = "chargehand-amqp-"
DOCUMENTATION = Path(__file__).parents[1] / "docs" / "rabbitmq.md"
AGENTS = ("agent-a", "agent-b")


def greeting(host: str, port: int, seconds: float = 2.0) -> Connection.Start:
    """Return what an AMQP server says before anybody logs in. Raises OSError when it says nothing."""
    with socket.create_connection((host, port), timeout=seconds) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        received = b""
        while not received.endswith(b"\xce"):
            more = connection.recv(65536)
            if not more:
                raise ConnectionError("not an AMQP server")
            received += more
    frame = pamqp.frame.unmarshal(received)[2]
    assert isinstance(frame, Connection.Start)
    return frame


class PrivateRabbitMQ(rabbit.PrivateRabbitMQ):
    """Speaks TLS, too. `root` may do everything; `server` and the `agents` what the documentation says, and no more."""

    def __init__(self, base: Path, *, agents: tuple[str, ...] = AGENTS, erlang: str = "") -> None:
        super().__init__(base, users=("root", "server", *agents), erlang=erlang)
        self.agents = agents
        [self.tls_port] = free_ports(1)
        self.certificate = base / "certificate.pem"

    @property
    def tls_url(self) -> str:
        return self.url_of("root", port=self.tls_port).replace("amqp:", "amqps:")

    def configuration(self) -> Mapping[str, object]:
        lines = super().configuration()
        if not make_certificate(self.certificate):
            return lines
        return {
            **lines,
            "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
            "ssl_options.certfile": self.certificate,
            "ssl_options.keyfile": self.certificate,
            "ssl_options.cacertfile": self.certificate,
        }

    def definitions(self) -> dict[str, list[dict[str, Any]]]:
        server, rights, topics = documented_permissions()
        made = super().definitions()
        made["permissions"] += [{"user": "server", "vhost": "/", **server}]
        made["permissions"] += [{"user": agent, "vhost": "/", **_for(rights, agent)} for agent in self.agents]
        made["topic_permissions"] = [{"user": agent, "vhost": "/", **_for(topics, agent)} for agent in self.agents]
        return made


def make_certificate(path: Path) -> bool:
    """Make a self-signed certificate and its key in one file; False where there is no OpenSSL."""
    if (program := shutil.which("openssl")) is None:
        return False
    if not path.exists():
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
        subprocess.run([*command, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
        path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return True


def documented_permissions() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return the permissions of a server, and of an agent and for its topics, as docs/rabbitmq.md gives them."""
    rights = r"^rabbitmqctl set_permissions {} '(\S+)' '(\S+)' '(\S+)'$"
    topics = r"^rabbitmqctl set_topic_permissions AGENT (\S+) '(\S+)' '(\S+)'$"
    return (
        _documented(rights.format("SERVER"), "configure", "write", "read"),
        _documented(rights.format("AGENT"), "configure", "write", "read"),
        _documented(topics, "exchange", "write", "read"),
    )


def _documented(pattern: str, *names: str) -> dict[str, str]:
    found = re.search(pattern, DOCUMENTATION.read_text(), re.MULTILINE)
    assert found is not None, f"docs/rabbitmq.md has no command like {pattern}"
    return dict(zip(names, found.groups(), strict=True))


def _for(rights: dict[str, str], agent: str) -> dict[str, str]:
    return {kind: pattern.replace("AGENT", agent) for kind, pattern in rights.items()}


def _end_orphans() -> None:
    """End the servers of sessions that were killed before they could."""
    for base in Path("/tmp").glob(f"{BASES}*"):
        pid = base.name.removeprefix(BASES).partition("-")[0]
        if base.stat().st_uid != os.geteuid() or Path(f"/proc/{pid}").exists() or not Path("/proc/self").exists():
            continue
        for name in ("server.pid", "group.pid", "epmd.pid"):
            _end_if_ours(base, base / name)
        shutil.rmtree(base, ignore_errors=True)


def _end_if_ours(base: Path, pid_file: Path) -> None:
    """Kill the process a file names, unless its number belongs to another program by now."""
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        if str(base).encode() in command or b"epmd\0-port" in command:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def started(**options: Any) -> Iterator[PrivateRabbitMQ]:
    """Yield a running RabbitMQ of one's own. Skips, or fails in CI, when it is not installed."""
    if find_server() is None:
        unavailable("RabbitMQ is not installed (Debian, Ubuntu: apt-get install rabbitmq-server)")
    _end_orphans()
    server = PrivateRabbitMQ(Path(tempfile.mkdtemp(prefix=f"{BASES}{os.getpid()}-", dir="/tmp")), **options)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def private_rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """A running RabbitMQ that tests may kill, wipe and start again."""
    with started() as server:
        yield server


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest) -> str:
    """The URL of a RabbitMQ whose user may do everything. It may be shared: use queues of your own."""
    if url := os.environ.get(SETTING):
        return url
    server: PrivateRabbitMQ = request.getfixturevalue("private_rabbitmq")
    return server.url


def pytest_report_header() -> str:
    """Say which versions this run is about."""
    return f"message broker: {_server_version()}; aio-pika {version('aio-pika')}, aiormq {version('aiormq')}"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _server_version() -> str:
    if url := os.environ.get(SETTING):
        address = urlsplit(url)
        try:
            said = greeting(address.hostname or "localhost", address.port or 5672).server_properties
        except OSError as error:
            return f"{SETTING} does not answer ({error})"
        name, number = (_text(said[key]) for key in ("product", "version"))
        return f"{name} {number} ({SETTING})"
    if find_server() is None:
        return "none, tests that need RabbitMQ are skipped"
    return f"RabbitMQ {rabbit.version()}, private, started when needed"
