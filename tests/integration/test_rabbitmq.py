"""RabbitMQ alone: what the contract suite cannot ask of a broker in memory. Outages, refusals, users, secrets."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.exceptions import AMQPChannelError
from pamqp.common import FieldTable

from bench.cable import Cable
from chargehand.agent import Agent
from chargehand.agent.runtime.runtime import AgentRuntime
from chargehand.broker import DELIVERY_LIMIT, dead_letters
from chargehand.broker.rabbitmq import RabbitMQBroker
from chargehand.broker.rabbitmq.link import Backoff
from chargehand.broker.rabbitmq.opening import own_user
from chargehand.domain.errors import BadConfiguration, BrokerUnreachable, NotPermitted, Unroutable
from chargehand.domain.ports import EVENTS_QUEUE, HEARTBEATS_QUEUE, Delivery, control_queue, work_queue
from tests.rabbitmq import PrivateRabbitMQ, free_ports

PATIENCE = 30.0  # seconds; starting RabbitMQ takes 6 to 8
QUICK = Backoff(first=0.05, most=0.5)


class Reader:
    """Acknowledges and remembers."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._more = asyncio.Condition()

    async def __call__(self, delivery: Delivery) -> None:
        await delivery.ack()
        async with self._more:
            self.bodies.append(delivery.body)
            self._more.notify_all()

    async def has(self, *bodies: bytes) -> None:
        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(lambda: set(bodies) <= set(self.bodies))


@asynccontextmanager
async def running(url: str, **options: Any) -> AsyncIterator[RabbitMQBroker]:
    broker = RabbitMQBroker(url, **({"backoff": QUICK} | options))
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


@asynccontextmanager
async def over_cable(
    server: PrivateRabbitMQ, namespace: str, *, delay: float = 0.0, **options: Any
) -> AsyncIterator[tuple[Cable, RabbitMQBroker]]:
    async with Cable(server.port, delay=delay) as cable:
        url = server.url_of("root", port=cable.port)
        async with running(url, namespace=namespace, **options) as broker:
            yield cable, broker


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
async def broker(private_rabbitmq: PrivateRabbitMQ, namespace: str) -> AsyncIterator[RabbitMQBroker]:
    async with running(private_rabbitmq.url, namespace=namespace) as started:
        yield started


async def publish_until_confirmed(broker: RabbitMQBroker, queue: str, body: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        while (outcome := (await broker.publish([(queue, body)]))[0]) is not None:
            assert isinstance(outcome, BrokerUnreachable)
            await asyncio.sleep(0.05)


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "http://user:hush@host/", "amqp://user:hush@host:port/", "amqp:///", "amqp://a:hu/sh@host/"],
)
def test_a_url_that_is_not_one_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(BadConfiguration) as refusal:
        RabbitMQBroker(url)
    assert "hush" not in str(refusal.value) + "".join(traceback.format_exception(refusal.value))
    assert "amqp://user:password@host" in refusal.value.hint


async def test_no_broker_is_said_with_its_address_and_what_to_check() -> None:
    [port] = free_ports(1)
    with pytest.raises(BrokerUnreachable, match=f"amqp://eve@127.0.0.1:{port}") as error:
        await RabbitMQBroker(f"amqp://eve:hush@127.0.0.1:{port}/vhost").start()
    assert "Is RabbitMQ running there?" in error.value.hint


async def test_something_else_than_a_broker_is_not_waited_for() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnreachable):
            await RabbitMQBroker(f"amqp://127.0.0.1:{port}/").start()


async def test_a_wrong_password_is_said_and_kept_out_of_every_log(
    private_rabbitmq: PrivateRabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = RabbitMQBroker(private_rabbitmq.url_of("root", "hush-hush/1"))
    with pytest.raises(BrokerUnreachable) as error:
        await wrong.start()
    assert "user and password" in error.value.hint
    async with running(private_rabbitmq.url) as right:  # and what is logged when all goes well
        assert repr(right.address) == "Address()"
    written = caplog.text + error.value.hint + "".join(traceback.format_exception(error.value))
    assert written.count("root@127.0.0.1") > 0
    for secret in ("hush-hush/1", "hush-hush%2F1", private_rabbitmq.passwords["root"]):
        assert secret not in written


async def test_an_unknown_virtual_host_is_unreachable(private_rabbitmq: PrivateRabbitMQ) -> None:
    with pytest.raises(BrokerUnreachable, match="nowhere"):
        await RabbitMQBroker(private_rabbitmq.url + "nowhere").start()


async def test_tls_is_used_and_the_certificate_checked(private_rabbitmq: PrivateRabbitMQ, namespace: str) -> None:
    if not private_rabbitmq.certificate.exists():
        pytest.skip("there is no openssl to make a certificate with")
    with pytest.raises(BrokerUnreachable, match="certificate"):
        await RabbitMQBroker(private_rabbitmq.tls_url).start()
    trusting = f"{private_rabbitmq.tls_url}?cafile={private_rabbitmq.certificate}"
    async with running(trusting, namespace=namespace) as broker:
        await broker.declare("q")
        assert await broker.publish([("q", b"secret")]) == [None]
        await broker.remove("q")


def test_whoever_has_no_rabbitmq_needs_no_library_for_it() -> None:
    code = "import chargehand.broker.memory, chargehand.app.application, sys; sys.exit('aio_pika' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- queues -----------------------------------------------------------------------------------------------------------


async def test_installations_on_one_broker_do_not_see_each_other(
    private_rabbitmq: PrivateRabbitMQ, broker: RabbitMQBroker
) -> None:
    reader, other_reader = Reader(), Reader()
    async with running(private_rabbitmq.url, namespace=f"test-{uuid4().hex[:12]}") as other:
        for each, its_reader in ((broker, reader), (other, other_reader)):
            await each.declare(EVENTS_QUEUE)
            await each.consume(EVENTS_QUEUE, its_reader)
        assert await broker.publish([(EVENTS_QUEUE, b"ours")]) == [None]
        assert await other.publish([(EVENTS_QUEUE, b"theirs")]) == [None]
        await reader.has(b"ours")
        await other_reader.has(b"theirs")
        await other.remove(EVENTS_QUEUE)
    await broker.remove(EVENTS_QUEUE)
    assert (reader.bodies, other_reader.bodies) == ([b"ours"], [b"theirs"])


async def test_a_queue_with_other_settings_is_told_apart_and_a_full_one_too(
    private_rabbitmq: PrivateRabbitMQ, broker: RabbitMQBroker, namespace: str
) -> None:
    async with await aio_pika.connect(private_rabbitmq.url) as raw, raw.channel() as channel:
        bounds: FieldTable = {"x-queue-type": "classic", "x-max-length": 2, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue(f"{namespace}.small", durable=True, arguments=bounds)
        await queue.bind(f"{namespace}.chargehand.work", f"{namespace}.small")
        with pytest.raises(BadConfiguration) as mismatch:
            await broker.declare("small")
        assert "other settings" in mismatch.value.hint
        outcomes = await broker.publish([("small", b"%d" % n) for n in range(20)])
        assert outcomes[0] is None
        assert type(outcomes[-1]) is BrokerUnreachable
    await broker.remove("small")


async def test_what_kills_its_reader_every_time_becomes_a_dead_letter(broker: RabbitMQBroker) -> None:
    await broker.declare("q")
    await broker.publish([("q", b"deadly")])
    dead = Reader()
    await broker.consume(dead_letters("q"), dead)
    arrivals: asyncio.Queue[Delivery] = asyncio.Queue()
    for _ in range(DELIVERY_LIMIT + 1):
        subscription = await broker.consume("q", arrivals.put)
        await asyncio.wait_for(arrivals.get(), PATIENCE)
        await subscription.stop()  # as if the process had died: nothing was said about the message
    await dead.has(b"deadly")
    await broker.remove("q")


async def test_heartbeats_are_not_kept_and_a_bad_one_is_not_tried_again(
    private_rabbitmq: PrivateRabbitMQ, broker: RabbitMQBroker, namespace: str
) -> None:
    for queue in (HEARTBEATS_QUEUE, EVENTS_QUEUE):
        await broker.declare(queue)
        assert await broker.publish([(queue, b"x")]) == [None]
    async with await aio_pika.connect(private_rabbitmq.url) as raw, raw.channel() as channel:
        modes = []
        for queue in (HEARTBEATS_QUEUE, EVENTS_QUEUE):
            message = await (await channel.get_queue(f"{namespace}.{queue}")).get()
            modes.append(message.delivery_mode)
            await message.ack()
        assert modes == [aio_pika.DeliveryMode.NOT_PERSISTENT, aio_pika.DeliveryMode.PERSISTENT]

    tries = 0

    async def fail(_: Delivery) -> None:
        nonlocal tries
        tries += 1
        raise ValueError("cannot read this")

    await broker.consume(HEARTBEATS_QUEUE, fail)
    await broker.publish([(HEARTBEATS_QUEUE, b"bad")])
    await asyncio.sleep(0.3)
    assert tries == 1
    for queue in (HEARTBEATS_QUEUE, EVENTS_QUEUE):
        await broker.remove(queue)


async def test_confirms_are_waited_for_together(private_rabbitmq: PrivateRabbitMQ, namespace: str) -> None:
    async with over_cable(private_rabbitmq, namespace, delay=0.05) as (_, broker):
        await broker.declare("q")
        began = asyncio.get_running_loop().time()
        assert await broker.publish([("q", b"x")] * 100) == [None] * 100
        assert asyncio.get_running_loop().time() - began < 5.0  # one by one: 10 s
        await broker.remove("q")


# --- outages ----------------------------------------------------------------------------------------------------------


async def test_a_lost_connection_is_made_again_and_readers_go_on(
    private_rabbitmq: PrivateRabbitMQ, namespace: str
) -> None:
    async with over_cable(private_rabbitmq, namespace) as (cable, broker):
        await broker.declare("q")
        reader = Reader()
        await broker.consume("q", reader)
        for n in range(4):
            await publish_until_confirmed(broker, "q", b"%d" % n)
            cable.cut()
        await publish_until_confirmed(broker, "q", b"last")
        await reader.has(b"0", b"1", b"2", b"3", b"last")
        assert cable.connections == 5
        await broker.remove("q")


async def test_a_reader_is_not_cut_off_in_the_middle_and_its_message_comes_again(
    private_rabbitmq: PrivateRabbitMQ, namespace: str
) -> None:
    finished: asyncio.Queue[bool] = asyncio.Queue()
    begun, at_once, most = asyncio.Event(), 0, 0
    go_on = asyncio.Event()

    async def write_it_down(delivery: Delivery) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        begun.set()
        await go_on.wait()
        at_once -= 1
        await delivery.ack()  # to a channel that is gone, the first time: nobody is harmed
        await finished.put(delivery.redelivered)

    async with over_cable(private_rabbitmq, namespace) as (cable, broker):
        await broker.declare("q")
        await broker.consume("q", write_it_down, prefetch=1)
        await broker.publish([("q", b"important")])
        await asyncio.wait_for(begun.wait(), PATIENCE)
        cable.cut()
        await publish_until_confirmed(broker, "q", b"next")  # it is connected again
        await asyncio.sleep(0.5)  # and the successor has got its first message
        go_on.set()
        redelivered = [await asyncio.wait_for(finished.get(), PATIENCE) for _ in range(3)]
        assert sorted(redelivered) == [False, False, True]
        assert most == 1  # prefetch holds across connections
        await broker.remove("q")


async def test_what_is_not_confirmed_in_time_has_failed(private_rabbitmq: PrivateRabbitMQ, namespace: str) -> None:
    async with over_cable(private_rabbitmq, namespace, confirm_seconds=0.3) as (cable, broker):
        await broker.declare("q")
        assert await broker.publish([("q", b"a")]) == [None]
        new = [(f"q{n}", b"x") for n in range(20)]
        cable.freeze()
        assert all(await asyncio.wait_for(broker.publish(new), 10.0))  # not one time-out after the other
        outcomes = await asyncio.wait_for(broker.publish([("q", b"b"), ("q", b"c")]), PATIENCE)
        assert [type(outcome) for outcome in outcomes] == [BrokerUnreachable, BrokerUnreachable]
        cable.thaw()
        await publish_until_confirmed(broker, "q", b"d")
        await broker.remove("q")


async def test_stopping_works_while_the_broker_is_away(private_rabbitmq: PrivateRabbitMQ, namespace: str) -> None:
    cable = Cable(private_rabbitmq.port)
    async with cable:
        broker = RabbitMQBroker(private_rabbitmq.url_of("root", port=cable.port), namespace=namespace)
        await broker.start()
        await broker.declare("q")
        await broker.consume("q", Reader())
    await asyncio.sleep(0.2)
    [outcome] = await broker.publish([("q", b"x")])
    assert isinstance(outcome, BrokerUnreachable)
    assert "being made again" in str(outcome)
    with pytest.raises(BrokerUnreachable):
        await broker.declare("q")
    await asyncio.wait_for(broker.stop(), 5.0)
    async with running(private_rabbitmq.url, namespace=namespace) as other:
        await other.remove("q")


async def test_a_queue_deleted_by_somebody_else_is_made_again(
    private_rabbitmq: PrivateRabbitMQ, broker: RabbitMQBroker, namespace: str
) -> None:
    await broker.declare("q")
    reader = Reader()
    await broker.consume("q", reader)
    async with running(private_rabbitmq.url, namespace=namespace) as other:
        await other.remove("q")
    await publish_until_confirmed(broker, "q", b"after")
    await reader.has(b"after")
    await broker.remove("q")
    assert isinstance((await broker.publish([("q", b"x")]))[0], Unroutable)  # our own removal lasts


async def test_nothing_that_was_confirmed_is_lost_when_the_broker_is_killed(
    private_rabbitmq: PrivateRabbitMQ, broker: RabbitMQBroker
) -> None:
    await broker.declare("q")
    reader = Reader()
    await broker.consume("q", reader, prefetch=4)
    confirmed: list[bytes] = []
    failures = 0
    down = asyncio.Event()

    async def publish_all_the_time() -> None:
        nonlocal failures
        number = 0
        while not (down.is_set() and failures and len(confirmed) >= at_the_kill + 50):
            bodies = [b"%d" % (number + n) for n in range(10)]
            number += len(bodies)
            outcomes = await broker.publish([("q", body) for body in bodies])
            confirmed.extend(body for body, outcome in zip(bodies, outcomes, strict=True) if outcome is None)
            failures += sum(isinstance(outcome, BrokerUnreachable) for outcome in outcomes)
            await asyncio.sleep(0.01)

    at_the_kill = 0
    publishing = asyncio.create_task(publish_all_the_time())
    # RabbitMQ 3.10 writes its list of quorum queues to disk with a delay: one that is younger than a second or so comes
    # back without a leader (docs/rabbitmq.md). This test is about messages.
    await asyncio.sleep(2.0)
    private_rabbitmq.kill()
    at_the_kill = len(confirmed)
    assert at_the_kill > 0
    await asyncio.sleep(0.2)  # let the loss be noticed
    down.set()
    await asyncio.to_thread(private_rabbitmq.start)
    await asyncio.wait_for(publishing, PATIENCE)
    await reader.has(*confirmed)
    await broker.remove("q")


async def test_queues_that_the_broker_lost_are_made_again(
    private_rabbitmq: PrivateRabbitMQ, broker: RabbitMQBroker
) -> None:
    await broker.declare("read")
    await broker.declare("only declared")
    reader = Reader()
    await broker.consume("read", reader)
    await asyncio.to_thread(private_rabbitmq.stop)
    private_rabbitmq.wipe()
    await asyncio.to_thread(private_rabbitmq.start)
    for queue in ("read", "only declared"):
        await publish_until_confirmed(broker, queue, b"new")
    await reader.has(b"new")
    for queue in ("read", "only declared"):
        await broker.remove(queue)


# --- users with few permissions, as docs/rabbitmq.md describes them -------------------------------------------------


@pytest.fixture
async def server(private_rabbitmq: PrivateRabbitMQ) -> AsyncIterator[RabbitMQBroker]:
    """A server that has made the queues of two agents, as it does when they are enrolled."""
    queues = [EVENTS_QUEUE, HEARTBEATS_QUEUE]
    queues += [queue(agent) for agent in ("agent-a", "agent-b") for queue in (work_queue, control_queue)]
    async with running(private_rabbitmq.url_of("server")) as broker:
        for queue in queues:
            await broker.declare(queue)
        yield broker
        for queue in queues:
            await broker.remove(queue)


@pytest.fixture
async def agent(private_rabbitmq: PrivateRabbitMQ, server: RabbitMQBroker) -> AsyncIterator[RabbitMQBroker]:
    async with running(private_rabbitmq.url_of("agent-a"), sender="agent-a") as broker:
        yield broker


async def test_an_agents_user_can_do_what_an_agent_does(server: RabbitMQBroker, agent: RabbitMQBroker) -> None:
    events: asyncio.Queue[Any] = asyncio.Queue()
    await server.consume(EVENTS_QUEUE, events.put)
    work, control = Reader(), Reader()
    for queue, reader in ((work_queue("agent-a"), work), (control_queue("agent-a"), control)):
        await agent.declare(queue)
        await agent.consume(queue, reader)
    assert await agent.publish([(EVENTS_QUEUE, b"result"), (HEARTBEATS_QUEUE, b"alive")]) == [None, None]
    delivery = await asyncio.wait_for(events.get(), PATIENCE)
    assert (delivery.body, delivery.user_id) == (b"result", "agent-a")
    assert (
        await server.publish([(work_queue("agent-a"), b"order"), (control_queue("agent-a"), b"cancel")]) == [None] * 2
    )
    await work.has(b"order")
    await control.has(b"cancel")


async def test_an_agents_user_can_do_nothing_else_and_stays_connected(
    server: RabbitMQBroker, agent: RabbitMQBroker
) -> None:
    inbox = Reader()
    await agent.consume(work_queue("agent-a"), inbox)
    for queue in (work_queue("agent-b"), control_queue("agent-b"), EVENTS_QUEUE):
        with pytest.raises(NotPermitted, match="refused for user 'agent-a'") as refusal:
            await agent.consume(queue, Reader())
        assert "docs/rabbitmq.md" in refusal.value.hint
    with pytest.raises(NotPermitted):
        await agent.remove(work_queue("agent-b"))
    with pytest.raises(Unroutable, match="is not there"):
        await agent.declare(work_queue("agent-c"))
    [outcome] = await agent.publish([(work_queue("agent-b"), b"do this")])
    assert isinstance(outcome, NotPermitted)
    assert await server.publish([(work_queue("agent-a"), b"still there?")]) == [None]
    await inbox.has(b"still there?")
    assert await agent.publish([(EVENTS_QUEUE, b"yes")]) == [None]


async def test_an_agent_that_may_not_read_its_queues_leaves_its_home_to_the_next_life(
    private_rabbitmq: PrivateRabbitMQ, server: RabbitMQBroker, agent: RabbitMQBroker, tmp_path: Path
) -> None:
    def life(agent_id: str) -> AgentRuntime:
        return AgentRuntime(Agent("greeter"), agent, agent_id=agent_id, key=b"k" * 32, home=tmp_path)

    with pytest.raises(NotPermitted):
        await life("agent-b").start()
    mended = life("agent-a")
    await mended.start()  # refused while another life has the journal
    await mended.stop()


@pytest.mark.parametrize(("user", "vouched"), [("agent-a", "agent-a"), ("agents", None), ("", None)])
def test_an_agents_user_vouches_for_it_if_it_is_called_so(user: str, vouched: str | None) -> None:
    assert own_user(f"amqp://{user}:hush@127.0.0.1/", "agent-a") == vouched


async def test_a_refused_message_does_not_take_the_others_down(server: RabbitMQBroker, agent: RabbitMQBroker) -> None:
    events = Reader()
    await server.consume(EVENTS_QUEUE, events)
    wanted = [b"%d" % n for n in range(60)]
    messages = [(EVENTS_QUEUE, body) for body in wanted]
    messages.insert(30, (work_queue("agent-b"), b"forbidden"))
    outcomes = await agent.publish(messages)
    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [30]
    assert isinstance(outcomes[30], NotPermitted)
    await events.has(*wanted)


async def test_another_name_is_refused(private_rabbitmq: PrivateRabbitMQ, server: RabbitMQBroker) -> None:
    async with running(private_rabbitmq.url_of("agent-a"), sender="agent-b") as impostor:
        [outcome] = await impostor.publish([(EVENTS_QUEUE, b"I am b")])
        assert isinstance(outcome, NotPermitted)


@pytest.mark.parametrize(
    ("exchange", "key", "user_id"),
    [
        pytest.param("chargehand.events", "events.agent-a", "agent-b", id="another's user_id"),
        pytest.param("chargehand.events", "events.agent-b", "agent-a", id="another's routing key"),
        pytest.param("chargehand.work", "agent.agent-b", "agent-a", id="an order to another agent"),
        pytest.param("", "agent.agent-b", "agent-a", id="the same through the default exchange"),
        pytest.param("chargehand.dead", "events.dead", "agent-a", id="a dead letter"),
    ],
)
async def test_the_broker_refuses_an_agent_that_does_not_use_our_code(
    private_rabbitmq: PrivateRabbitMQ, server: RabbitMQBroker, exchange: str, key: str, user_id: str
) -> None:
    async with await aio_pika.connect(private_rabbitmq.url_of("agent-a")) as raw, raw.channel() as channel:
        with pytest.raises(AMQPChannelError, match="agent-a"):
            await (await channel.get_exchange(exchange, ensure=False)).publish(
                aio_pika.Message(b"forged", user_id=user_id), key
            )
    inbox = Reader()
    await server.consume(EVENTS_QUEUE, inbox)
    await server.publish([(EVENTS_QUEUE, b"end")])
    await inbox.has(b"end")
    assert inbox.bodies == [b"end"]


async def test_a_message_without_a_sender_is_recognisable(
    private_rabbitmq: PrivateRabbitMQ, server: RabbitMQBroker
) -> None:
    """RabbitMQ lets it pass: the signature decides, and `user_id` says that nobody vouches for it."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    await server.consume(EVENTS_QUEUE, events.put)
    async with running(private_rabbitmq.url_of("agent-a")) as nameless:
        assert await nameless.publish([(EVENTS_QUEUE, b"who?")]) == [None]
    delivery = await asyncio.wait_for(events.get(), PATIENCE)
    assert delivery.user_id is None
