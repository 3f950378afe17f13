"""Reads a queue, through lost connections, closed channels and deleted queues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from chargehand.broker.rabbitmq.declaring import Declarations
from chargehand.broker.rabbitmq.link import ANSWER_SECONDS, SETTLED, Link, close_channel, persist
from chargehand.broker.rabbitmq.plainly import QUEUES, plainly
from chargehand.domain.errors import ChargehandError
from chargehand.domain.ports import HEARTBEATS_QUEUE, OnMessage

log = logging.getLogger("chargehand.broker")


class RabbitMQDelivery:
    """One message with one reader. Settling it after its channel is gone does nothing: it went back."""

    def __init__(self, message: AbstractIncomingMessage, *, may_return: bool) -> None:
        self._message, self._may_return = message, may_return
        self.settled = False
        self.body = message.body
        self.redelivered = bool(message.redelivered)
        self.user_id = message.user_id  # who sent it; RabbitMQ has checked it, if there is one

    async def ack(self) -> None:
        await self._settle(self._message.ack)

    async def reject(self, *, requeue: bool) -> None:
        """Hand it back, or put it among the dead letters. AMQP's `reject`: since RabbitMQ 4.3 `nack` is not counted."""
        await self._settle(partial(self._message.reject, requeue=requeue and self._may_return))

    async def _settle(self, tell: Callable[[], Awaitable[None]]) -> None:
        if self.settled:
            raise RuntimeError("a delivery is acknowledged or rejected exactly once")
        self.settled = True
        with suppress(ChargehandError), plainly("the message comes again", QUEUES):
            await tell()


class RabbitMQSubscription:
    """A running consumer with a channel of its own: its prefetch, and what it has not settled, are bound to that."""

    def __init__(self, link: Link, declarations: Declarations, queue: str, name: str) -> None:
        self.queue = queue
        self._link, self._declarations, self._name = link, declarations, name
        self._channel: AbstractChannel | None = None
        self._lost = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self.stopped = False

    async def begin(self, on_message: OnMessage, prefetch: int) -> None:
        """Start reading. Raises `Unroutable` (no such queue), `NotPermitted`, `BrokerUnreachable`."""
        self._on_message, self._prefetch = on_message, prefetch
        # Readers of a lost connection may still be busy when its successor delivers the same number again.
        self._room = asyncio.Semaphore(prefetch)
        await self._attach()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep reading {self.queue}")

    async def stop(self) -> None:
        """Take no more messages. Readers still busy are cancelled; what they did not settle goes back."""
        self.stopped = True
        running = self._tasks - {asyncio.current_task()}  # a reader may stop its own subscription
        if self._keeper is not None:
            running.add(self._keeper)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        await self._detach()

    async def _attach(self) -> None:
        self._lost = asyncio.Event()
        async with AsyncExitStack() as failed:
            channel = await self._link.channel()
            failed.push_async_callback(close_channel, channel)
            with plainly(f"the queue {self._name} cannot be read", QUEUES):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._consume(channel, self._lost)
            failed.pop_all()
        self._channel = channel

    async def _consume(self, channel: AbstractChannel, lost: asyncio.Event) -> None:
        channel.close_callbacks.add(lambda *_: lost.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: lost.set())  # the queue was deleted
        await channel.set_qos(prefetch_count=self._prefetch)
        queue = await channel.get_queue(self._name, ensure=False)
        await queue.consume(self._arrived)

    async def _detach(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await close_channel(channel)

    async def _keep(self) -> None:
        clock, failures = asyncio.get_running_loop().time, 0
        while True:
            began = clock()
            await self._lost.wait()
            await self._detach()
            failures = 0 if clock() - began > SETTLED else failures + 1
            await persist(self._attach_again, self._link.backoff, failures)
            log.info("reading %s again", self._name)

    async def _attach_again(self) -> None:
        await self._link.is_up()
        await self._declarations.declare_again(self._link.connection, self.queue)
        await self._attach()

    async def _arrived(self, message: AbstractIncomingMessage) -> None:
        """Read in a task of our own: aiormq cancels its tasks when the channel is lost, in the middle of a write."""
        if self.stopped:
            return
        delivery = RabbitMQDelivery(message, may_return=self.queue != HEARTBEATS_QUEUE)
        task = asyncio.create_task(self._read(delivery), name=f"read {self.queue}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, delivery: RabbitMQDelivery) -> None:
        async with self._room:
            try:
                await self._on_message(delivery)
            except Exception as error:  # a reader is anybody's code
                log.error("reading a message of %s failed: %s", self._name, type(error).__name__, exc_info=error)
                if not delivery.settled:
                    await delivery.reject(requeue=True)
