"""A small orchestrator for tests: real store, real broker, a model that says what the test wrote, agents on paper.

Steps are called by the test one by one, so that it can look, and break things, between any two of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from chargehand.app.reads import Reads
from chargehand.broker.memory import MemoryBroker
from chargehand.domain import seals
from chargehand.domain.envelopes import Envelope, MessageType, decode, derive_key, encode
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.llm import Ask, Reply
from chargehand.domain.messages import (
    Acceptance,
    AgentRegistration,
    Failure,
    Heartbeat,
    Progress,
    WorkOrder,
    WorkResult,
)
from chargehand.domain.ports import Delivery, control_queue, work_queue
from chargehand.domain.states import RequestStatus
from chargehand.domain.value import Value
from chargehand.engine.engine import Engine
from chargehand.engine.loops import Loops
from chargehand.engine.request_control import RequestControl
from chargehand.engine.sweep import Sweep
from chargehand.settings import Settings
from chargehand.store.postgres import PostgresStore
from chargehand.store.queries import Queries
from tests.builders import make_spec

MASTER = b"m" * 32


@dataclass
class WrittenModel:
    """A tier that answers each request with what the test wrote for its words; without that, it has no answer."""

    answers: dict[str, Any] = field(default_factory=dict)
    tier: str = "embedded"
    model: str = "written by the test"
    timeout: float | None = None
    asked: int = 0

    async def structured(self, ask: Ask) -> Reply:
        self.asked += 1
        answer = self.answers.get(ask.text)
        if isinstance(answer, Exception):
            raise answer
        error = None if answer else "no answer was written for this"
        return Reply(tier=self.tier, model=self.model, value=answer, error=error, notice="A test wrote this.")


@dataclass
class PaperAgent:
    """An agent that does what the test says: it signs real messages and reads its real queues."""

    world: World
    agent_id: UUID
    name: str
    incarnation: str = "journal.life"
    generation: int = 1

    @property
    def key(self) -> bytes:
        return derive_key(MASTER, str(self.agent_id), self.generation)

    def message(self, kind: MessageType, payload: Value, **changes: Any) -> bytes:
        """Return a signed report; `changes` are put into the envelope before signing."""
        head = {
            "message_id": uuid4(),
            "from_agent": str(self.agent_id),
            "to_agent": "orchestrator",
            "type": kind,
            "trace_id": uuid4(),
            "timestamp": datetime.now(UTC),
            "payload": payload.model_dump(mode="json"),
        }
        return encode(Envelope.model_validate(head | changes), self.key, self.generation)

    async def say(self, kind: MessageType, payload: Value) -> None:
        await self.world.engine.record([self.message(kind, payload)])

    async def register(self, *intents: IntentSpec, slots: int = 4, cores: int = 8, draining: bool = False) -> None:
        await self.say(
            MessageType.REGISTER,
            AgentRegistration(
                agent_id=str(self.agent_id),
                incarnation=self.incarnation,
                name=self.name,
                agent_type="infra",
                pool_name="test",
                version="1",
                slots=slots,
                resources=Resources(estimated_duration_seconds=0, cpu_cores=cores, memory_mb=4096),
                intents=intents,
                draining=draining,
            ),
        )

    async def orders(self) -> list[WorkOrder]:
        """Publish what waits and return the work orders that arrived, their signatures checked."""
        return [WorkOrder.model_validate(e.payload) for e in await self._drain(work_queue(str(self.agent_id)))]

    async def control(self) -> list[Envelope]:
        """Return the grants, cancels and acknowledgements that arrived."""
        return await self._drain(control_queue(str(self.agent_id)))

    async def accept(self, order: WorkOrder) -> None:
        await self.say(
            MessageType.WORK_ACCEPTED,
            Acceptance(
                attempt_id=order.attempt_id,
                lease_token=order.lease_token,
                incarnation=self.incarnation,
                needs_grant=not order.retry_safe,
            ),
        )

    async def start(self, order: WorkOrder, message: str = "") -> None:
        await self.say(
            MessageType.WORK_PROGRESS,
            Progress(attempt_id=order.attempt_id, lease_token=order.lease_token, started=True, message=message),
        )

    def result(self, order: WorkOrder, failure: Failure | None = None, **fields: Any) -> bytes:
        values: dict[str, Any] = {"summary": "done", "duration_ms": 1000} | fields
        result = WorkResult(
            attempt_id=order.attempt_id, lease_token=order.lease_token, ok=failure is None, failure=failure, **values
        )
        return self.message(MessageType.WORK_RESULT, result)

    async def finish(self, order: WorkOrder, failure: Failure | None = None, **fields: Any) -> None:
        await self.world.engine.record([self.result(order, failure, **fields)])

    def heartbeat(self, *running: UUID, **said: Any) -> bytes:
        beat = Heartbeat(agent_id=str(self.agent_id), incarnation=self.incarnation, running=running, **said)
        return self.message(MessageType.HEARTBEAT, beat)

    async def beat(self, *running: UUID, **said: Any) -> None:
        await self.world.engine.heartbeats([self.heartbeat(*running, **said)])

    async def work_off(self) -> int:
        """Do every order that has arrived, at once and well; return how many there were."""
        orders = await self.orders()
        for order in orders:
            await self.accept(order)
            await self.finish(order)
        return len(orders)

    async def _drain(self, queue: str) -> list[Envelope]:
        await self.world.publish()
        return [decode(body, self.key, "order") for body in await drain(self.world.broker, queue)]


@dataclass
class World:
    """The parts, wired as bootstrap does it."""

    store: PostgresStore
    queries: Queries
    broker: MemoryBroker
    model: WrittenModel
    engine: Engine
    control: RequestControl
    sweep: Sweep
    agents: dict[str, PaperAgent] = field(default_factory=dict)
    loops: Loops | None = None  # where a test lets them run

    @property
    def reads(self) -> Reads:
        """What doors see."""
        return Reads(self.queries, self.engine.settings)

    async def agent(
        self, name: str = "infra-1", *intents: IntentSpec, incarnation: str = "journal.life", **said: Any
    ) -> PaperAgent:
        """Enrol and register an agent; everything it offers is granted."""
        agent = PaperAgent(self, uuid4(), name, incarnation)
        for queue in (work_queue(str(agent.agent_id)), control_queue(str(agent.agent_id))):
            await self.broker.declare(queue)
        async with self.store.transaction() as tx:
            await tx.enrol(agent.agent_id, name, agent_type="infra", pool="test", grant_policy="test")
        await agent.register(*(intents or (make_spec(),)), **said)
        self.agents[name] = agent
        return agent

    async def publish(self) -> None:
        while await self.engine.publish():
            pass

    async def planned(self, *intents: str, words: str = "do it", **options: Any) -> UUID:
        """Submit a request that is understood as these intents, one after the other, and plan it."""
        words = lettered(words)
        self.model.answers[words] = decomposition(*intents)
        request_id = await self.engine.submit(words, requester="ann", **options)
        await self.engine.decompose()
        return request_id

    async def approved(self, *intents: str, words: str = "do it", **options: Any) -> UUID:
        """As `planned`, and approve what was planned."""
        request_id = await self.planned(*intents, words=words, **options)
        plan = await self.queries.plan(request_id)
        assert plan is not None, (await self.queries.request(request_id))["status_reason"]
        await self.control.approve(request_id, plan["digest"], "ann")
        return request_id

    async def status(self, request_id: UUID) -> RequestStatus:
        return RequestStatus((await self.queries.request(request_id))["status"])

    async def task_statuses(self, request_id: UUID) -> list[str]:
        return [task["status"] for task in await self.queries.tasks(request_id)]

    async def kinds(self, request_id: UUID) -> list[str]:
        """Return the kinds of a request's events in order."""
        return [event.kind for event in await self.queries.events(request_id)]

    async def due_now(self) -> None:
        """Let everything that waits for a time be due."""
        await self.run("UPDATE tasks SET due_at = now() WHERE status = 'ready'")
        await self.run("UPDATE outbox SET due_at = NULL")

    async def gone(self, name: str) -> None:
        """Let the registered life of an agent have been silent for so long that it counts as gone."""
        await self.run("UPDATE agent_registry SET last_heartbeat_at = now() - interval '1 hour' WHERE name = $1", name)
        await self.sweep.mark_offline()

    async def lose_leases(self) -> None:
        """Let every open lease have run out long ago."""
        await self.run("UPDATE attempts SET lease_until = now() - interval '1 hour'")

    async def run(self, sql: str, *args: object) -> Any:
        async with self.store.transaction() as tx:
            return await tx._connection.fetch(sql, *args)


def lettered(words: str) -> str:
    """Write numbers as letters: one that no step of the written answer takes would be a question."""
    spelled = re.sub(r"\b(two|three|four|five|six|seven|eight|nine|ten)\b", r"\1-ish", words)
    return spelled.translate(str.maketrans("0123456789", "abcdefghij"))


def decomposition(*intents: str, **fields: Any) -> Mapping[str, Any]:
    """Return a model's answer: these intents in order, each depending on the one before it."""
    subtasks = [
        {
            "order": n,
            "name": intent.replace("_", " "),
            "intent": intent,
            "confidence": 0.95,
            "parameters": {},
            "depends_on": [n - 1] if n > 1 else [],
            "words": intent,
            "flags": [],
        }
        for n, intent in enumerate(intents, 1)
    ]
    return {"subtasks": subtasks, "ambiguities": [], "out_of_scope": [], "assumptions": []} | fields


async def drain(broker: MemoryBroker, queue: str) -> Sequence[bytes]:
    """Take everything that is in a queue now."""
    bodies: list[bytes] = []

    async def take(delivery: Delivery) -> None:
        bodies.append(delivery.body)
        await delivery.ack()

    subscription = await broker.consume(queue, take, prefetch=1000)
    before = -1
    while before != len(bodies):
        before = len(bodies)
        await asyncio.sleep(0.005)
    await subscription.stop()
    return bodies


async def open_world(dsn: str, **settings: Any) -> World:
    """Wire everything over one database."""
    store = PostgresStore(dsn, seals.seal_key(MASTER))
    await store.open()
    broker, model = MemoryBroker(), WrittenModel()
    await broker.start()
    engine = Engine(store, broker, {"embedded": model}, MASTER, Settings(**{"ask_models": "always", **settings}))
    control = RequestControl(engine)
    return World(store, Queries(dsn), broker, model, engine, control, Sweep(engine, control))


async def close_world(world: World) -> None:
    """Give everything back."""
    await world.broker.stop()
    await world.queries.close()
    await world.store.close()
