"""What every broker must do. Another implementation is one more entry of `BROKERS`.

Queue names are fresh per test, so a shared server does; nothing here waits by the clock except to see nothing come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import uuid4

import pytest

from chargehand.broker import DELIVERY_LIMIT, dead_letters
from chargehand.broker.memory import MemoryBroker
from chargehand.broker.rabbitmq import RabbitMQBroker
from chargehand.domain.errors import BrokerUnreachable, Unroutable
from chargehand.domain.ports import Broker, Delivery

PATIENCE = 10.0  # seconds until a message counts as lost
QUIET = 0.1  # seconds without a message count as "none came"


@asynccontextmanager
async def memory(_: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    broker = MemoryBroker()
    await broker.start()
    yield broker
    await broker.stop()


@asynccontextmanager
async def rabbitmq(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    broker = RabbitMQBroker(request.getfixturevalue("amqp_url"), namespace="chargehand-test")
    await broker.start()
    yield broker
    await broker.stop()


BROKERS: dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Broker]]] = {
    "memory": memory,
    "rabbitmq": rabbitmq,
}


@pytest.fixture(params=sorted(BROKERS))
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    async with BROKERS[request.param](request) as running:
        yield running


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[str]:
    name = f"contract.{uuid4().hex}"
    await broker.declare(name)
    yield name
    await broker.remove(name)


class Inbox:
    """A reader that keeps deliveries unsettled until a test settles them."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()

    async def __call__(self, delivery: Delivery) -> None:
        await self._arrived.put(delivery)

    async def next(self) -> Delivery:
        return await asyncio.wait_for(self._arrived.get(), PATIENCE)

    async def is_quiet(self) -> bool:
        await asyncio.sleep(QUIET)
        return self._arrived.empty()


async def send(broker: Broker, queue: str, *bodies: bytes) -> None:
    assert await broker.publish([(queue, body) for body in bodies]) == [None] * len(bodies)


async def test_messages_arrive_in_order_and_byte_for_byte(broker: Broker, queue: str) -> None:
    bodies = [bytes([n]) * n for n in range(1, 40)]
    await send(broker, queue, *bodies)
    inbox = Inbox()
    subscription = await broker.consume(queue, inbox, prefetch=1)
    received = []
    for _ in bodies:
        delivery = await inbox.next()
        assert not delivery.redelivered
        received.append(delivery.body)
        await delivery.ack()
    assert received == bodies
    await subscription.stop()


async def test_a_message_to_no_queue_is_unroutable_and_the_others_arrive(broker: Broker, queue: str) -> None:
    nowhere = f"contract.{uuid4().hex}"
    outcomes = await broker.publish([(queue, b"a"), (nowhere, b"b"), (queue, b"c")])
    assert [type(outcome) for outcome in outcomes] == [type(None), Unroutable, type(None)]
    inbox = Inbox()
    subscription = await broker.consume(queue, inbox)
    assert [(await inbox.next()).body for _ in range(2)] == [b"a", b"c"]
    await subscription.stop()


async def test_declaring_twice_keeps_the_messages(broker: Broker, queue: str) -> None:
    await send(broker, queue, b"kept")
    await broker.declare(queue)
    inbox = Inbox()
    subscription = await broker.consume(queue, inbox)
    assert (await inbox.next()).body == b"kept"
    await subscription.stop()


async def test_a_removed_queue_takes_nothing(broker: Broker, queue: str) -> None:
    await send(broker, queue, b"gone")
    await broker.remove(queue)
    assert isinstance((await broker.publish([(queue, b"x")]))[0], Unroutable)
    await broker.declare(queue)
    inbox = Inbox()
    subscription = await broker.consume(queue, inbox)
    assert await inbox.is_quiet()
    await subscription.stop()


async def test_prefetch_bounds_what_is_unsettled(broker: Broker, queue: str) -> None:
    await send(broker, queue, *(b"%d" % n for n in range(5)))
    inbox = Inbox()
    subscription = await broker.consume(queue, inbox, prefetch=2)
    first = await inbox.next()
    await inbox.next()
    assert await inbox.is_quiet()
    await first.ack()
    assert (await inbox.next()).body == b"2"
    assert await inbox.is_quiet()
    await subscription.stop()


async def test_what_is_not_acknowledged_comes_again_after_a_stop(broker: Broker, queue: str) -> None:
    await send(broker, queue, b"1", b"2", b"3")
    inbox = Inbox()
    subscription = await broker.consume(queue, inbox)
    await (await inbox.next()).ack()
    await inbox.next()
    await subscription.stop()
    second = Inbox()
    subscription = await broker.consume(queue, second)
    again = [await second.next() for _ in range(2)]
    assert {delivery.body for delivery in again} == {b"2", b"3"}
    assert again[0].redelivered
    for delivery in again:
        await delivery.ack()
    await subscription.stop()


async def test_a_stopped_subscription_reads_no_more(broker: Broker, queue: str) -> None:
    inbox = Inbox()
    subscription = await broker.consume(queue, inbox)
    await subscription.stop()
    await subscription.stop()
    await send(broker, queue, b"later")
    assert await inbox.is_quiet()


async def test_two_readers_share_a_queue(broker: Broker, queue: str) -> None:
    one, two = Inbox(), Inbox()
    subscriptions = [await broker.consume(queue, inbox, prefetch=1) for inbox in (one, two)]
    await send(broker, queue, b"a", b"b")
    assert {(await one.next()).body, (await two.next()).body} == {b"a", b"b"}
    for subscription in subscriptions:
        await subscription.stop()


async def test_a_rejected_message_comes_again_or_goes_to_the_dead_letters(broker: Broker, queue: str) -> None:
    await send(broker, queue, b"refused")
    inbox, dead = Inbox(), Inbox()
    subscription = await broker.consume(queue, inbox)
    await (await inbox.next()).reject(requeue=True)
    again = await inbox.next()
    assert again.redelivered
    await again.reject(requeue=False)
    graveyard = await broker.consume(dead_letters(queue), dead)
    assert (await dead.next()).body == b"refused"
    assert await inbox.is_quiet()
    await subscription.stop()
    await graveyard.stop()


async def test_a_reader_that_raises_goes_on_and_poison_becomes_a_dead_letter(broker: Broker, queue: str) -> None:
    tries, healthy = 0, asyncio.Event()

    async def read(delivery: Delivery) -> None:
        nonlocal tries
        if delivery.body == b"poison":
            tries += 1
            raise ValueError("cannot read this")
        await delivery.ack()
        healthy.set()

    dead = Inbox()
    graveyard = await broker.consume(dead_letters(queue), dead)
    subscription = await broker.consume(queue, read, prefetch=1)
    await send(broker, queue, b"poison", b"good")
    assert (await dead.next()).body == b"poison"
    assert DELIVERY_LIMIT <= tries <= DELIVERY_LIMIT + 1  # brokers differ in whether the first delivery counts
    await asyncio.wait_for(healthy.wait(), PATIENCE)
    await subscription.stop()
    await graveyard.stop()


async def test_a_reader_may_stop_its_own_subscription(broker: Broker, queue: str) -> None:
    stopped = asyncio.Event()

    async def read(delivery: Delivery) -> None:
        await delivery.ack()
        await subscription.stop()
        stopped.set()

    subscription = await broker.consume(queue, read, prefetch=1)
    await send(broker, queue, b"last", b"left")
    await asyncio.wait_for(stopped.wait(), PATIENCE)
    inbox = Inbox()
    second = await broker.consume(queue, inbox)
    assert (await inbox.next()).body == b"left"
    await second.stop()


async def test_stopping_ends_the_readers_that_are_still_busy(broker: Broker, queue: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def read(delivery: Delivery) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    subscription = await broker.consume(queue, read)
    await send(broker, queue, b"slow")
    await asyncio.wait_for(begun.wait(), PATIENCE)
    before = asyncio.all_tasks()
    await subscription.stop()
    assert ended.is_set()
    assert len(asyncio.all_tasks()) < len(before)  # nothing is left running


async def test_nothing_works_before_the_start_and_says_so(broker: Broker, queue: str) -> None:
    await broker.stop()
    assert isinstance((await broker.publish([(queue, b"x")]))[0], BrokerUnreachable)
    with pytest.raises(BrokerUnreachable):
        await broker.consume(queue, Inbox())
    await broker.start()


async def test_reading_from_an_undeclared_queue_is_refused(broker: Broker) -> None:
    with pytest.raises(Unroutable):
        await broker.consume(f"contract.{uuid4().hex}", Inbox())
