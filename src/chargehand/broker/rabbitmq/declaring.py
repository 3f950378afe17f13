"""Makes exchanges and queues on the broker, and makes them again on a broker that has forgotten them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from aio_pika import Connection
from aio_pika.abc import AbstractChannel

from chargehand.broker import dead_letters
from chargehand.broker.rabbitmq.link import ANSWER_SECONDS
from chargehand.broker.rabbitmq.plainly import QUEUES, plainly
from chargehand.broker.rabbitmq.topology import Declaration, Topology
from chargehand.domain.errors import BadConfiguration, NotPermitted, Unroutable

log = logging.getLogger("chargehand.broker")


class Declarations:
    """What this process has declared. A refusal closes its channel, so each try has one of its own."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._queues: dict[str, None] = {}

    async def prepare(self, connection: Connection) -> None:
        """Make everything on a new connection. What the broker refuses is logged: the rest works without it."""
        for exchange, kind in self._topology.exchanges.items():
            await self._or_say(self._exchange(connection, exchange, kind))
        for queue in tuple(self._queues):
            await self._or_say(self.declare(connection, queue))

    async def declare(self, connection: Connection, queue: str) -> None:
        """Make a queue, or find it where this user may not make any. Raises `Unroutable` when it is not there."""
        try:
            for declaration in self._topology.declarations(queue):
                await self._queue(connection, declaration)
        except NotPermitted as refusal:
            await self._find(connection, queue, refusal)
        self._queues[queue] = None

    async def declare_again(self, connection: Connection, queue: str) -> None:
        """Make a queue that this process declared earlier; leave the others to whoever did."""
        if queue in self._queues:
            await self.declare(connection, queue)

    async def remove(self, connection: Connection, queue: str) -> None:
        """Delete a queue and its dead letters. Raises `NotPermitted`."""
        self._queues.pop(queue, None)
        async with _channel(connection, f"the queue {queue} cannot be removed") as channel:
            for name in (queue, dead_letters(queue)):
                await channel.queue_delete(self._topology.name(name))

    async def _exchange(self, connection: Connection, name: str, kind: str) -> None:
        """Look first: looking needs no permission, and it is there already but for the first time."""
        try:
            async with _channel(connection, f"the exchange {name} is not there") as channel:
                await channel.declare_exchange(name, passive=True)
        except Unroutable:
            async with _channel(connection, f"the exchange {name} cannot be made") as channel:
                await channel.declare_exchange(name, kind, durable=True)

    async def _queue(self, connection: Connection, declaration: Declaration) -> None:
        async with _channel(connection, f"the queue {declaration.name} cannot be made") as channel:
            made = await channel.declare_queue(declaration.name, durable=True, arguments=declaration.arguments)
            await made.bind(declaration.binding.exchange, declaration.binding.key)

    async def _find(self, connection: Connection, queue: str, refusal: NotPermitted) -> None:
        name = self._topology.name(queue)
        try:
            async with _channel(connection, f"the queue {name} is not there") as channel:
                await channel.declare_queue(name, passive=True)
        except Unroutable as missing:
            hint = "This user may make no queues, so the server has to: it does once the agent is enrolled."
            raise Unroutable(f"{missing}; {refusal}", hint=hint) from missing

    async def _or_say(self, making: Awaitable[None]) -> None:
        try:
            await making
        except (NotPermitted, BadConfiguration, Unroutable) as error:
            log.error("%s. %s", error, error.hint)


@asynccontextmanager
async def _channel(connection: Connection, what: str) -> AsyncIterator[AbstractChannel]:
    with plainly(what, QUEUES):
        async with asyncio.timeout(ANSWER_SECONDS), connection.channel(publisher_confirms=False) as channel:
            yield channel
