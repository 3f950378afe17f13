"""Takes messages out of RabbitMQ's queues before their readers do, and brings them back late, twice, or not at all.

An ordinary consumer beside the real one on every queue: it gets a share of what comes, acknowledges it, and publishes
it again after a while. Nothing of the product knows about it. Different delays are what changes the order.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

TROUBLE = (aio_pika.exceptions.AMQPError, OSError, TimeoutError, RuntimeError)
"""What a broker that is killed under it raises here; RuntimeError: a channel that closes while it is opened."""
AT_ONCE = 8  # messages taken before the first is settled: the reader is to have the other half
SETTLED = 0.3  # seconds for the last acknowledgements
PAUSE = 1.0  # seconds between tries while the broker is away
DELAYS = ((0.60, 0.0, 0.05), (0.90, 0.05, 2.0), (1.0, 2.0, 10.0))  # up to this draw: from, to, in seconds
LOST, TWICE, THRICE = 0.03, 0.25, 0.05  # of all messages that are taken


class Gremlin:
    """Mischief on these queues; `done` counts it by kind."""

    def __init__(self, url: str, queues: Sequence[str], random: Random) -> None:
        self._url, self._queues, self._random = url, queues, random
        self._late: set[asyncio.Task[None]] = set()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._making = asyncio.Lock()
        self.done: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Meddle for so long, now with this queue, now with that; then bring back what is still held."""
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it would tell of each killed broker at length
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(self._haunt(queue) for queue in self._queues))
        if self._late:
            await asyncio.wait(self._late)
        await self._disconnect()

    async def empty(self, *, delete: bool) -> None:
        """Wipe one queue's messages, with the queue itself or without. What the broker refuses is left."""
        with suppress(*TROUBLE):
            async with asyncio.timeout(5.0):
                channel = await (await self._connected()).channel()
                name = self._random.choice(self._queues)
                wiped = channel.queue_delete(name) if delete else (await channel.get_queue(name)).purge()
                await wiped
                self.done["wiped_queues"] += 1
                await channel.close()

    async def _haunt(self, queue: str) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.0, 4.0))
            with suppress(*TROUBLE):
                channel = await (await self._connected()).channel()
                await channel.set_qos(AT_ONCE)
                source = await channel.get_queue(queue, ensure=True)
                reading = await source.consume(self._take)
                await asyncio.sleep(self._random.uniform(1.0, 4.0))
                await source.cancel(reading)
                await asyncio.sleep(SETTLED)  # an acknowledgement on a closed channel would end the connection
                await channel.close()
                continue
            await asyncio.sleep(PAUSE)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        queue = message.routing_key or ""
        fate, copies, which, how = (self._random.random() for _ in range(4))
        with suppress(*TROUBLE):
            await message.ack()
            if fate < LOST:
                self.done["lost_messages"] += 1
                return
            times = 3 if copies < THRICE else 2 if copies < TWICE else 1
            shortest, longest = next((low, high) for limit, low, high in DELAYS if which <= limit)
            delay = shortest + how * (longest - shortest)
            self.done.update(delayed=1, duplicated=times > 1)
            task = asyncio.create_task(self._bring_back(message, queue, times, delay))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _bring_back(self, message: AbstractIncomingMessage, queue: str, times: int, delay: float) -> None:
        again = aio_pika.Message(message.body, delivery_mode=message.delivery_mode)
        for copy in range(times):
            await asyncio.sleep(delay / (1 + copy))
            try:
                async with asyncio.timeout(5.0):
                    exchange = await (await self._voice()).get_exchange(message.exchange or "", ensure=False)
                    await exchange.publish(again, queue)
            except TROUBLE:
                self.done["lost_messages"] += 1  # the broker took it and was killed: it is gone

    async def _voice(self) -> AbstractChannel:
        """Return the channel that everything is published on again."""
        connection = await self._connected()
        async with self._making:
            if self._channel is None or self._channel.is_closed:
                self._channel = await connection.channel()
            return self._channel

    async def _connected(self) -> AbstractConnection:
        async with self._making:
            if self._connection is None or self._connection.is_closed:
                self._connection = await aio_pika.connect(self._url, timeout=5.0)
            return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(*TROUBLE):
                await self._connection.close()
