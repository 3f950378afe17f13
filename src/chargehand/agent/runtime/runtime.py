"""Runs an agent: reads its queues, keeps its promises, tells the orchestrator."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from pydantic import ValidationError

from chargehand import __version__, folders
from chargehand.agent.offers import Agent
from chargehand.agent.runtime.attempt import Surroundings
from chargehand.agent.runtime.attempts import Attempts
from chargehand.agent.runtime.control_messages import Cancel, Recorded, StartGrant
from chargehand.agent.runtime.health import Signs
from chargehand.agent.runtime.heartbeat import Pulse
from chargehand.agent.runtime.journal import Journal
from chargehand.agent.runtime.machine import HERE, Gauges
from chargehand.agent.runtime.reports import Reports, Trace
from chargehand.agent.secrets.lookup import Secrets, SecretSource, sources
from chargehand.agent.secrets.redactor import LogFilter
from chargehand.domain.envelopes import Envelope, MessageType, decode
from chargehand.domain.errors import BadEnvelope, ChargehandError, DiskFull
from chargehand.domain.messages import AgentRegistration, WorkOrder
from chargehand.domain.ports import Broker, Delivery, OnMessage, Subscription, control_queue, work_queue
from chargehand.domain.value import Value

log = logging.getLogger("chargehand.agent")

V = TypeVar("V", bound=Value)


class AgentRuntime:
    """One life of an agent. Start it once; a new life is a new runtime.

    `key` is the agent's own (`envelopes.derive_key`). `home` is a directory that no other agent uses: the journal and
    the attempts' directories live there. The broker must be started, and is left running. `secrets` is where references
    are looked up; None: the environment, the home and the configured command (`agent.secrets.lookup.sources`).
    `gauges` are read for what the machine has.
    """

    def __init__(
        self,
        agent: Agent,
        broker: Broker,
        *,
        agent_id: str,
        key: bytes,
        generation: int = 1,
        home: Path,
        heartbeat_seconds: float = 10.0,
        secrets: SecretSource | None = None,
        gauges: Gauges = HERE,
    ) -> None:
        self.agent, self.agent_id, self.incarnation = agent, agent_id, uuid4().hex
        self.refused: Counter[str] = Counter()  # messages that were not obeyed, by reason
        self._broker, self._key, self._home = broker, key, home
        self.heartbeat_seconds, self._gauges = heartbeat_seconds, gauges
        self._reports = Reports(broker, agent_id, key, generation)
        self._secrets = Secrets(secrets or sources(home))
        self._log_filter = LogFilter(self._secrets.redactor)
        self._subscriptions: dict[str, Subscription] = {}
        self._registered = False
        self._draining = False
        self._ending: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    def _open_journal(self) -> Journal:
        folders.check_home(self._home)
        return Journal.open(self._home / "journal")

    async def start(self) -> None:
        """Open the journal, register, go on with what an earlier life left, and take orders.

        Raises `BadConfiguration` when another agent uses the same home or others may write there, `DiskFull` when
        nothing can be written there, `BrokerUnreachable`, `NotPermitted` or `BadConfiguration` when the queues cannot
        be read.
        """
        self._journal = await asyncio.to_thread(self._open_journal)
        self.incarnation = f"{self._journal.name}.{self.incarnation}"
        around = Surroundings(
            self.agent,
            self._journal,
            self._reports,
            self.incarnation,
            self._home / "work",
            asyncio.Semaphore(self.agent.slots),
            secrets=self._secrets,
        )
        self._attempts = Attempts(around)
        self._pulse = Pulse(
            self.heartbeat_seconds,
            self._reports,
            self._attempts,
            (self.agent_id, self.incarnation),
            self._register_if_unheard,
            gauges=self._gauges,
        )
        self._log_filter.attach()
        try:
            for queue in (control_queue(self.agent_id), work_queue(self.agent_id)):
                await self._broker.declare(queue)
            await self._subscribe(control_queue(self.agent_id), self._on_control)  # recovery may ask for grants
            await self._register()
            self._attempts.recover()
            self._pulse.start()
            await self._subscribe(work_queue(self.agent_id), self._on_work)
        except ChargehandError:  # unreachable, not permitted, a queue made otherwise: another life may want the journal
            await self.stop()
            raise

    async def stop(self, drain: bool = False) -> None:
        """Stop. With `drain` running work is finished first; without, it is ended and its outcome is *unknown*.

        What was accepted and not started is handed back. Stopping twice waits for the first.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(drain=drain), name=f"stop {self.agent_id}")
        elif not drain:
            await self._attempts.end("stop")  # a drain may be under way: its time is over
        await asyncio.shield(self._ending)

    async def run_until_stopped(self) -> None:
        """Wait until `stop` has ended this life."""
        await self._stopped.wait()

    def signs(self) -> Signs:
        """Return what can be seen of a started agent from outside its loop; any thread may ask."""
        return Signs(self._reports.heard, self._pulse.confirmed_at, self._draining, self._home / "journal")

    async def offers_changed(self) -> None:
        """Register again: the agent offers something else now."""
        self._registered = False
        await self._register()

    async def _end(self, *, drain: bool) -> None:
        self._draining = self._pulse.draining = True
        if (orders := self._subscriptions.pop(work_queue(self.agent_id), None)) is not None:
            await orders.stop()
        if drain:
            await self._pulse.beat()  # the orchestrator should know before it chooses us again
            await self._attempts.end("drain", only_unstarted=True)
        await self._attempts.end("stop")
        await self._pulse.stop()
        await self._pulse.beat()
        for subscription in self._subscriptions.values():
            await subscription.stop()
        await self._journal.close()
        self._log_filter.detach()
        self._stopped.set()

    async def _subscribe(self, queue: str, on_message: OnMessage) -> None:
        self._subscriptions[queue] = await self._broker.consume(queue, on_message)

    async def _register_if_unheard(self) -> None:
        if not self._registered:
            await self._register()

    async def _register(self) -> None:
        registration = AgentRegistration(
            agent_id=self.agent_id,
            incarnation=self.incarnation,
            name=self.agent.name,
            agent_type=self.agent.agent_type,
            pool_name=self.agent.pool,
            version=__version__,
            slots=self.agent.slots,
            specializations=self.agent.specializations,
            resources=self.agent.resources or self._gauges.total(),
            intents=tuple(offer.spec for offer in self.agent.offers),
            draining=self._draining,
        )
        self._registered = await self._reports.send(MessageType.REGISTER, registration)

    async def _on_work(self, delivery: Delivery) -> None:
        if (envelope := await self._opened(delivery, {MessageType.WORK_REQUEST})) is None:
            return
        if self._draining:
            await delivery.reject(requeue=True)
            return
        if (order := await self._read(delivery, envelope, WorkOrder)) is None:
            return
        if order.journal not in ("", self._journal.name):
            await self._leave_alone(delivery, order)
            return
        try:
            await self._attempts.take(order, Trace(envelope.trace_id, envelope.request_id, envelope.traceparent))
        except (DiskFull, OSError) as error:
            about = {"attempt_id": order.attempt_id, "task_id": order.task_id, "trace_id": envelope.trace_id}
            log.error("attempt %s is not accepted: %s", order.attempt_id, error, extra=about)
            await asyncio.sleep(self.heartbeat_seconds)  # a full disk does not empty at once; the lease decides
            await delivery.reject(requeue=True)
            return
        await delivery.ack()

    async def _leave_alone(self, delivery: Delivery, order: WorkOrder) -> None:
        """Leave an order to the agent it is for: one with our name and key, but another journal, who may run it now.

        Handed back, it comes to that agent if it lives; else the broker gives up on it, and the lease runs out.
        """
        self.refused["another journal's"] += 1
        log.warning("attempt %s was given to this agent in another home: is there a copy of it?", order.attempt_id)
        await delivery.reject(requeue=True)

    async def _on_control(self, delivery: Delivery) -> None:
        envelope = await self._opened(delivery, {*CONTROL, MessageType.REGISTER})
        if envelope is None:
            return
        if envelope.type is MessageType.REGISTER:
            self._registered = False  # what we said was lost, though it was confirmed; the next heartbeat says it again
        elif (order := await self._read(delivery, envelope, CONTROL[envelope.type])) is None:
            return
        else:
            self._obey(order)
        await delivery.ack()

    def _obey(self, order: Value) -> None:
        if isinstance(order, StartGrant):
            self._attempts.grant(order)
        elif isinstance(order, Cancel):
            self._attempts.cancel(order)
        elif isinstance(order, Recorded):
            self._attempts.recorded(order.attempt_ids)

    async def _opened(self, delivery: Delivery, allowed: set[MessageType]) -> Envelope | None:
        """Return the envelope, or refuse the message: unsigned, forged, another agent's, not an order."""
        try:
            envelope = decode(delivery.body, self._key, "order")
        except BadEnvelope as error:
            await self._refuse(delivery, "bad envelope", str(error))
            return None
        if envelope.to_agent != self.agent_id:
            await self._refuse(delivery, "another agent's", f"it is for {envelope.to_agent}")
        elif envelope.type not in allowed:
            await self._refuse(delivery, "wrong type", f"a {envelope.type} is not accepted on this queue")
        else:
            return envelope
        return None

    async def _read(self, delivery: Delivery, envelope: Envelope, form: type[V]) -> V | None:
        try:
            return form.model_validate(envelope.payload)
        except ValidationError as error:
            await self._refuse(delivery, "bad payload", f"{envelope.type}: {error.error_count()} errors")
            return None

    async def _refuse(self, delivery: Delivery, reason: str, words: str) -> None:
        """Refuse for good: the message goes to the dead letters."""
        self.refused[reason] += 1
        log.warning("agent %s refuses a message: %s", self.agent_id, words)
        await delivery.reject(requeue=False)


CONTROL: dict[MessageType, type[Value]] = {
    MessageType.START: StartGrant,
    MessageType.CANCEL: Cancel,
    MessageType.RECORDED: Recorded,
}
