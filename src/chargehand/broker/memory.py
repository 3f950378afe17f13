"""The in-process broker: queues in this process.

It behaves as a real broker does where that matters to its users: bytes only, prefetch, redelivery of what was not
acknowledged, a delivery limit with dead letters, bounded queues, and weather (see `weather.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from chargehand.broker import DELIVERY_LIMIT, dead_letters
from chargehand.broker.weather import Calm, Weather
from chargehand.domain.errors import BrokerUnreachable, Unroutable
from chargehand.domain.ports import OnMessage

log = logging.getLogger("chargehand.broker")


@dataclass(eq=False, slots=True)
class _Message:
    body: bytes
    returned: int = 0  # how often a reader handed it back
    redelivered: bool = False


@dataclass(eq=False, slots=True)
class _Queue:
    name: str
    ready: deque[_Message] = field(default_factory=deque)
    late: dict[_Message, asyncio.TimerHandle] = field(default_factory=dict)
    readers: deque[MemorySubscription] = field(default_factory=deque)


class MemoryDelivery:
    """One message with one reader. Settling it after its subscription has stopped does nothing: it went back."""

    def __init__(self, subscription: MemorySubscription, message: _Message) -> None:
        self._subscription, self._message = subscription, message
        self._settled = False
        self.body = message.body
        self.redelivered = message.redelivered

    async def ack(self) -> None:
        self._settle()

    async def reject(self, *, requeue: bool) -> None:
        if self._settle():
            self._subscription.hand_back(self._message, requeue=requeue)

    @property
    def settled(self) -> bool:
        return self._settled

    def _settle(self) -> bool:
        """Return whether the message was still this reader's. Raises RuntimeError when it is settled twice."""
        if self._settled:
            raise RuntimeError("a delivery is acknowledged or rejected exactly once")
        self._settled = True
        return self._subscription.release(self._message)


class MemorySubscription:
    """A running consumer: a task per delivery, at most `prefetch` of them unsettled."""

    def __init__(self, broker: MemoryBroker, queue: _Queue, on_message: OnMessage, prefetch: int) -> None:
        self._broker, self._queue, self._on_message, self._prefetch = broker, queue, on_message, prefetch
        self._unsettled: dict[_Message, None] = {}  # in order of delivery
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def has_room(self) -> bool:
        return len(self._unsettled) < self._prefetch

    def deliver(self, message: _Message) -> None:
        delivery = MemoryDelivery(self, message)
        self._unsettled[message] = None
        task = asyncio.get_running_loop().create_task(self._handle(delivery), name=f"deliver {self._queue.name}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._handled(done, delivery, message))

    def release(self, message: _Message) -> bool:
        """Take a message out of this reader's hands; False when it was no longer in them."""
        if message not in self._unsettled:
            return False
        del self._unsettled[message]
        self._broker.pump_soon(self._queue)
        return True

    def hand_back(self, message: _Message, *, requeue: bool) -> None:
        self._broker.hand_back(self._queue, message, requeue=requeue)

    async def stop(self) -> None:
        """Take no more messages. Handlers still running are cancelled; what they did not settle goes back."""
        if self in self._queue.readers:
            self._queue.readers.remove(self)
        running = self._tasks - {asyncio.current_task()}  # a handler may stop its own subscription
        for task in running:
            task.cancel()
        try:
            if running:
                await asyncio.wait(running)
        finally:
            self._return_unsettled()

    async def _handle(self, delivery: MemoryDelivery) -> None:
        await self._on_message(delivery)

    def _handled(self, task: asyncio.Task[None], delivery: MemoryDelivery, message: _Message) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("reading a message of %s failed: %s", self._queue.name, type(error).__name__, exc_info=error)
        if not delivery.settled and self.release(message):
            self.hand_back(message, requeue=True)

    def _return_unsettled(self) -> None:
        returned, self._unsettled = list(self._unsettled), {}
        for message in reversed(returned):
            message.redelivered = True
            self._queue.ready.appendleft(message)
        self._broker.pump_soon(self._queue)


class MemoryBroker:
    """Implements `ports.Broker` in this process.

    What is in the queues outlives `stop` and `start`, but not the process. `max_length` bounds each queue: at 10,000
    waiting messages nobody is reading, and memory is not a store.
    """

    def __init__(
        self, weather: Weather | None = None, *, max_length: int = 10_000, delivery_limit: int = DELIVERY_LIMIT
    ) -> None:
        self._weather: Weather = weather or Calm()
        self._max_length, self._delivery_limit = max_length, delivery_limit
        self._queues: dict[str, _Queue] = {}
        self._running = False

    async def start(self) -> None:
        self._running = True
        for queue in self._queues.values():
            self._pump(queue)

    async def stop(self) -> None:
        """End every subscription. Messages on their way land in their queues."""
        self._running = False
        await asyncio.gather(*(reader.stop() for queue in self._queues.values() for reader in tuple(queue.readers)))
        for queue in self._queues.values():
            for message in tuple(queue.late):
                self._land(queue, message)

    async def declare(self, queue: str) -> None:
        self._check_running()
        for name in (queue, dead_letters(queue)):
            self._queues.setdefault(name, _Queue(name))

    async def remove(self, queue: str) -> None:
        self._check_running()
        for name in (queue, dead_letters(queue)):
            if gone := self._queues.pop(name, None):
                for timer in gone.late.values():
                    timer.cancel()
                await asyncio.gather(*(reader.stop() for reader in tuple(gone.readers)))

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> list[BaseException | None]:
        return [self._publish(queue, body) for queue, body in messages]

    async def consume(self, queue: str, on_message: OnMessage, *, prefetch: int = 16) -> MemorySubscription:
        self._check_running()
        if queue not in self._queues:
            raise Unroutable(f"there is no queue {queue}", hint="Declare it first.")
        subscription = MemorySubscription(self, self._queues[queue], on_message, prefetch)
        self._queues[queue].readers.append(subscription)
        self._pump(self._queues[queue])
        return subscription

    def peek(self, queue: str) -> tuple[bytes, ...]:
        """Return the bodies waiting in a queue, oldest first, and leave them there."""
        return tuple(message.body for message in self._queues[queue].ready) if queue in self._queues else ()

    def hand_back(self, queue: _Queue, message: _Message, *, requeue: bool) -> None:
        """Put a rejected message back at the head of its queue, or among the dead letters."""
        message.returned += 1
        message.redelivered = True
        if requeue and message.returned < self._delivery_limit:
            queue.ready.appendleft(message)
            self.pump_soon(queue)
        else:
            self._bury(queue, message)

    def pump_soon(self, queue: _Queue) -> None:
        """Deliver on the loop's next turn, so that a reader that hands a message back cannot starve the others."""
        if self._running and queue.ready:
            asyncio.get_running_loop().call_soon(self._pump, queue)

    def _publish(self, name: str, body: bytes) -> BaseException | None:
        if not self._running:
            return BrokerUnreachable("the in-process broker is not running")
        if (queue := self._queues.get(name)) is None:
            return Unroutable(f"there is no queue {name}")
        if len(queue.ready) + len(queue.late) >= self._max_length:
            return BrokerUnreachable(f"the queue {name} is full ({self._max_length:,} messages): nobody reads it")
        fate = self._weather.fate(name)
        for _ in range(fate.copies):
            self._arrive(queue, _Message(bytes(body)), fate.delay)
        return None if fate.confirmed else BrokerUnreachable(f"a message to {name} was not confirmed")

    def _arrive(self, queue: _Queue, message: _Message, delay: float) -> None:
        if delay > 0:
            queue.late[message] = asyncio.get_running_loop().call_later(delay, self._land, queue, message)
        else:
            queue.ready.append(message)
            self._pump(queue)

    def _land(self, queue: _Queue, message: _Message) -> None:
        queue.late.pop(message).cancel()
        queue.ready.append(message)
        self._pump(queue)

    def _pump(self, queue: _Queue) -> None:
        while self._running and queue.ready and (reader := self._next_reader(queue)) is not None:
            reader.deliver(queue.ready.popleft())

    def _next_reader(self, queue: _Queue) -> MemorySubscription | None:
        """Return the next reader with room, in turn."""
        for _ in range(len(queue.readers)):
            queue.readers.rotate(-1)
            if queue.readers[-1].has_room:
                return queue.readers[-1]
        return None

    def _bury(self, queue: _Queue, message: _Message) -> None:
        log.warning("a message of %s became a dead letter after %d tries", queue.name, message.returned)
        grave = self._queues.get(dead_letters(queue.name))
        if grave is not None:
            if len(grave.ready) >= self._max_length:
                grave.ready.popleft()  # the newest are the ones somebody looks for
            grave.ready.append(_Message(message.body))
            self._pump(grave)

    def _check_running(self) -> None:
        if not self._running:
            raise BrokerUnreachable("the in-process broker is not running")


def open_broker(_url: str, _agent_id: str | None = None) -> MemoryBroker:
    """Return a broker of this process."""
    return MemoryBroker()


async def greeting(_url: str) -> str:
    """Return what there is without a URL; nothing has to answer."""
    return "in this process; CHARGEHAND_AMQP_URL is not set"
