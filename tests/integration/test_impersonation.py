"""Whoever gets at the broker can write into its queues. Nothing comes of it: every forgery is kept or refused.

The forger here has a broker without users for each agent (`outside` may publish anything), which leaves the signatures;
the tests at the end are about what the broker's own permissions refuse besides.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from aio_pika.exceptions import AMQPChannelError

from bench.programs import Programs
from chargehand.agent import Agent, Work
from chargehand.agent.identity import Identity
from chargehand.agent.runtime.runtime import AgentRuntime
from chargehand.app.application import open_application
from chargehand.broker import dead_letters
from chargehand.broker.rabbitmq import RabbitMQBroker
from chargehand.domain.envelopes import MAX_BYTES, ORCHESTRATOR, Envelope, MessageType, decode, encode
from chargehand.domain.messages import WorkOrder, WorkResult
from chargehand.domain.ports import EVENTS_QUEUE, Broker, Subscription, work_queue
from chargehand.domain.records import journal_of
from chargehand.settings import Settings
from tests.fleet import AGENT_A, AGENT_B, Fleet, remove_queues, serving
from tests.postgres import database_of_its_own
from tests.rabbitmq import PrivateRabbitMQ

NOBODY = str(UUID(int=0xE))
BELL, STARS = "ring the bell", "count the stars"


class Tapped:
    """A broker, and what this user of it has sent: what somebody on the wire could have recorded."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.sent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> list[BaseException | None]:
        self.sent += [body for _, body in messages]
        return await self._broker.publish(messages)


@dataclass
class Scene:
    """A server and a true agent in this process, the identity of another agent, and a forger's way to the broker."""

    fleet: Fleet
    outside: Broker
    identity: Identity
    other: Identity
    rabbit: PrivateRabbitMQ | None
    orders: list[WorkOrder] = field(default_factory=list)
    runs: Counter[UUID] = field(default_factory=Counter)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def agent(self) -> Agent:
        """Return the true agent, or a copy of it: its work is counted and can be held."""
        agent = Agent("near", slots=8)

        async def do(work: Work) -> str:
            self.orders.append(work.order)
            self.runs[work.attempt_id] += 1
            await self.hold.wait()
            return "truly done"

        for intent, examples, safe in (("ring_the_bell", BELL, False), ("count_the_stars", STARS, True)):
            words = (examples, f"please {examples}", f"{examples} now", f"{examples} again")
            agent.work(intent, retry_safe=safe, examples=words, description=examples)(do)
        return agent

    @asynccontextmanager
    async def living(self, home: str, until: str = "incarnation") -> AsyncIterator[tuple[AgentRuntime, Tapped]]:
        """Let the agent live in a home of that name, with a connection of its own where there are connections.

        It is waited for until it is known as the agent, or `until` as its `rival`.
        """
        async with AsyncExitStack() as stack:
            broker: Broker = self.fleet.app.broker
            if self.rabbit is not None:
                broker = RabbitMQBroker(self.rabbit.url_of(AGENT_A), sender=AGENT_A)
                await broker.start()
                stack.push_async_callback(broker.stop)
            tapped, key = Tapped(broker), self.identity.key
            runtime = AgentRuntime(
                self.agent(), tapped, agent_id=AGENT_A, key=key, home=self.fleet.folder / home, heartbeat_seconds=0.5
            )
            await runtime.start()
            stack.push_async_callback(runtime.stop)
            await self.fleet.until(lambda: self.is_known_as(until, runtime.incarnation))
            yield runtime, tapped

    def url_of(self, user: str) -> str:
        assert self.rabbit is not None
        return self.rabbit.url_of(user)

    async def running(self, words: str = BELL) -> tuple[UUID, WorkOrder]:
        """Have work approved and begun; return its request and its order."""
        self.hold.clear()
        before = len(self.orders)
        request_id = await self.fleet.approved(words)
        await self.fleet.until(lambda: len(self.orders) > before)
        await self.fleet.until(
            lambda: self._has_begun(request_id, last="task.progress" if words == BELL else "task.running")
        )
        return request_id, self.orders[-1]

    async def facts(self, request_id: UUID) -> tuple[Any, ...]:
        """Return all that a forgery might have changed."""
        queries = self.fleet.app.queries
        events = [(event.seq, event.kind) for event in await queries.events(request_id)]
        attempts = [(row["attempt_id"], row["status"], row["result"]) for row in await queries.attempts(request_id)]
        agents = [(row["name"], row["incarnation"], row["slots"], row["in_flight"]) for row in await queries.agents()]
        return events, attempts, agents

    async def anomalies(self) -> list[str]:
        """Return the kinds of everything odd so far, oldest first."""
        return [row["kind"] for row in reversed(await self.fleet.app.queries.anomalies())]

    async def forge(self, queue: str, wire: bytes) -> None:
        assert await self.outside.publish([(queue, wire)]) == [None]

    async def kept(self, before: int, kind: str) -> None:
        """Wait for an anomaly after the first `before`, and see that it is of this kind."""
        await self.fleet.until(lambda: self._more_than(before))
        assert (await self.anomalies())[before:] == [kind]

    async def ends_truly(self, request_id: UUID) -> None:
        self.hold.set()
        await self.fleet.reaches(request_id, "completed")
        (task,) = await self.fleet.app.queries.tasks(request_id)
        assert task["result"]["summary"] == "truly done"
        assert set(self.runs.values()) == {1}

    async def _more_than(self, before: int) -> bool:
        return len(await self.anomalies()) > before

    async def _has_begun(self, request_id: UUID, last: str) -> bool:
        """Work that was granted says once more that it has begun; nothing comes after that by itself."""
        return last in {event.kind for event in await self.fleet.app.queries.events(request_id)}

    async def is_known_as(self, what: str, incarnation: str) -> bool:
        """Whether a life is the registered one (`incarnation`), or the one that was refused last (`rival`)."""
        return any(row[what] == incarnation for row in await self.fleet.app.queries.agents())


@asynccontextmanager
async def open_scene(folder: Path, dsn: str, rabbit: PrivateRabbitMQ | None) -> AsyncIterator[Scene]:
    url = rabbit.url_of("server") if rabbit else None
    settings = Settings(home=folder / "home", database_url=dsn, amqp_url=url, heartbeat_seconds=0.5, sweep_seconds=0.5)
    async with AsyncExitStack() as stack:
        if rabbit is not None:
            stack.push_async_callback(remove_queues, rabbit)
        app = await stack.enter_async_context(open_application(settings))
        fleet = Fleet(app, Programs(folder, {}), folder)
        identity, other = await fleet.enrol("near", AGENT_A), await fleet.enrol("far", AGENT_B)
        await stack.enter_async_context(serving(app))
        outside: Broker = app.broker
        if rabbit is not None:
            outside = RabbitMQBroker(rabbit.url)
            await outside.start()
            stack.push_async_callback(outside.stop)
        yield Scene(fleet, outside, identity, other, rabbit)


@pytest.fixture(scope="module", params=["memory", "rabbitmq"])
async def played(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_dsn: str,
    template_database: str,
) -> AsyncIterator[tuple[Scene, AgentRuntime, Tapped]]:
    rabbit = request.getfixturevalue("fleet_rabbitmq") if request.param == "rabbitmq" else None
    folder = tmp_path_factory.mktemp("scene")
    with database_of_its_own(postgres_dsn, template_database) as url:
        async with open_scene(folder, url, rabbit) as scene, scene.living("home") as (runtime, tapped):
            yield scene, runtime, tapped


@pytest.fixture
def scene(played: tuple[Scene, AgentRuntime, Tapped]) -> Scene:
    return played[0]


@pytest.fixture
def runtime(played: tuple[Scene, AgentRuntime, Tapped]) -> AgentRuntime:
    return played[1]


@pytest.fixture
def tapped(played: tuple[Scene, AgentRuntime, Tapped]) -> Tapped:
    return played[2]


# --- reports: to the orchestrator in an agent's name --------------------------------------------------------------


def claim(order: WorkOrder, sender: str, *, token: int = 0, kind: MessageType = MessageType.WORK_RESULT) -> Envelope:
    """Return the claim that the work of an order is done."""
    result = WorkResult(attempt_id=order.attempt_id, lease_token=order.lease_token + token, ok=True, summary="forged")
    return written(sender, ORCHESTRATOR, kind, result.model_dump(mode="json"))


def written(sender: str, to: str, kind: MessageType, payload: dict[str, Any]) -> Envelope:
    return Envelope(
        message_id=uuid4(),
        from_agent=sender,
        to_agent=to,
        type=kind,
        trace_id=uuid4(),
        timestamp=datetime.now(UTC),
        payload=payload,
    )


def unsigned(envelope: Envelope) -> bytes:
    head = {"v": 1, "from": envelope.from_agent, "gen": 1}
    return json.dumps(head).encode() + b"\n" + envelope.model_dump_json().encode()


REPORTS: dict[str, tuple[str, Callable[[Scene, WorkOrder], bytes]]] = {
    "a wrong signature": ("bad_envelope", lambda _, order: encode(claim(order, AGENT_A), b"k" * 32)),
    "no signature": ("bad_envelope", lambda _, order: unsigned(claim(order, AGENT_A))),
    "another agent's signature": ("bad_envelope", lambda s, order: encode(claim(order, AGENT_A), s.other.key)),
    "a generation that is not": ("bad_envelope", lambda s, order: encode(claim(order, AGENT_A), s.identity.key, 2)),
    "another agent's word": ("foreign_work_result", lambda s, order: encode(claim(order, AGENT_B), s.other.key)),
    "an old lease": ("foreign_work_result", lambda s, order: encode(claim(order, AGENT_A, token=-1), s.identity.key)),
    "nobody who is enrolled": ("bad_envelope", lambda _, order: encode(claim(order, NOBODY), b"k" * 32)),
    "the orchestrator itself": ("bad_envelope", lambda s, order: encode(claim(order, ORCHESTRATOR), s.identity.key)),
    "a payload of another kind": (
        "bad_envelope",
        lambda s, order: encode(claim(order, AGENT_A, kind=MessageType.HEARTBEAT), s.identity.key),
    ),
    "an altered body": (
        "bad_envelope",
        lambda s, order: encode(claim(order, AGENT_A), s.identity.key).replace(b'"ok":true', b'"ok":null'),
    ),
    "half a message": ("bad_envelope", lambda s, order: encode(claim(order, AGENT_A), s.identity.key)[:-100]),
    "nothing": ("bad_envelope", lambda *_: b""),
    "bytes": ("bad_envelope", lambda *_: bytes(range(256))),
    "deep JSON": ("bad_envelope", lambda *_: b"[" * 200_000),
    "too much": ("bad_envelope", lambda s, order: encode(claim(order, AGENT_A), s.identity.key) + b" " * MAX_BYTES),
}


@pytest.mark.parametrize("forgery", REPORTS)
async def test_a_forged_report_is_kept_and_changes_nothing(scene: Scene, forgery: str) -> None:
    kind, made = REPORTS[forgery]
    request_id, order = await scene.running()
    facts, before = await scene.facts(request_id), len(await scene.anomalies())
    await scene.forge(EVENTS_QUEUE, made(scene, order))
    await scene.kept(before, kind)
    assert await scene.facts(request_id) == facts
    await scene.ends_truly(request_id)


async def test_a_recorded_result_that_is_played_back_is_kept_and_changes_nothing(scene: Scene, tapped: Tapped) -> None:
    request_id, order = await scene.running()
    await scene.ends_truly(request_id)
    recorded = [decode(wire, scene.identity.key, "report") for wire in tapped.sent]
    number = next(  # an agent says its result again until it is acknowledged: on a slow machine there are several
        n
        for n, report in enumerate(recorded)
        if report.type is MessageType.WORK_RESULT and report.payload["attempt_id"] == str(order.attempt_id)
    )
    facts, before = await scene.facts(request_id), len(await scene.anomalies())
    await scene.forge(EVENTS_QUEUE, tapped.sent[number])
    await scene.kept(before, "repeated_message")
    assert await scene.facts(request_id) == facts
    assert (await scene.fleet.app.verify_audit()).holds


# --- orders: to the agent in the orchestrator's name --------------------------------------------------------------


def task(to: str) -> Envelope:
    order = WorkOrder(
        attempt_id=uuid4(),
        task_id=uuid4(),
        lease_token=10**6,
        number=1,
        intent="count_the_stars",
        work_type="custom_work",
        parameters={},
        content_hash="",
        retry_safe=True,
        lease_seconds=60,
        deadline_seconds=60,
    )
    return written(ORCHESTRATOR, to, MessageType.WORK_REQUEST, order.model_dump(mode="json"))


ORDERS: dict[str, tuple[str, Callable[[Scene], bytes]]] = {
    "no signature": ("bad envelope", lambda _: unsigned(task(AGENT_A))),
    "a wrong signature": ("bad envelope", lambda _: encode(task(AGENT_A), b"k" * 32)),
    "an order to another agent": ("bad envelope", lambda s: encode(task(AGENT_B), s.other.key)),
    "a report of its own": (
        "bad envelope",
        lambda s: encode(task(AGENT_A).model_copy(update={"from_agent": AGENT_A}), s.identity.key),
    ),
    "too much": ("bad envelope", lambda s: encode(task(AGENT_A), s.identity.key) + b" " * MAX_BYTES),
    "bytes": ("bad envelope", lambda _: bytes(range(256))),
}


@pytest.mark.parametrize("forgery", ORDERS)
async def test_a_forged_order_is_refused_and_counted_by_the_agent(
    scene: Scene, runtime: AgentRuntime, forgery: str
) -> None:
    reason, made = ORDERS[forgery]
    request_id, _ = await scene.running()
    facts, before, runs = await scene.facts(request_id), runtime.refused[reason], len(scene.runs)
    buried: asyncio.Queue[bytes] = asyncio.Queue()
    subscription = await _dead_letters(scene, buried)
    await scene.forge(work_queue(AGENT_A), wire := made(scene))
    await scene.fleet.until(lambda: runtime.refused[reason] == before + 1)
    assert await asyncio.wait_for(buried.get(), 10) == wire
    await subscription.stop()
    assert await scene.facts(request_id) == facts
    assert len(scene.runs) == runs
    await scene.ends_truly(request_id)


async def _dead_letters(scene: Scene, buried: asyncio.Queue[bytes]) -> Subscription:
    async def take(delivery: Any) -> None:
        await delivery.ack()
        await buried.put(delivery.body)

    return await scene.outside.consume(dead_letters(work_queue(AGENT_A)), take)


# --- a copy of the agent ------------------------------------------------------------------------------------------


async def test_a_copy_of_an_agent_is_refused_and_no_lease_is_worked_on_twice(
    scene: Scene, runtime: AgentRuntime
) -> None:
    """The same identity in two homes, at the same time, with one queue: whichever reads an order, one works on it."""
    before, runs = await scene.anomalies(), scene.runs.total()
    held = [(await scene.running(words))[0] for words in (BELL, STARS)]
    async with scene.living("another home", until="rival") as (copy, _):
        assert (await scene.anomalies())[len(before) :] == ["second_journal"]
        later = [await scene.fleet.approved(words) for words in (BELL, STARS) * 3]
        await asyncio.sleep(1.5)  # three heartbeats of both: the leases of the first are renewed, too
        scene.hold.set()
        for request_id in (*held, *later):
            await scene.fleet.reaches(request_id, "completed")
            (attempt,) = await scene.fleet.app.queries.attempts(request_id)
            assert scene.runs[attempt["attempt_id"]] == 1
        assert scene.runs.total() == runs + len(held) + len(later)
        assert copy.refused["another journal's"] > 0
        assert runtime.refused["another journal's"] == 0
        (concern,) = await scene.fleet.app.concerns()
        assert concern.kind == "second agent"
    assert await scene.is_known_as("incarnation", runtime.incarnation)
    assert (await scene.anomalies())[len(before) :] == ["second_journal"]


@pytest.mark.parametrize("played", ["memory"], indirect=True)
async def test_homes_change_places_without_a_restart_of_anything_else(scene: Scene, runtime: AgentRuntime) -> None:
    """The one that lives keeps the name; who waits has it when that one is gone; and a restart keeps it at once."""
    async with scene.living("waiting", until="rival") as (waiting, _):
        await runtime.stop()
        await scene.fleet.until(lambda: scene.is_known_as("incarnation", waiting.incarnation))
        async with scene.living("home", until="rival") as (back, _):
            assert await scene.is_known_as("incarnation", waiting.incarnation), "it is refused while that one lives"
            await waiting.stop()
            async with scene.living("waiting") as (again, _):  # the same journal: it need not wait
                assert await scene.is_known_as("rival", back.incarnation)
                await again.stop()
                await scene.fleet.until(lambda: scene.is_known_as("incarnation", back.incarnation))
            scene.hold.set()
            request_id = await scene.fleet.approved(STARS)
            await scene.fleet.reaches(request_id, "completed")
            assert scene.orders[-1].journal == journal_of(back.incarnation)


# --- what the broker refuses by itself, where each agent has a user of its own ------------------------------------
# The in-process one has no users: whoever reaches it is in the process.

with_users = pytest.mark.parametrize("played", ["rabbitmq"], indirect=True)


@with_users
@pytest.mark.parametrize(
    ("exchange", "key", "user_id"),
    [
        pytest.param("chargehand.events", f"events.{AGENT_B}", AGENT_A, id="another's user_id"),
        pytest.param("chargehand.events", f"events.{AGENT_A}", AGENT_B, id="another's routing key"),
        pytest.param("chargehand.work", work_queue(AGENT_A), AGENT_B, id="an order to another agent"),
        pytest.param("", work_queue(AGENT_A), AGENT_B, id="the same through the default exchange"),
        pytest.param("", EVENTS_QUEUE, AGENT_B, id="an event through the default exchange"),
    ],
)
async def test_an_agents_user_is_refused_what_is_another_agents(
    scene: Scene, runtime: AgentRuntime, exchange: str, key: str, user_id: str
) -> None:
    request_id, order = await scene.running()
    facts, before = await scene.facts(request_id), await scene.anomalies()
    forged = aio_pika.Message(encode(claim(order, AGENT_B), scene.other.key), user_id=user_id)
    refused = dict(runtime.refused)
    async with await aio_pika.connect(scene.url_of(AGENT_B)) as raw, raw.channel() as channel:
        with pytest.raises(AMQPChannelError, match=AGENT_B):
            await (await channel.get_exchange(exchange, ensure=False)).publish(forged, key)
    await scene.ends_truly(request_id)
    assert await scene.anomalies() == before
    assert runtime.refused == refused
    assert (await scene.facts(request_id))[0][: len(facts[0])] == facts[0]


@with_users
@pytest.mark.parametrize("queue", [work_queue(AGENT_A), EVENTS_QUEUE])
async def test_an_agents_user_cannot_read_what_is_not_its_own(scene: Scene, queue: str) -> None:
    read: asyncio.Queue[Any] = asyncio.Queue()
    async with await aio_pika.connect(scene.url_of(AGENT_B)) as raw, raw.channel() as channel:
        with pytest.raises(AMQPChannelError, match=AGENT_B):
            await (await channel.get_queue(queue, ensure=False)).consume(read.put)
