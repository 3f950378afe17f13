"""Where the broker is, and as whom we connect."""

from __future__ import annotations

from dataclasses import dataclass, field

from yarl import URL

from chargehand.domain.errors import BadConfiguration

PORTS = {"amqp": 5672, "amqps": 5671}
HEARTBEAT = 10  # seconds; aiormq gives a silent peer up after three, so a cut-off machine notices within 40 s

HOW = (
    "It looks like amqp://user:password@host:5672/vhost (amqps:// for TLS), with characters such as / @ : # "
    "in the password percent-encoded."
)


@dataclass(frozen=True, slots=True)
class Address:
    """An AMQP URL. As text it has neither the password nor the options in it."""

    url: URL = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a URL. Raises `BadConfiguration` without quoting any of it: there is a password somewhere in it."""
        try:
            url = URL(text)
            port = url.explicit_port
        except ValueError:
            raise BadConfiguration("the URL of the message broker cannot be read", hint=HOW) from None
        if url.scheme not in PORTS or not url.host:
            raise BadConfiguration("the URL of the message broker is not one of AMQP", hint=HOW)
        url = url.with_port(port or PORTS[url.scheme])
        return cls(url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT))

    @property
    def user(self) -> str:
        return self.url.user or "guest"  # as RabbitMQ's clients have it

    def __str__(self) -> str:
        return str(self.url.with_user(self.user).with_password(None).with_query(None))
