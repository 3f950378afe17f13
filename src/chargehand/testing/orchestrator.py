"""A small orchestrator: sends signed orders to one agent over a broker in memory, and keeps every report."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

from chargehand.agent.runtime.control_messages import Cancel, Recorded, StartGrant
from chargehand.broker.memory import MemoryBroker
from chargehand.broker.weather import Weather
from chargehand.domain.envelopes import ORCHESTRATOR, Envelope, MessageType, decode, derive_key, encode
from chargehand.domain.messages import Acceptance, AgentRegistration, Heartbeat, Progress, WorkOrder, WorkResult
from chargehand.domain.ports import EVENTS_QUEUE, HEARTBEATS_QUEUE, Delivery, control_queue, work_queue
from chargehand.domain.value import Value

T = TypeVar("T")
V = TypeVar("V", bound=Value)

AGENT_ID = "agent-under-test"
KEY = derive_key(b"the master key of a test", AGENT_ID, 1)


class Orchestrator:
    """What the orchestrator does for one agent. With `grants` and `records` it answers by itself.

    Everything that waits raises TimeoutError after `patience` seconds.
    """

    def __init__(self, *, weather: Weather | None, grants: bool, records: bool, patience: float) -> None:
        self.broker = MemoryBroker(weather)
        self.grants, self.records, self.patience = grants, records, patience
        self.reports: list[Envelope] = []
        self._news = asyncio.Condition()

    async def open(self) -> None:
        await self.broker.start()
        for queue in (EVENTS_QUEUE, HEARTBEATS_QUEUE):
            await self.broker.declare(queue)
            await self.broker.consume(queue, self._on_report)

    async def send(self, order: WorkOrder) -> None:
        """Send an order; once more is what happens when the orchestrator is not sure."""
        await self._publish(work_queue(AGENT_ID), MessageType.WORK_REQUEST, order)

    async def grant(self, order: WorkOrder) -> None:
        """Give leave to start. By itself with `grants`."""
        await self._control(
            MessageType.START,
            StartGrant(attempt_id=order.attempt_id, lease_token=order.lease_token, lease_seconds=order.lease_seconds),
        )

    async def cancel(self, order: WorkOrder, reason: str = "cancelled by the test") -> None:
        await self._control(
            MessageType.CANCEL, Cancel(attempt_id=order.attempt_id, lease_token=order.lease_token, reason=reason)
        )

    async def record(self, *orders: WorkOrder) -> None:
        """Say that the results are in the database, so that the agent forgets them. By itself with `records`."""
        await self._control(MessageType.RECORDED, Recorded(attempt_ids=tuple(order.attempt_id for order in orders)))

    async def accepted(self, order: WorkOrder) -> Acceptance:
        """Wait until the agent has the order in its journal."""
        return await self._of(order, MessageType.WORK_ACCEPTED, Acceptance)

    async def begun(self, order: WorkOrder) -> Progress:
        """Wait until the work has begun."""
        return await self._of(order, MessageType.WORK_PROGRESS, Progress, lambda progress: progress.started)

    async def said(self, order: WorkOrder, message: str) -> Progress:
        """Wait until the work says this. What is said more than 20 times a second is merged, so it may never arrive."""
        return await self._of(order, MessageType.WORK_PROGRESS, Progress, lambda said: said.message == message)

    async def result(self, order: WorkOrder) -> WorkResult:
        """Wait for the result."""
        return await self._of(order, MessageType.WORK_RESULT, WorkResult)

    async def beats(self, count: int) -> None:
        """Wait for so many more heartbeats."""
        wanted = self.count(MessageType.HEARTBEAT) + count
        await self._until(lambda: True if self.count(MessageType.HEARTBEAT) >= wanted else None)

    def count(self, kind: MessageType, order: WorkOrder | None = None) -> int:
        """Return how many reports of a type have come, about one order or in all."""
        about = None if order is None else str(order.attempt_id)
        return sum(r.type is kind and about in (None, r.payload.get("attempt_id")) for r in self.reports)

    @property
    def registrations(self) -> list[AgentRegistration]:
        """Every registration of the agent: the last one is what it offers."""
        return self._all(MessageType.REGISTER, AgentRegistration)

    @property
    def results(self) -> dict[UUID, WorkResult]:
        """The result of each attempt that has ended."""
        return {result.attempt_id: result for result in self._all(MessageType.WORK_RESULT, WorkResult)}

    @property
    def heartbeats(self) -> list[Heartbeat]:
        return self._all(MessageType.HEARTBEAT, Heartbeat)

    async def _of(
        self, order: WorkOrder, kind: MessageType, form: type[V], fits: Callable[[V], bool] = lambda _: True
    ) -> V:
        wanted = str(order.attempt_id)

        def found() -> V | None:
            ours = (r for r in self.reports if r.type is kind and r.payload.get("attempt_id") == wanted)
            return next((value for value in map(_reader(form), ours) if fits(value)), None)

        return await self._until(found)

    async def _until(self, found: Callable[[], T | None]) -> T:
        try:
            async with asyncio.timeout(self.patience), self._news:
                while (value := found()) is None:
                    await self._news.wait()
                return value
        except TimeoutError:
            heard = dict(Counter(str(report.type) for report in self.reports))
            raise TimeoutError(f"it did not come within {self.patience:g} s; so far came {heard}") from None

    def _all(self, kind: MessageType, form: type[V]) -> list[V]:
        return [_reader(form)(report) for report in self.reports if report.type is kind]

    async def _control(self, kind: MessageType, payload: Value) -> None:
        await self._publish(control_queue(AGENT_ID), kind, payload)

    async def _publish(self, queue: str, kind: MessageType, payload: Value) -> None:
        envelope = Envelope(
            message_id=uuid4(),
            from_agent=ORCHESTRATOR,
            to_agent=AGENT_ID,
            type=kind,
            trace_id=uuid4(),
            request_id=uuid4(),
            timestamp=datetime.now(UTC),
            payload=payload.model_dump(mode="json"),
        )
        await self.broker.publish([(queue, encode(envelope, KEY))])

    async def _on_report(self, delivery: Delivery) -> None:
        report = decode(delivery.body, KEY, "report")
        await delivery.ack()
        async with self._news:
            self.reports.append(report)
            self._news.notify_all()
        if self.grants and report.type is MessageType.WORK_ACCEPTED and report.payload["needs_grant"]:
            asked = Acceptance.model_validate(report.payload)
            ids = {"attempt_id": asked.attempt_id, "lease_token": asked.lease_token}
            await self._control(MessageType.START, StartGrant(**ids, lease_seconds=60.0, incarnation=asked.incarnation))
        if self.records and report.type is MessageType.WORK_RESULT:
            attempt_id = UUID(str(report.payload["attempt_id"]))
            await self._control(MessageType.RECORDED, Recorded(attempt_ids=(attempt_id,)))


def _reader(form: type[V]) -> Callable[[Envelope], V]:
    return lambda report: form.model_validate(report.payload)
