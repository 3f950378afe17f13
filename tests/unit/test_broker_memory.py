"""What only the in-process broker promises: weather, bounded queues, a look inside."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from chargehand.broker import dead_letters
from chargehand.broker.memory import MemoryBroker
from chargehand.broker.weather import Fate, Rough
from chargehand.domain.errors import BrokerUnreachable
from chargehand.domain.ports import Delivery


async def received(broker: MemoryBroker, sent: int, *, seconds: float = 0.05) -> list[bytes]:
    bodies: list[bytes] = []

    async def read(delivery: Delivery) -> None:
        bodies.append(delivery.body)
        await delivery.ack()

    await broker.start()
    await broker.declare("q")
    await broker.publish([("q", b"%d" % n) for n in range(sent)])
    await broker.consume("q", read, prefetch=1)
    await asyncio.sleep(seconds)
    await broker.stop()
    return bodies


@pytest.mark.parametrize(
    ("weather", "check"),
    [
        ({"lose": 0.5}, lambda bodies: 10 < len(bodies) < 40 and len(set(bodies)) == len(bodies)),
        ({"duplicate": 0.5}, lambda bodies: len(bodies) > 60 and len(set(bodies)) == 50),
        ({"delay": 0.5, "longest_delay": 0.02}, lambda bodies: len(bodies) == 50 and bodies != sorted(bodies, key=int)),
    ],
    ids=["lose", "duplicate", "delay"],
)
async def test_rough_weather_does_what_it_says(weather, check) -> None:
    assert check(await received(MemoryBroker(Rough(Random(4), **weather)), 50))


async def test_the_same_seed_is_the_same_weather() -> None:
    fates = [[Rough(Random(seed), lose=0.2, duplicate=0.2, delay=0.5).fate("q")] * 5 for seed in (1, 1, 2)]
    assert fates[0] == fates[1] != fates[2]


async def test_an_unconfirmed_message_may_have_arrived() -> None:
    class Unconfirmed:
        def fate(self, queue: str) -> Fate:
            return Fate(confirmed=False)

    broker = MemoryBroker(Unconfirmed())
    await broker.start()
    await broker.declare("q")
    [outcome] = await broker.publish([("q", b"x")])
    assert isinstance(outcome, BrokerUnreachable)
    assert broker.peek("q") == (b"x",)
    await broker.stop()


async def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    broker = MemoryBroker(max_length=2)
    await broker.start()
    await broker.declare("q")
    outcomes = await broker.publish([("q", b"1"), ("q", b"2"), ("q", b"3")])
    assert outcomes[:2] == [None, None]
    assert isinstance(outcomes[2], BrokerUnreachable)
    assert broker.peek("q") == (b"1", b"2")
    await broker.stop()


async def test_dead_letters_can_be_looked_at() -> None:
    async def refuse(delivery: Delivery) -> None:
        await delivery.reject(requeue=False)

    broker = MemoryBroker()
    await broker.start()
    await broker.declare("q")
    await broker.consume("q", refuse)
    await broker.publish([("q", b"bad")])
    await asyncio.sleep(0.01)
    assert broker.peek(dead_letters("q")) == (b"bad",)
    await broker.stop()


async def test_settling_twice_is_a_mistake() -> None:
    problems: list[str] = []

    async def read(delivery: Delivery) -> None:
        await delivery.ack()
        try:
            await delivery.ack()
        except RuntimeError as error:
            problems.append(str(error))

    broker = MemoryBroker()
    await broker.start()
    await broker.declare("q")
    await broker.consume("q", read)
    await broker.publish([("q", b"x")])
    await asyncio.sleep(0.01)
    await broker.stop()
    assert problems == ["a delivery is acknowledged or rejected exactly once"]


async def test_messages_outlive_a_stop_and_late_ones_land() -> None:
    class Late:
        def fate(self, queue: str) -> Fate:
            return Fate(delay=60)

    broker = MemoryBroker(Late())
    await broker.start()
    await broker.declare("q")
    await broker.publish([("q", b"x")])
    assert broker.peek("q") == ()
    await broker.stop()
    assert broker.peek("q") == (b"x",)
