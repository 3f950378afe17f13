"""From messages to rows: what agents say is checked, decided on by `execution.recording`, and written at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import BadEnvelope
from chargehand.domain.messages import AgentRegistration, Heartbeat, WorkOrder, WorkResult
from chargehand.domain.plans import WorkTask
from chargehand.domain.ports import control_queue, work_queue
from chargehand.domain.records import (
    Anomaly,
    KnownAgent,
    Limits,
    OutMessage,
    RequestMove,
    RequestRecord,
    Standing,
    TaskRecord,
    journal_of,
)
from chargehand.domain.routing import NO_FIGURES, Figures
from chargehand.domain.signed_messages import Letterhead, Message, SignedMessages, sender_of, split_into_rounds
from chargehand.domain.states import RequestStatus, TaskStatus
from chargehand.domain.value import Value
from chargehand.engine import admission
from chargehand.engine.pace import HEARTBEATS, REGISTRATIONS, Pace
from chargehand.execution import outcomes, recording, task_flow
from chargehand.execution.limits import limits_of
from chargehand.execution.outcomes import Ending, repeatable
from chargehand.execution.recording import LockedRows, Recorded, RecordingPolicy
from chargehand.execution.retry import RetryPolicy
from chargehand.settings import Settings

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction

log = logging.getLogger("chargehand.engine.recorder")


REFUSED = (
    "Another home uses this agent's token while the registered one is there. If you moved it, stop the old one. If"
    " somebody copied the token, run `chargehand agent rotate NAME` and join again with the new one."
)
"""What to do about a second one with an agent's token."""


class Recorder:
    """Writes what agents report. One transaction for as many messages as have come."""

    def __init__(self, settings: Settings, signed: SignedMessages) -> None:
        self._settings = settings
        self._signed = signed
        self._registrations, self._beats = Pace(REGISTRATIONS), Pace(HEARTBEATS)
        usual = Limits(settings.lease_seconds, settings.start_deadline, settings.task_deadline)
        self._policy = RecordingPolicy(RetryPolicy(max_attempts=settings.max_attempts, in_part=settings.in_part), usual)

    async def record(self, tx: Transaction, wires: Sequence[bytes]) -> None:
        """Apply messages from the events queue. What is malformed, unsigned, late or forged is kept as an anomaly."""
        messages = await self._paced(tx, await self.open(tx, wires), AgentRegistration, self._registrations)
        arriving = [message for message in messages if isinstance(message.payload, AgentRegistration)]
        if arriving:
            await self._lock_for(tx, messages, arriving)
        for message in arriving:
            assert isinstance(message.payload, AgentRegistration)
            await self._register(tx, message.payload)
        about = [message for message in messages if message.attempt_id is not None]
        if about:
            await self._record_attempts(tx, about)

    async def heartbeats(self, tx: Transaction, wires: Sequence[bytes]) -> None:
        """Apply heartbeats: agents are alive, and the leases of what they run are renewed.

        A life that is no longer the registered one has its leases renewed, too: it goes by the broker's confirm, so
        it works on, and what it works on must not be given to anybody else.

        A life that never came to be registered is asked to say again who it is: a broker that lost its queues, or a
        database that was restored, forgets what the agent knows to be confirmed. A copy of the agent, which writes
        another journal, is a rival: it is asked as soon as the registered one is gone, and until then refused.
        """
        messages = await self._paced(tx, await self.open(tx, wires), Heartbeat, self._beats)
        beats = [(x.agent, x.payload) for x in messages if isinstance(x.payload, Heartbeat)]
        rivals = {agent.agent_id: beat.incarnation for agent, beat in beats if _is_rival(agent, beat.incarnation)}
        if rivals:
            await tx.lock_agents(agent.agent_id for agent, _ in beats)
            await self._refuse(tx, rivals)
        # In this order: whoever waits for an agent must not hold attempts, which others take after agents.
        await tx.beat([beat for agent, beat in beats if beat.incarnation == agent.incarnation])
        await tx.renew([(attempt, agent.agent_id) for agent, beat in beats for attempt in beat.running])
        unknown = {agent.agent_id: agent for agent, beat in beats if _is_unheard(agent, beat.incarnation)}
        await tx.send([self.control(agent, MessageType.REGISTER, {}) for agent in unknown.values()])

    async def put_aside(self, tx: Transaction, wire: bytes, why: str) -> None:
        """Record that a message came which the database cannot hold: what it said is lost, that it was sent is not.

        A result ends its attempt all the same, and a person looks at the task.
        """
        for message in await self.open(tx, [wire]):
            detail = {"type": message.type, "error": why}
            attempt = message.attempt_id
            await tx.keep_anomalies([Anomaly("unstorable", detail, str(message.agent.agent_id), attempt)])
            if isinstance(message.payload, WorkResult):
                plainer = replace(message, payload=outcomes.unstored(message.payload, why))
                await self._record_attempts(tx, [plainer])

    async def open(self, tx: Transaction, wires: Sequence[bytes]) -> list[Message]:
        """Check signatures and forms; what fails becomes an anomaly and nothing else."""
        senders: list[UUID | None] = []
        anomalies: list[Anomaly] = []
        for wire in wires:
            try:
                senders.append(sender_of(wire))
            except BadEnvelope as error:
                senders.append(None)
                anomalies.append(Anomaly("bad_envelope", {"error": str(error)}))
        agents = await tx.known_agents(sender for sender in senders if sender)
        messages = []
        for wire, sender in zip(wires, senders, strict=True):
            if sender is None:
                continue
            try:
                message = self._signed.open(wire, agents.get(sender))
                messages.append(message)
                if message.generation > message.agent.spoken_generation:
                    await tx.speak_generation(message.agent.agent_id, message.generation)
            except BadEnvelope as error:
                anomalies.append(Anomaly("bad_envelope", {"error": str(error)}, agent_id=str(sender)))
        await tx.keep_anomalies(anomalies)
        return messages

    async def _paced(
        self, tx: Transaction, messages: Sequence[Message], form: type[Value], pace: Pace
    ) -> list[Message]:
        """Return the messages without those of a kind that come too often; that they did is kept, now and then."""
        now = asyncio.get_running_loop().time()
        kept = [m for m in messages if not isinstance(m.payload, form) or pace.allows(m.agent.agent_id, now)]
        anomalies = []
        for agent in {message.agent.agent_id: message.agent for message in messages}.values():
            if dropped := pace.news(agent.agent_id, now):
                detail = {"kind": form.__name__, "dropped": dropped}
                anomalies.append(Anomaly("too_frequent", detail, str(agent.agent_id)))
        await tx.keep_anomalies(anomalies)
        return kept

    def order(
        self,
        agent: KnownAgent,
        kind: MessageType,
        payload: Value | dict[str, object],
        about: RequestRecord | None = None,
    ) -> bytes:
        """Return a signed order, ready for the outbox."""
        trace, request = (about.trace_id, about.request_id) if about else (uuid4(), None)
        head = Letterhead(uuid4(), trace, request, datetime.now(UTC))
        return self._signed.order(agent, kind, payload, head)

    def limits(self, spec: WorkTask, seen: Figures = NO_FIGURES) -> Limits:
        """Return how long an attempt at a task may take on an agent (see `limits_of`)."""
        return limits_of(spec, self._policy.usual, seen)

    def work_order(
        self, agent: KnownAgent, task: TaskRecord, request: RequestRecord, lease: tuple[UUID, int, int], run: float
    ) -> OutMessage:
        """Return the message that hands a task to an agent; `lease` is (attempt id, token, number), `run` how many
        seconds it may take."""
        attempt_id, token, number = lease
        spec = task.spec
        payload = WorkOrder(
            attempt_id=attempt_id,
            task_id=task.task_id,
            lease_token=token,
            number=number,
            name=spec.name,
            intent=spec.intent,
            work_type=spec.work_type,
            parameters=task.parameters,
            content_hash=spec.content_hash,
            hosts=spec.hosts,
            retry_safe=repeatable(task, request),
            dry_run=request.dry_run,
            lease_seconds=self.limits(spec).lease,
            deadline_seconds=run,
            journal=agent.journal,
        )
        body = self.order(agent, MessageType.WORK_REQUEST, payload, request)
        return OutMessage(work_queue(str(agent.agent_id)), body, attempt_id)

    def control(
        self, agent: KnownAgent, kind: MessageType, payload: dict[str, object], about: RequestRecord | None = None
    ) -> OutMessage:
        """Return a grant, a cancel or an acknowledgement for an agent."""
        return OutMessage(control_queue(str(agent.agent_id)), self.order(agent, kind, payload, about))

    async def end(self, tx: Transaction, endings: Sequence[Ending]) -> None:
        """Write ended attempts and all that follows from each for its task, its agent and its request."""
        await self.write(tx, recording.ended(endings, self._policy.retry))

    async def write(self, tx: Transaction, recorded: Recorded) -> None:
        """Write what was decided, all rows of a kind at once, and what follows for the requests."""
        await tx.move_attempts(recorded.attempts)
        await tx.move_tasks(recorded.tasks)
        await tx.renew(recorded.renewed)
        await tx.mark_begun(recorded.begun)
        for review in recorded.reviews:
            await tx.add_review(review)
        for request_id, kind, data, task_id, attempt_id in recorded.events:
            tx.note(request_id, kind, data, task_id=task_id, attempt_id=attempt_id)
        tx.learn(recorded.outcomes, self._settings.circuit_failures, self._settings.circuit_seconds)
        await self.settle(tx, recorded.settle)
        await tx.keep_anomalies(recorded.anomalies)
        await tx.send([self.control(*control) for control in recorded.controls])
        await tx.mark_cancel_sent(recorded.cancelled)

    async def settle(self, tx: Transaction, request_ids: Iterable[UUID]) -> None:
        """Release the tasks that may start now and end the requests that are done. The requests must be locked."""
        ids = set(request_ids)
        if ids:
            await self.proceed(tx, await tx.lock_requests(ids), await tx.standings(ids))

    async def proceed(
        self, tx: Transaction, requests: Mapping[UUID, RequestRecord], tasks: Mapping[UUID, Sequence[task_flow.Task]]
    ) -> None:
        """As `settle`, with locked requests and their tasks, as they stand now, in hand."""
        moves = [
            move
            for request_id, request in requests.items()
            if request.status is RequestStatus.RUNNING
            for move in task_flow.next_moves(tasks.get(request_id, []), request.mode)
        ]
        await tx.move_tasks(moves)
        status = {move.task_id: move.new for move in moves}
        await tx.move_requests(
            [
                RequestMove(request.request_id, request.status, *ended)
                for request in requests.values()
                if request.status in (RequestStatus.RUNNING, RequestStatus.CANCELLING)
                and (ended := task_flow.outcome(_moved(tasks.get(request.request_id, ()), status), request.status))
            ]
        )

    async def _lock_for(self, tx: Transaction, messages: Sequence[Message], arriving: Sequence[Message]) -> None:
        """Lock all that messages with registrations among them touch: requests before agents, each in id order."""
        agents = {message.agent.agent_id for message in arriving}
        known = await tx.attempts(message.attempt_id for message in messages if message.attempt_id)
        requests = {attempt.request_id for attempt in known.values()}
        for agent_id in sorted(agents):
            requests |= {left.request_id for left in await tx.undelivered(agent_id)}
        await tx.lock_requests(requests)
        # With those whose slots results will free: locked later, they could come before one that is locked by then.
        await tx.lock_agents(agents | {attempt.agent_id for attempt in known.values()})

    async def _refuse(self, tx: Transaction, rivals: Mapping[UUID, str]) -> None:
        """Keep who was refused an agent's name, for people; the agents must be locked."""
        for agent_id in await tx.refuse_rivals(rivals):
            detail = {"refused": rivals[agent_id], "hint": REFUSED}
            await tx.keep_anomalies([Anomaly("second_journal", detail, str(agent_id))])
            log.warning("a second one with the token of agent %s is refused", agent_id)

    async def _register(self, tx: Transaction, said: AgentRegistration) -> None:
        """Take over what an agent says of itself, and send it again what its former life may not have seen.

        It is refused while another journal's life is there: who lives keeps the name.
        """
        agent_id = UUID(said.agent_id)
        agent = (await tx.known_agents([agent_id]))[agent_id]  # as it stands now that it is locked
        if not await tx.register(agent.name, said, agent.grant_policy):
            await self._refuse(tx, {agent_id: said.incarnation})
            return
        if agent.journal not in ("", journal_of(said.incarnation)):
            # A copy of the agent, or its disk was lost. What another journal may know of is left to its lease.
            detail = {"registered": said.incarnation, "instead_of": agent.incarnation}
            await tx.keep_anomalies([Anomaly("another_journal", detail, str(agent.agent_id))])
            return
        # A new life of the agent may never have seen what its former one was sent. Its journal knows; the lease is
        # the same, so an order it does know is not run again.
        for left in await tx.undelivered(agent.agent_id):
            request = (await tx.lock_requests([left.request_id]))[left.request_id]
            tasks = (await tx.tasks_of([left.request_id]))[left.request_id]
            task = next(t for t in tasks if t.task_id == left.task.task_id)
            if await admission.unapproved(tx, {request.request_id: request}, [task]):
                continue  # a lease that was written into the database by somebody who cannot approve
            lease = (left.attempt_id, left.lease_token, left.number)
            whole, _ = await admission.supply(tx, [task])
            await tx.send([self.work_order(agent, each, request, lease, left.run_seconds) for each in whole])

    async def _record_attempts(self, tx: Transaction, messages: Sequence[Message]) -> None:
        """Lock the requests, all of them before anything else; then decide and write round by round."""
        found = await tx.attempts(message.attempt_id for message in messages if message.attempt_id)
        requests = await tx.lock_requests({attempt.request_id for attempt in found.values()})
        for number, of_round in enumerate(split_into_rounds(messages)):
            if number:
                requests = await tx.lock_requests(requests)  # as the round before has left them
            rows = await self._rows(tx, of_round, requests)
            await self.write(tx, recording.decide(of_round, rows, self._policy))

    async def _rows(
        self, tx: Transaction, messages: Sequence[Message], requests: Mapping[UUID, RequestRecord]
    ) -> LockedRows:
        """Read what a round of messages is about. The lock on a request covers its tasks and attempts."""
        attempts = await tx.attempts(message.attempt_id for message in messages if message.attempt_id)
        tasks = await tx.tasks(attempt.task_id for attempt in attempts.values())
        compared = await tx.compare_results(recording.results_again(messages, attempts))
        elsewhere = await tx.able_elsewhere(recording.failed_here(messages))
        return LockedRows(requests, tasks, attempts, compared, elsewhere)


def _moved(tasks: Sequence[task_flow.Task], status: Mapping[UUID, TaskStatus]) -> list[Standing]:
    return [Standing(t.task_id, t.request_id, t.order, status.get(t.task_id, t.status), t.spec) for t in tasks]


def _is_rival(agent: KnownAgent, incarnation: str) -> bool:
    """Whether this is a life with another journal than that of the registered one, which is there."""
    return agent.is_there and agent.journal not in ("", journal_of(incarnation))


def _is_unheard(agent: KnownAgent, incarnation: str) -> bool:
    """Whether a living agent's registration is missing, and not because another home's has its place."""
    return incarnation != agent.incarnation and not _is_rival(agent, incarnation)
