"""One connection to the broker that is made again whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from aio_pika import Connection
from aio_pika.abc import AbstractChannel

from chargehand.broker.rabbitmq.address import Address
from chargehand.broker.rabbitmq.plainly import CONNECTING, QUEUES, plainly
from chargehand.domain.errors import BrokerUnreachable, ChargehandError

log = logging.getLogger("chargehand.broker")

CONNECT_SECONDS = 10.0  # a TLS handshake with a busy broker takes a few
ANSWER_SECONDS = 10.0  # to open a channel or declare a queue; electing a quorum queue's leader takes seconds
SETTLED = 30.0  # seconds after which a connection counts as good, and the next loss as a new one


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between tries: doubled each time, up to `most`."""

    first: float = 0.25
    most: float = 15.0

    def seconds(self, failures: int) -> float:
        """Return how long to wait: chance keeps clients from meeting a restarted broker all at once."""
        longest: float = min(self.most, self.first * 2 ** min(failures, 16))
        return longest * random.uniform(0.5, 1.0)


async def persist(step: Callable[[], Awaitable[None]], backoff: Backoff, failures: int = 0) -> None:
    """Take `step` again and again until it succeeds. `failures` is how often it went wrong shortly before."""
    last = ""
    while True:
        await asyncio.sleep(backoff.seconds(failures))
        failures += 1
        try:
            return await step()
        except Exception as error:
            if str(error) != last:  # an outage of hours is one line, not thousands
                expected = isinstance(error, ChargehandError)
                log.warning("%s; trying again every %g s at most", error, backoff.most, exc_info=not expected)
                last = str(error)


async def close_channel(channel: AbstractChannel, seconds: float = ANSWER_SECONDS) -> None:
    """Close a channel, which may be gone already."""
    with suppress(BrokerUnreachable), plainly("closing", QUEUES):
        async with asyncio.timeout(seconds):
            await channel.close()


class Link:
    """`prepare` makes what must be there before anybody uses a new connection."""

    def __init__(
        self, address: Address, name: str, prepare: Callable[[Connection], Awaitable[None]], backoff: Backoff
    ) -> None:
        self.address, self.backoff = address, backoff
        self._name, self._prepare = name, prepare
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect once, and from then on keep connected. Raises `BrokerUnreachable`."""
        if self._keeper is None:
            await self._connect()
            self._keeper = asyncio.create_task(self._keep(), name=f"keep the connection to {self.address}")

    async def close(self) -> None:
        """Disconnect, and stay so."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        await self._drop()

    async def is_up(self) -> None:
        """Wait until there is a connection."""
        await self._up.wait()

    @property
    def connection(self) -> Connection:
        """The connection. Raises `BrokerUnreachable` when there is none now."""
        if self._connection is None or not self._up.is_set():
            state = "is lost and being made again" if self._keeper else "is not open"
            raise BrokerUnreachable(f"the connection to {self.address} {state}")
        return self._connection

    @property
    def server(self) -> str:
        """The product and version that the broker says it is. Raises `BrokerUnreachable` when there is none now."""
        transport = self.connection.transport
        said = transport.connection.server_properties if transport else {}
        return " ".join(_text(said[key]) for key in ("product", "version") if key in said) or "a broker"

    async def channel(self, *, confirms: bool = False, seconds: float = ANSWER_SECONDS) -> AbstractChannel:
        """Open a channel; with `confirms`, one to publish on. Raises `BrokerUnreachable`."""
        channel = self.connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        with plainly(f"{self.address} opens no channel", QUEUES):
            async with asyncio.timeout(seconds):
                await channel.initialize()
        return channel

    async def _connect(self) -> None:
        async with AsyncExitStack() as failed:
            with plainly(f"cannot connect to {self.address}", CONNECTING):
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = Connection(self.address.url, client_properties={"connection_name": self._name})
                    failed.push_async_callback(connection.close)
                    await connection.connect()
            lost = asyncio.Event()
            connection.close_callbacks.add(lambda *_: lost.set())
            await self._prepare(connection)
            failed.pop_all()
        self._connection, self._lost = connection, lost
        self._up.set()

    async def _drop(self) -> None:
        self._up.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(BrokerUnreachable), plainly("closing", QUEUES):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await connection.close()

    async def _keep(self) -> None:
        clock, failures = asyncio.get_running_loop().time, 0
        while True:
            began = clock()
            await self._lost.wait()
            log.warning("the connection to %s was lost; connecting again", self.address)
            await self._drop()
            failures = 0 if clock() - began > SETTLED else failures + 1
            await persist(self._connect, self.backoff, failures)
            log.info("connected to %s again", self.address)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
