"""From letters to rows: what agents say is checked, matched with the leases that are open, and written once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import BadEnvelope
from chargehand.domain.intents import Value
from chargehand.domain.messages import Acceptance, AgentRegistration, Heartbeat, Progress, WorkOrder, WorkResult
from chargehand.domain.plans import WorkTask
from chargehand.domain.ports import control_queue, work_queue
from chargehand.domain.records import (
    Anomaly,
    AttemptMove,
    AttemptRecord,
    KnownAgent,
    Limits,
    OutMessage,
    RequestMove,
    RequestRecord,
    Standing,
    TaskMove,
    TaskRecord,
    journal_of,
)
from chargehand.domain.signed_messages import Letterhead, Message, SignedMessages, rounds, sender_of
from chargehand.domain.states import ATTEMPT_OPEN, AttemptStatus, RequestStatus, TaskStatus
from chargehand.engine import admission
from chargehand.engine.pace import HEARTBEATS, REGISTRATIONS, Pace
from chargehand.execution import task_flow
from chargehand.execution.outcomes import Ending, effects_of, lost_lease, plain, repeatable
from chargehand.execution.retry import RetryPolicy
from chargehand.routing.performance import allowed_seconds
from chargehand.settings import Settings

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction

log = logging.getLogger("chargehand.engine.recorder")

LONGEST_LINE = 2_000  # characters of one: what an agent of ours writes at most
MOST_LINES = 20
"""Lines of one progress message that are kept, the latest: twice what an agent of ours puts into one."""


@dataclass(slots=True)
class LockedRows:
    """The locked rows a batch of letters is about, as they stand after the letters handled so far."""

    requests: dict[UUID, RequestRecord]
    tasks: dict[UUID, TaskRecord]
    attempts: dict[UUID, AttemptRecord]
    agents: dict[UUID, KnownAgent] = field(default_factory=dict)


class Recorder:
    """Writes what agents report. One transaction for as many letters as have come."""

    def __init__(self, settings: Settings, rows: SignedMessages) -> None:
        self._settings = settings
        self._correspondence = rows
        self._retry = RetryPolicy(max_attempts=settings.max_attempts)
        self._registrations, self._beats = Pace(REGISTRATIONS), Pace(HEARTBEATS)

    async def record(self, tx: Transaction, wires: Sequence[bytes]) -> None:
        """Apply messages from the events queue. What is malformed, unsigned, late or forged is kept as an anomaly."""
        messages = await self._paced(tx, await self.open(tx, wires), AgentRegistration, self._registrations)
        arriving = [message for message in messages if isinstance(message.payload, AgentRegistration)]
        if arriving:
            await self._lock_for(tx, messages, arriving)
        for message in arriving:
            assert isinstance(message.payload, AgentRegistration)
            await self._register(tx, message.agent, message.payload)
        about = [message for message in messages if message.attempt_id is not None]
        if about:
            await self._record_attempts(tx, about)

    async def heartbeats(self, tx: Transaction, wires: Sequence[bytes]) -> None:
        """Apply heartbeats: agents are alive, and the leases of what they run are renewed.

        A life that is no longer the registered one has its leases renewed, too: it goes by the broker's confirm, so
        it works on, and what it works on must not be given to anybody else.

        A life that never came to be registered is asked to say again who it is: a broker that lost its queues, or a
        database that was restored, forgets what the agent knows to be confirmed. A copy of the agent, which writes
        another journal, is not asked: the two would take the name from each other with every heartbeat.
        """
        messages = await self._paced(tx, await self.open(tx, wires), Heartbeat, self._beats)
        beats = [(x.agent, x.payload) for x in messages if isinstance(x.payload, Heartbeat)]
        # In this order: whoever waits for an agent must not hold attempts, which others take after agents.
        await tx.beat([beat for agent, beat in beats if beat.incarnation == agent.incarnation])
        await tx.renew([(attempt, agent.agent_id) for agent, beat in beats for attempt in beat.running])
        unknown = {agent.agent_id: agent for agent, beat in beats if _is_unheard(agent, beat.incarnation)}
        await tx.send([self.control(agent, MessageType.REGISTER, {}) for agent in unknown.values()])

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
                message = self._correspondence.open(wire, agents.get(sender))
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
        return self._correspondence.order(agent, kind, payload, head)

    def limits(self, spec: WorkTask, p90_ms: float | None = None) -> Limits:
        """Return a task's own limits where it has some, else the settings'. It may run for longer than it declares on
        an agent that takes nearly as long as that: `p90_ms` is in what time nine in ten of its runs succeed."""
        own, settings = spec.deadlines, self._settings
        declared = min(own.run_seconds or settings.task_deadline, settings.task_deadline)
        run = allowed_seconds(declared, p90_ms, settings.task_deadline)
        why = f"declared {declared:g} s; nine in ten take up to {(p90_ms or 0) / 1000:.1f} s" if run > declared else ""
        return Limits(
            own.heartbeat_seconds or settings.lease_seconds, own.start_seconds or settings.start_deadline, run, why
        )

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
        if not endings:
            return
        found = [effects_of(ending, self._retry) for ending in endings]
        await tx.move_attempts([c.attempt for c in found])
        await tx.move_tasks([c.task for c in found])
        for consequence in found:
            if consequence.review:
                await tx.add_review(consequence.review)
        settings = self._settings
        tx.learn([c.outcome for c in found], settings.circuit_failures, settings.circuit_seconds)
        await self.settle(tx, [e.request.request_id for e in endings])

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
        """Lock all that letters with registrations among them touch: requests before agents, each in id order."""
        agents = {message.agent.agent_id for message in arriving}
        known = await tx.attempts(message.attempt_id for message in messages if message.attempt_id)
        requests = {attempt.request_id for attempt in known.values()}
        for agent_id in sorted(agents):
            requests |= {left.request_id for left in await tx.undelivered(agent_id)}
        await tx.lock_requests(requests)
        # With those whose slots results will free: locked later, they could come before one that is locked by then.
        await tx.lock_agents(agents | {attempt.agent_id for attempt in known.values()})

    async def _register(self, tx: Transaction, agent: KnownAgent, said: AgentRegistration) -> None:
        """Take over what an agent says of itself, and send it again what its former life may not have seen."""
        await tx.register(said, agent.grant_policy)
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
            lease = (left.attempt_id, left.lease_token, left.number)
            whole, _ = await admission.supply(tx, [task])
            await tx.send([self.work_order(agent, each, request, lease, left.run_seconds) for each in whole])

    async def _record_attempts(self, tx: Transaction, messages: Sequence[Message]) -> None:
        ids = [message.attempt_id for message in messages if message.attempt_id]
        known = await tx.attempts(ids)
        requests = await tx.lock_requests({a.request_id for a in known.values()})
        for in_round in rounds(messages):
            attempts = await tx.attempts(ids)
            tasks = await tx.tasks(attempt.task_id for attempt in attempts.values())
            requests = await tx.lock_requests(requests)
            await self._record_round(tx, in_round, LockedRows(requests, tasks, attempts))

    async def _record_round(self, tx: Transaction, in_round: Sequence[Message], rows: LockedRows) -> None:
        endings: list[Ending] = []
        recorded: dict[UUID, list[Message]] = {}
        for message in in_round:
            attempt = rows.attempts.get(message.attempt_id) if message.attempt_id else None
            if isinstance(message.payload, WorkResult):
                recorded.setdefault(message.agent.agent_id, []).append(message)
            if attempt is None or not _holds(attempt, message):
                await self._out_of_turn(tx, message, attempt)
            elif isinstance(message.payload, WorkResult):
                request = rows.requests[attempt.request_id]
                task, said = rows.tasks[attempt.task_id], message.payload
                endings.append(Ending(request, task, attempt, said, message_id=message.message_id))
            elif isinstance(message.payload, Acceptance):
                await self._accepted(tx, message.agent, message.payload, attempt, rows)
            elif isinstance(message.payload, Progress):
                await self._progressed(tx, message.agent, message.payload, attempt, rows)
        await self.end(tx, endings)
        await tx.send([self._recorded(group) for group in recorded.values()])

    def _recorded(self, messages: Sequence[Message]) -> OutMessage:
        ids = [str(message.attempt_id) for message in messages]
        return self.control(messages[0].agent, MessageType.RECORDED, {"attempt_ids": ids})

    async def _accepted(
        self, tx: Transaction, agent: KnownAgent, said: Acceptance, attempt: AttemptRecord, rows: LockedRows
    ) -> None:
        request = rows.requests[attempt.request_id]
        if request.status not in (RequestStatus.RUNNING, RequestStatus.PAUSED):
            await self._cancel(tx, agent, attempt, request)
            return
        if attempt.status is AttemptStatus.STARTED:
            await self._accepted_again(tx, agent, said, attempt, rows)
            return
        new = AttemptStatus.STARTED if said.needs_grant else AttemptStatus.ACCEPTED
        if attempt.status is not new:
            move = AttemptMove(
                attempt.attempt_id,
                attempt.task_id,
                attempt.request_id,
                attempt.status,
                new,
                f"granted to {agent.name}" if said.needs_grant else f"{agent.name} has it in its journal",
                incarnation=said.incarnation,
            )
            await tx.move_attempts([move])
        await tx.renew([(attempt.attempt_id, agent.agent_id)])
        if said.needs_grant:
            await self._task_runs(tx, rows.tasks[attempt.task_id], agent)
            await self._grant(tx, agent, said, rows.tasks[attempt.task_id], request)

    async def _accepted_again(
        self, tx: Transaction, agent: KnownAgent, said: Acceptance, attempt: AttemptRecord, rows: LockedRows
    ) -> None:
        """A started attempt is accepted again: the same life lost the grant; another life may have begun the work."""
        request, task = rows.requests[attempt.request_id], rows.tasks[attempt.task_id]
        if said.incarnation == attempt.incarnation and not said.needs_grant:
            return  # its first progress overtook it
        if said.incarnation == attempt.incarnation:
            await self._grant(tx, agent, said, rows.tasks[attempt.task_id], request)
            return
        text = f"{agent.name} was restarted after it was told to start; whether it did is unknown"
        result = lost_lease(attempt, repeatable=repeatable(task, request), said=text)
        await self.end(tx, [Ending(request, task, attempt, result, reported=False)])
        await self._cancel(tx, agent, attempt, request)

    async def _grant(
        self, tx: Transaction, agent: KnownAgent, said: Acceptance, task: TaskRecord, about: RequestRecord
    ) -> None:
        payload: dict[str, object] = {
            "attempt_id": str(said.attempt_id),
            "lease_token": said.lease_token,
            "lease_seconds": self.limits(task.spec).lease,
            "incarnation": said.incarnation,  # the life that asked; another one must not begin on it
        }
        await tx.send([self.control(agent, MessageType.START, payload, about)])

    async def _progressed(
        self, tx: Transaction, agent: KnownAgent, said: Progress, attempt: AttemptRecord, rows: LockedRows
    ) -> None:
        task = rows.tasks[attempt.task_id]
        if said.started and attempt.status in (AttemptStatus.LEASED, AttemptStatus.ACCEPTED):
            move = AttemptMove(
                attempt.attempt_id,
                attempt.task_id,
                attempt.request_id,
                attempt.status,
                AttemptStatus.STARTED,
                f"{agent.name} has begun",
                incarnation=agent.incarnation,
            )
            await tx.move_attempts([move])
            await self._task_runs(tx, task, agent)
        if said.message:  # the first words often come with the word that the work has begun
            for line in said.message.splitlines()[-MOST_LINES:]:
                data = {"message": plain(line[:LONGEST_LINE]), "agent": agent.name, **said.data}
                tx.note(task.request_id, "task.progress", data, task_id=task.task_id, attempt_id=attempt.attempt_id)
        await tx.renew([(attempt.attempt_id, agent.agent_id)])

    async def _task_runs(self, tx: Transaction, task: TaskRecord, agent: KnownAgent) -> None:
        if task.status is TaskStatus.DISPATCHED:
            move = TaskMove(task.task_id, task.request_id, task.status, TaskStatus.RUNNING, f"on {agent.name}")
            await tx.move_tasks([move])

    async def _out_of_turn(self, tx: Transaction, message: Message, attempt: AttemptRecord | None) -> None:
        """A letter about a lease that is not open, or not the sender's: kept, and the sender told to stop."""
        mine = attempt is not None and _is_holder(attempt, message)
        kind = f"late_{message.type}" if mine else f"foreign_{message.type}"
        if mine and attempt and attempt.has_result:
            if not isinstance(message.payload, WorkResult):
                return  # its result overtook it: several servers read the queue
            known, same = await tx.compare_result(message.payload, message.message_id)
            if same and not known:
                return  # its agent repeats itself because our acknowledgement was lost
            # The same message: the broker delivered it twice after a crash, or somebody played it back.
            kind = "repeated_message" if known else "second_work_result"
        detail = {"type": message.type, "payload": message.payload.model_dump(mode="json")}
        where = attempt.request_id if attempt else None
        await tx.keep_anomalies([Anomaly(kind, detail, str(message.agent.agent_id), message.attempt_id, where)])
        if not isinstance(message.payload, WorkResult):
            payload: dict[str, object] = {
                "attempt_id": str(message.attempt_id),
                "lease_token": getattr(message.payload, "lease_token", 0),
                "reason": "this lease is over",
            }
            await tx.send([self.control(message.agent, MessageType.CANCEL, payload)])

    async def _cancel(self, tx: Transaction, agent: KnownAgent, attempt: AttemptRecord, about: RequestRecord) -> None:
        payload: dict[str, object] = {
            "attempt_id": str(attempt.attempt_id),
            "lease_token": attempt.lease_token,
            "reason": f"the request is {about.status}",
        }
        await tx.send([self.control(agent, MessageType.CANCEL, payload, about)])
        await tx.mark_cancel_sent([attempt.attempt_id])


def _moved(tasks: Sequence[task_flow.Task], status: Mapping[UUID, TaskStatus]) -> list[Standing]:
    return [Standing(t.task_id, t.request_id, t.order, status.get(t.task_id, t.status), t.spec) for t in tasks]


def _is_unheard(agent: KnownAgent, incarnation: str) -> bool:
    """Whether a living agent's registration is missing, and not because another home's has taken its place."""
    return incarnation != agent.incarnation and agent.journal in ("", journal_of(incarnation))


def _is_holder(attempt: AttemptRecord, message: Message) -> bool:
    token = getattr(message.payload, "lease_token", None)
    return attempt.agent_id == message.agent.agent_id and attempt.lease_token == token


def _holds(attempt: AttemptRecord, message: Message) -> bool:
    return attempt.status in ATTEMPT_OPEN and _is_holder(attempt, message)
