"""The orchestrator as an agent sees it, made of the real envelopes and a real broker: for tests of the agent's side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from chargehand.agent import Agent
from chargehand.agent.runtime.control_messages import Cancel, Recorded, StartGrant
from chargehand.agent.runtime.runtime import AgentRuntime
from chargehand.broker.memory import MemoryBroker
from chargehand.broker.weather import Weather
from chargehand.domain.envelopes import ORCHESTRATOR, Envelope, MessageType, decode, derive_key, encode
from chargehand.domain.messages import AgentRegistration, Heartbeat, WorkOrder, WorkResult
from chargehand.domain.ports import EVENTS_QUEUE, HEARTBEATS_QUEUE, Delivery, control_queue, work_queue
from chargehand.domain.value import Value

AGENT_ID = "agent-under-test"
KEY = derive_key(b"master key of the tests", AGENT_ID, 1)
PATIENCE = 10.0  # seconds until an expected message counts as missing
HEARTBEAT = 0.05  # seconds


def make_order(intent: str = "do_it", **fields: Any) -> WorkOrder:
    defaults: dict[str, Any] = {
        "attempt_id": uuid4(),
        "task_id": uuid4(),
        "lease_token": 7,
        "number": 1,
        "intent": intent,
        "work_type": "custom_work",
        "parameters": {},
        "content_hash": "",
        "retry_safe": True,
        "lease_seconds": 30.0,
        "deadline_seconds": 30.0,
    }
    return WorkOrder(**(defaults | fields))


def envelope(kind: MessageType, payload: Value, **fields: Any) -> Envelope:
    defaults: dict[str, Any] = {
        "message_id": uuid4(),
        "from_agent": ORCHESTRATOR,
        "to_agent": AGENT_ID,
        "type": kind,
        "trace_id": uuid4(),
        "request_id": uuid4(),
        "timestamp": datetime.now(UTC),
        "payload": payload.model_dump(mode="json"),
    }
    return Envelope(**(defaults | fields))


class Counterpart:
    """Sends orders and keeps every report. `grants` and `records` answer by themselves unless switched off."""

    def __init__(self, *, weather: Weather | None = None, grants: bool = True, records: bool = True) -> None:
        self.broker = MemoryBroker(weather)
        self.grants, self.records = grants, records
        self.reports: list[Envelope] = []
        self._news = asyncio.Condition()

    async def start(self) -> None:
        await self.broker.start()
        for queue in (EVENTS_QUEUE, HEARTBEATS_QUEUE):
            await self.broker.declare(queue)
            await self.broker.consume(queue, self._on_report)

    async def order(self, order: WorkOrder, *, key: bytes = KEY, **fields: Any) -> WorkOrder:
        wire = encode(envelope(MessageType.WORK_REQUEST, order, **fields), key)
        await self.broker.publish([(work_queue(AGENT_ID), wire)])
        return order

    async def control(self, kind: MessageType, payload: Value, *, key: bytes = KEY) -> None:
        await self.broker.publish([(control_queue(AGENT_ID), encode(envelope(kind, payload), key))])

    async def grant(self, order: WorkOrder, **fields: Any) -> None:
        values = {"attempt_id": order.attempt_id, "lease_token": order.lease_token, "lease_seconds": 30.0} | fields
        await self.control(MessageType.START, StartGrant(**values))

    async def cancel(self, order: WorkOrder, reason: str = "asked to") -> None:
        await self.control(
            MessageType.CANCEL, Cancel(attempt_id=order.attempt_id, lease_token=order.lease_token, reason=reason)
        )

    async def record(self, *attempts: UUID) -> None:
        await self.control(MessageType.RECORDED, Recorded(attempt_ids=attempts))

    async def expect(self, kind: MessageType, check: Callable[[dict[str, Any]], bool] = lambda _: True) -> Envelope:
        """Return the first report of this type that fits, waiting for it if need be."""

        def found() -> Envelope | None:
            return next((e for e in self.reports if e.type is kind and check(e.payload)), None)

        async with asyncio.timeout(PATIENCE), self._news:
            return await self._news.wait_for(found)  # type: ignore[return-value]  # it waits until it is not None

    async def result(self, order: WorkOrder) -> WorkResult:
        wanted = str(order.attempt_id)
        report = await self.expect(MessageType.WORK_RESULT, lambda p: p["attempt_id"] == wanted)
        return WorkResult.model_validate(report.payload)

    async def accepted(self, order: WorkOrder, **expected: Any) -> None:
        fields = {"attempt_id": str(order.attempt_id), **expected}
        await self.expect(MessageType.WORK_ACCEPTED, lambda p: fields.items() <= p.items())

    async def begun(self, order: WorkOrder) -> None:
        wanted = str(order.attempt_id)
        await self.expect(MessageType.WORK_PROGRESS, lambda p: p["attempt_id"] == wanted and p["started"])

    async def said(self, message: str) -> dict[str, Any]:
        return (await self.expect(MessageType.WORK_PROGRESS, lambda p: p["message"] == message)).payload

    async def beats(self, count: int) -> None:
        """Wait for so many more heartbeats."""
        wanted = self.count(MessageType.HEARTBEAT) + count
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.count(MessageType.HEARTBEAT) >= wanted)

    def count(self, kind: MessageType, order: WorkOrder | None = None) -> int:
        about = str(order.attempt_id) if order else None
        return sum(e.type is kind and (about is None or e.payload["attempt_id"] == about) for e in self.reports)

    def registrations(self) -> list[AgentRegistration]:
        return [AgentRegistration.model_validate(e.payload) for e in self.reports if e.type is MessageType.REGISTER]

    def heartbeats(self) -> list[Heartbeat]:
        return [Heartbeat.model_validate(e.payload) for e in self.reports if e.type is MessageType.HEARTBEAT]

    async def _on_report(self, delivery: Delivery) -> None:
        report = decode(delivery.body, KEY, "report")
        await delivery.ack()
        async with self._news:
            self.reports.append(report)
            self._news.notify_all()
        if self.grants and report.type is MessageType.WORK_ACCEPTED and report.payload["needs_grant"]:
            fields = {name: report.payload[name] for name in ("attempt_id", "lease_token", "incarnation")}
            await self.control(MessageType.START, StartGrant(**fields, lease_seconds=30.0))
        if self.records and report.type is MessageType.WORK_RESULT:
            await self.record(UUID(report.payload["attempt_id"]))


@asynccontextmanager
async def counterpart(**options: Any) -> AsyncIterator[Counterpart]:
    made = Counterpart(**options)
    await made.start()
    yield made
    await made.broker.stop()


def make_runtime(agent: Agent, desk: Counterpart, home: Path) -> AgentRuntime:
    return AgentRuntime(agent, desk.broker, agent_id=AGENT_ID, key=KEY, home=home, heartbeat_seconds=HEARTBEAT)


@asynccontextmanager
async def running(agent: Agent, desk: Counterpart, home: Path) -> AsyncIterator[AgentRuntime]:
    runtime = make_runtime(agent, desk, home)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


def sleepers(mark: str) -> set[int]:
    """Return the processes that are `sleep MARK`."""
    return processes_with(f"sleep {mark}", whole=True)


def processes_with(text: str, *, whole: bool = False) -> set[int]:
    """Return the living processes that have `text` on their command line, or as their `whole` command line."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            command = (entry / "cmdline").read_text().replace("\0", " ").strip()
            if state != "Z" and (command == text if whole else text in command):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for something in the world that sends no message, such as a process to end."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
