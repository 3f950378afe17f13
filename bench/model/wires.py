"""What lies between a process and the broker: connections that are cut, noticed late, and made again.

Each process has a `Wire`, its `ports.Broker`; behind all of them is the real `MemoryBroker`, a process of its own. An
acknowledgement or a confirm that was under way when the wire was cut is lost. A reader that was cut off keeps what it
had been sent until the broker notices (`NOTICED`); then it goes back to its queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, TypeVar

from bench.model.loop import Process, SimulatedLoop
from chargehand.broker.memory import MemoryBroker
from chargehand.domain.errors import BrokerUnreachable
from chargehand.domain.ports import Delivery, OnMessage, Subscription

T = TypeVar("T")

CONFIRM_SECONDS = 2.0
"""After so many seconds without an answer a message counts as unconfirmed."""
NOTICED = 4.0
"""Seconds until the broker notices that a connection is dead: a small part of a lease."""

Reach = Callable[[str], Awaitable[None]]


class Wire:
    """The way of one process to the broker."""

    def __init__(
        self, loop: SimulatedLoop, broker: MemoryBroker, home: Process, process: Process, reach: Reach
    ) -> None:
        self.alive, self.cut = True, False
        self.sent: Callable[[str, bytes, bool], None] = lambda *_: None
        self._loop, self._broker, self._home, self._process, self._reach = loop, broker, home, process, reach
        self._readers: dict[WireSubscription, None] = {}

    async def start(self) -> None:
        await self._across("connect")

    async def stop(self) -> None:
        for reader in list(self._readers):
            await reader.stop()

    async def declare(self, queue: str) -> None:
        await self._across("declare")
        at_once(self._home.context, self._broker.declare(queue))

    async def remove(self, queue: str) -> None:
        await self._across("remove")
        await self._loop.create_task(self._broker.remove(queue), context=self._home.context)

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> list[BaseException | None]:
        await self._reach("before the publish")
        if self.cut:
            return await self._unanswered(messages)
        outcomes = at_once(self._home.context, self._broker.publish(messages))
        for (queue, body), outcome in zip(messages, outcomes, strict=True):
            self.sent(queue, body, outcome is None)
        await self._reach("after the publish")
        if self.severed():  # while the answer was on its way
            return await self._unanswered(messages)
        return outcomes

    async def consume(self, queue: str, on_message: OnMessage, *, prefetch: int = 16) -> Subscription:
        await self._across("consume")
        reader = WireSubscription(self, queue, on_message, prefetch)
        self._readers[reader] = None
        reader.connect()
        return reader

    # --- what the simulation does to it ------------------------------------------------------------------------------

    def severed(self) -> bool:
        """Whether nothing gets through."""
        return self.cut

    def sever(self) -> None:
        """Cut the wire. Readers hear nothing more; the broker notices later."""
        self.cut = True
        for reader in self._readers:
            reader.lose()

    def mend(self) -> None:
        """Connect again; every reader reads again, from a connection of its own."""
        self.cut = False
        for reader in self._readers:
            reader.lose(0.0)
            reader.connect()

    def hang_up(self) -> None:
        """End it because its process has died: the broker is told by the operating system, at once."""
        self.alive, self.cut = False, True
        for reader in self._readers:
            reader.lose(0.0)
        self._readers.clear()

    # --- what subscriptions need -------------------------------------------------------------------------------------

    async def _across(self, what: str) -> None:
        await self._reach(what)
        if self.cut:
            await asyncio.sleep(CONFIRM_SECONDS)
            raise BrokerUnreachable("the broker does not answer")

    async def _unanswered(self, messages: Sequence[tuple[str, bytes]]) -> list[BaseException | None]:
        await asyncio.sleep(CONFIRM_SECONDS)
        return [BrokerUnreachable("no confirm came") for _ in messages]

    def forget(self, reader: WireSubscription) -> None:
        """Drop a subscription that was stopped."""
        self._readers.pop(reader, None)

    def listen(self, queue: str, on_message: OnMessage, prefetch: int) -> Subscription:
        """Read at the broker."""
        return at_once(self._home.context, self._broker.consume(queue, on_message, prefetch=prefetch))

    def in_home(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something in the broker."""
        return self._loop.create_task(coroutine, context=self._home.context)

    def at_home(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the broker that does not wait."""
        return at_once(self._home.context, coroutine)

    def in_process(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something in the process at this end."""
        return self._loop.create_task(coroutine, context=self._process.context)

    async def reach(self, point: str) -> None:
        await self._reach(point)


class WireSubscription:
    """A reader at the process's end, with the broker's subscription behind it, a new one for each connection."""

    def __init__(self, wire: Wire, queue: str, on_message: OnMessage, prefetch: int) -> None:
        self._wire, self._queue, self._on_message, self._prefetch = wire, queue, on_message, prefetch
        self._behind: Subscription | None = None
        self._lost = asyncio.Event()

    def connect(self) -> None:
        """Read from the broker, on a new connection."""
        lost = self._lost = asyncio.Event()

        async def pass_on(delivery: Delivery) -> None:
            if not lost.is_set():  # else it was sent into a dead connection
                self._wire.in_process(self._read(WireDelivery(self._wire, delivery, lost)))

        self._behind = self._wire.listen(self._queue, pass_on, self._prefetch)

    def lose(self, seconds: float = NOTICED) -> None:
        """Lose the connection; the broker gives what was not acknowledged back after so many seconds."""
        self._lost.set()
        behind, self._behind = self._behind, None
        if behind is not None:
            self._wire.in_home(_stop_after(behind, seconds))

    async def stop(self) -> None:
        await self._wire.reach("cancel")
        self._wire.forget(self)
        self._lost.set()
        behind, self._behind = self._behind, None
        if behind is not None:
            await self._wire.in_home(_stop_after(behind, 0.0))

    async def _read(self, delivery: WireDelivery) -> None:
        await self._wire.reach("deliver")
        await self._on_message(delivery)


class WireDelivery:
    """A message at the process's end."""

    def __init__(self, wire: Wire, delivery: Delivery, lost: asyncio.Event) -> None:
        self._wire, self._delivery, self._lost = wire, delivery, lost
        self.body, self.redelivered = delivery.body, delivery.redelivered

    async def ack(self) -> None:
        await self._settle("ack", self._delivery.ack)

    async def reject(self, *, requeue: bool) -> None:
        await self._settle("reject", lambda: self._delivery.reject(requeue=requeue))

    async def _settle(self, what: str, settle: Callable[[], Any]) -> None:
        await self._wire.reach(f"before the {what}")
        if not self._lost.is_set():
            self._wire.at_home(settle())
        await self._wire.reach(f"after the {what}")


async def _stop_after(subscription: Subscription, seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)
    await subscription.stop()


def at_once(context: Context, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not wait, in another process's context."""
    try:
        context.run(coroutine.send, None)
    except StopIteration as result:
        return result.value  # type: ignore[no-any-return]
    raise RuntimeError("it was not to wait")
