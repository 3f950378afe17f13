"""Which transport a broker's URL means: one table, by the URL's scheme.

Another transport is a folder beside this file and a row of `TRANSPORTS`; nothing else asks what a URL looks like.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from chargehand.domain.errors import BadConfiguration
from chargehand.domain.ports import Broker


class Opening(Protocol):
    """What a transport's own module offers."""

    def open_broker(self, url: str, agent_id: str | None = None) -> Broker:
        """Return the broker at that URL, not yet connected; as an agent's own user where the URL names that user.

        Raises `BadConfiguration` for a URL that cannot be used, without quoting any of it.
        """

    async def greeting(self, url: str) -> str:
        """Connect as `start` does, disconnect, and return what answered. Raises what `open_broker` and `start` do."""


class Transport(NamedTuple):
    """One way to carry messages."""

    name: str
    schemes: tuple[str, ...]  # of its URLs; none: it is what there is without a URL
    shared: bool  # True: servers and agents are programs of their own; False: one process at a time does everything
    extra: str  # the part of Chargehand to install for it
    load: Callable[[], Opening]  # imports its module, and with it its libraries, when it is needed

    def open_broker(self, url: str | None, agent_id: str | None = None) -> Broker:
        """As `Opening.open_broker`. Raises `BadConfiguration` also when its libraries are not installed."""
        return self._opening().open_broker(url or "", agent_id)

    async def greeting(self, url: str | None) -> str:
        """As `Opening.greeting`. Raises `BadConfiguration` also when its libraries are not installed."""
        return await self._opening().greeting(url or "")

    def _opening(self) -> Opening:
        try:
            return self.load()
        except ImportError as error:
            raise BadConfiguration(
                f"the broker's URL is one of {self.name}, but {error.name} is not installed",
                hint=f"Install chargehand[{self.extra}].",
            ) from error


def _memory() -> Opening:
    from chargehand.broker import memory

    return memory


def _rabbitmq() -> Opening:
    from chargehand.broker.rabbitmq import opening

    return opening


TRANSPORTS = (
    Transport("the broker in this process", (), shared=False, extra="", load=_memory),
    Transport("RabbitMQ", ("amqp", "amqps"), shared=True, extra="rabbitmq", load=_rabbitmq),
)
_BY_SCHEME = {scheme: transport for transport in TRANSPORTS for scheme in transport.schemes or ("",)}


def transport_of(url: str | None) -> Transport:
    """Return the transport that a URL means, or the one without a URL.

    Raises `BadConfiguration` for an unknown scheme. Nothing else of the URL is quoted: there may be a password in it.
    """
    scheme = _scheme(url) if url else ""
    if scheme is None or scheme not in _BY_SCHEME:
        what = "has no scheme" if scheme is None else f"begins with {scheme}://, which no transport here does"
        known = ", ".join(f"{known}://" for known in _BY_SCHEME if known)
        raise BadConfiguration(
            f"the URL of the message broker {what}",
            hint=f"Known are {known}, for example amqp://user:password@host/ (docs/rabbitmq.md).",
        )
    return _BY_SCHEME[scheme]


def _scheme(url: str) -> str | None:
    found = re.match(r"([a-z][a-z0-9+.-]{0,19})://", url, re.IGNORECASE)
    return found[1].lower() if found else None
