"""From letters to rows: what agents say is checked, matched with the leases that are open, and written once."""

from __future__ import annotations

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
from chargehand.domain.signed_messages import Correspondence, Letter, Letterhead, sender_of, waves
from chargehand.domain.states import ATTEMPT_OPEN, AttemptStatus, RequestStatus, TaskStatus
from chargehand.engine import admission
from chargehand.execution import task_flow
from chargehand.execution.outcomes import Ending, follow, lapse, plain, repeatable
from chargehand.execution.retry import RetryPolicy
from chargehand.routing.performance import allowed_seconds
from chargehand.settings import Settings

if TYPE_CHECKING:
    from chargehand.store.transaction import Batch

log = logging.getLogger("chargehand.engine.recorder")

MOST_LINES = 20
"""Lines of one progress message that are kept, the latest: twice what an agent of ours puts into one."""


@dataclass(slots=True)
class Desk:
    """The locked rows a batch of letters is about, as they stand after the letters handled so far."""

    requests: dict[UUID, RequestRecord]
    tasks: dict[UUID, TaskRecord]
    attempts: dict[UUID, AttemptRecord]
    agents: dict[UUID, KnownAgent] = field(default_factory=dict)


class Recorder:
    """Writes what agents report. One transaction for as many letters as have come."""

    def __init__(self, settings: Settings, desk: Correspondence) -> None:
        self._settings = settings
        self._correspondence = desk
        self._retry = RetryPolicy(max_attempts=settings.max_attempts)

    async def record(self, batch: Batch, wires: Sequence[bytes]) -> None:
        """Apply messages from the events queue. What is malformed, unsigned, late or forged is kept as an anomaly."""
        letters = await self.open(batch, wires)
        arriving = [letter for letter in letters if isinstance(letter.payload, AgentRegistration)]
        if arriving:
            await self._lock_for(batch, letters, arriving)
        for letter in arriving:
            assert isinstance(letter.payload, AgentRegistration)
            await self._register(batch, letter.agent, letter.payload)
        about = [letter for letter in letters if letter.attempt_id is not None]
        if about:
            await self._record_attempts(batch, about)

    async def heartbeats(self, batch: Batch, wires: Sequence[bytes]) -> None:
        """Apply heartbeats: agents are alive, and the leases of what they run are renewed.

        A life that is no longer the registered one has its leases renewed, too: it goes by the broker's confirm, so
        it works on, and what it works on must not be given to anybody else.

        A life that never came to be registered is asked to say again who it is: a broker that lost its queues, or a
        database that was restored, forgets what the agent knows to be confirmed. A copy of the agent, which writes
        another journal, is not asked: the two would take the name from each other with every heartbeat.
        """
        letters = await self.open(batch, wires)
        beats = [(x.agent, x.payload) for x in letters if isinstance(x.payload, Heartbeat)]
        # In this order: whoever waits for an agent must not hold attempts, which others take after agents.
        await batch.beat([beat for agent, beat in beats if beat.incarnation == agent.incarnation])
        await batch.renew([(attempt, agent.agent_id) for agent, beat in beats for attempt in beat.running])
        unknown = {agent.agent_id: agent for agent, beat in beats if _is_unheard(agent, beat.incarnation)}
        await batch.send([self.control(agent, MessageType.REGISTER, {}) for agent in unknown.values()])

    async def open(self, batch: Batch, wires: Sequence[bytes]) -> list[Letter]:
        """Check signatures and forms; what fails becomes an anomaly and nothing else."""
        senders: list[UUID | None] = []
        anomalies: list[Anomaly] = []
        for wire in wires:
            try:
                senders.append(sender_of(wire))
            except BadEnvelope as error:
                senders.append(None)
                anomalies.append(Anomaly("bad_envelope", {"error": str(error)}))
        agents = await batch.known_agents(sender for sender in senders if sender)
        letters = []
        for wire, sender in zip(wires, senders, strict=True):
            if sender is None:
                continue
            try:
                letter = self._correspondence.open(wire, agents.get(sender))
                letters.append(letter)
                if letter.generation > letter.agent.spoken_generation:
                    await batch.speak_generation(letter.agent.agent_id, letter.generation)
            except BadEnvelope as error:
                anomalies.append(Anomaly("bad_envelope", {"error": str(error)}, agent_id=str(sender)))
        await batch.keep_anomalies(anomalies)
        return letters

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

    async def end(self, batch: Batch, endings: Sequence[Ending]) -> None:
        """Write ended attempts and all that follows from each for its task, its agent and its request."""
        if not endings:
            return
        found = [follow(ending, self._retry) for ending in endings]
        await batch.move_attempts([c.attempt for c in found])
        await batch.move_tasks([c.task for c in found])
        for consequence in found:
            if consequence.review:
                await batch.add_review(consequence.review)
        settings = self._settings
        batch.learn([c.outcome for c in found], settings.circuit_failures, settings.circuit_seconds)
        await self.settle(batch, [e.request.request_id for e in endings])

    async def settle(self, batch: Batch, request_ids: Iterable[UUID]) -> None:
        """Release the tasks that may start now and end the requests that are done. The requests must be locked."""
        ids = set(request_ids)
        if ids:
            await self.proceed(batch, await batch.lock_requests(ids), await batch.standings(ids))

    async def proceed(
        self, batch: Batch, requests: Mapping[UUID, RequestRecord], tasks: Mapping[UUID, Sequence[task_flow.Task]]
    ) -> None:
        """As `settle`, with locked requests and their tasks, as they stand now, in hand."""
        moves = [
            move
            for request_id, request in requests.items()
            if request.status is RequestStatus.RUNNING
            for move in task_flow.next_moves(tasks.get(request_id, []), request.mode)
        ]
        await batch.move_tasks(moves)
        status = {move.task_id: move.new for move in moves}
        await batch.move_requests(
            [
                RequestMove(request.request_id, request.status, *ended)
                for request in requests.values()
                if request.status in (RequestStatus.RUNNING, RequestStatus.CANCELLING)
                and (ended := task_flow.outcome(_moved(tasks.get(request.request_id, ()), status), request.status))
            ]
        )

    async def _lock_for(self, batch: Batch, letters: Sequence[Letter], arriving: Sequence[Letter]) -> None:
        """Lock all that letters with registrations among them touch: requests before agents, each in id order."""
        agents = {letter.agent.agent_id for letter in arriving}
        known = await batch.attempts(letter.attempt_id for letter in letters if letter.attempt_id)
        requests = {attempt.request_id for attempt in known.values()}
        for agent_id in sorted(agents):
            requests |= {left.request_id for left in await batch.undelivered(agent_id)}
        await batch.lock_requests(requests)
        # With those whose slots results will free: locked later, they could come before one that is locked by then.
        await batch.lock_agents(agents | {attempt.agent_id for attempt in known.values()})

    async def _register(self, batch: Batch, agent: KnownAgent, said: AgentRegistration) -> None:
        """Take over what an agent says of itself, and send it again what its former life may not have seen."""
        await batch.register(said, agent.grant_policy)
        if agent.journal not in ("", journal_of(said.incarnation)):
            # A copy of the agent, or its disk was lost. What another journal may know of is left to its lease.
            detail = {"registered": said.incarnation, "instead_of": agent.incarnation}
            await batch.keep_anomalies([Anomaly("another_journal", detail, str(agent.agent_id))])
            return
        # A new life of the agent may never have seen what its former one was sent. Its journal knows; the lease is
        # the same, so an order it does know is not run again.
        for left in await batch.undelivered(agent.agent_id):
            request = (await batch.lock_requests([left.request_id]))[left.request_id]
            tasks = (await batch.tasks_of([left.request_id]))[left.request_id]
            task = next(t for t in tasks if t.task_id == left.task.task_id)
            lease = (left.attempt_id, left.lease_token, left.number)
            whole, _ = await admission.supply(batch, [task])
            await batch.send([self.work_order(agent, each, request, lease, left.run_seconds) for each in whole])

    async def _record_attempts(self, batch: Batch, letters: Sequence[Letter]) -> None:
        ids = [letter.attempt_id for letter in letters if letter.attempt_id]
        known = await batch.attempts(ids)
        requests = await batch.lock_requests({a.request_id for a in known.values()})
        for wave in waves(letters):
            attempts = await batch.attempts(ids)
            tasks = await batch.tasks(attempt.task_id for attempt in attempts.values())
            requests = await batch.lock_requests(requests)
            await self._record_wave(batch, wave, Desk(requests, tasks, attempts))

    async def _record_wave(self, batch: Batch, wave: Sequence[Letter], desk: Desk) -> None:
        endings: list[Ending] = []
        recorded: dict[UUID, list[Letter]] = {}
        for letter in wave:
            attempt = desk.attempts.get(letter.attempt_id) if letter.attempt_id else None
            if isinstance(letter.payload, WorkResult):
                recorded.setdefault(letter.agent.agent_id, []).append(letter)
            if attempt is None or not _holds(attempt, letter):
                await self._out_of_turn(batch, letter, attempt)
            elif isinstance(letter.payload, WorkResult):
                request = desk.requests[attempt.request_id]
                task, said = desk.tasks[attempt.task_id], letter.payload
                endings.append(Ending(request, task, attempt, said, message_id=letter.message_id))
            elif isinstance(letter.payload, Acceptance):
                await self._accepted(batch, letter.agent, letter.payload, attempt, desk)
            elif isinstance(letter.payload, Progress):
                await self._progressed(batch, letter.agent, letter.payload, attempt, desk)
        await self.end(batch, endings)
        await batch.send([self._recorded(group) for group in recorded.values()])

    def _recorded(self, letters: Sequence[Letter]) -> OutMessage:
        ids = [str(letter.attempt_id) for letter in letters]
        return self.control(letters[0].agent, MessageType.RECORDED, {"attempt_ids": ids})

    async def _accepted(
        self, batch: Batch, agent: KnownAgent, said: Acceptance, attempt: AttemptRecord, desk: Desk
    ) -> None:
        request = desk.requests[attempt.request_id]
        if request.status not in (RequestStatus.RUNNING, RequestStatus.PAUSED):
            await self._cancel(batch, agent, attempt, request)
            return
        if attempt.status is AttemptStatus.STARTED:
            await self._accepted_again(batch, agent, said, attempt, desk)
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
            await batch.move_attempts([move])
        await batch.renew([(attempt.attempt_id, agent.agent_id)])
        if said.needs_grant:
            await self._task_runs(batch, desk.tasks[attempt.task_id], agent)
            await self._grant(batch, agent, said, desk.tasks[attempt.task_id], request)

    async def _accepted_again(
        self, batch: Batch, agent: KnownAgent, said: Acceptance, attempt: AttemptRecord, desk: Desk
    ) -> None:
        """A started attempt is accepted again: the same life lost the grant; another life may have begun the work."""
        request, task = desk.requests[attempt.request_id], desk.tasks[attempt.task_id]
        if said.incarnation == attempt.incarnation and not said.needs_grant:
            return  # its first progress overtook it
        if said.incarnation == attempt.incarnation:
            await self._grant(batch, agent, said, desk.tasks[attempt.task_id], request)
            return
        text = f"{agent.name} was restarted after it was told to start; whether it did is unknown"
        result = lapse(attempt, repeatable=repeatable(task, request), said=text)
        await self.end(batch, [Ending(request, task, attempt, result, reported=False)])
        await self._cancel(batch, agent, attempt, request)

    async def _grant(
        self, batch: Batch, agent: KnownAgent, said: Acceptance, task: TaskRecord, about: RequestRecord
    ) -> None:
        payload: dict[str, object] = {
            "attempt_id": str(said.attempt_id),
            "lease_token": said.lease_token,
            "lease_seconds": self.limits(task.spec).lease,
            "incarnation": said.incarnation,  # the life that asked; another one must not begin on it
        }
        await batch.send([self.control(agent, MessageType.START, payload, about)])

    async def _progressed(
        self, batch: Batch, agent: KnownAgent, said: Progress, attempt: AttemptRecord, desk: Desk
    ) -> None:
        task = desk.tasks[attempt.task_id]
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
            await batch.move_attempts([move])
            await self._task_runs(batch, task, agent)
        if said.message:  # the first words often come with the word that the work has begun
            for line in said.message.splitlines()[-MOST_LINES:]:
                data = {"message": plain(line), "agent": agent.name, **said.data}
                batch.note(task.request_id, "task.progress", data, task_id=task.task_id, attempt_id=attempt.attempt_id)
        await batch.renew([(attempt.attempt_id, agent.agent_id)])

    async def _task_runs(self, batch: Batch, task: TaskRecord, agent: KnownAgent) -> None:
        if task.status is TaskStatus.DISPATCHED:
            move = TaskMove(task.task_id, task.request_id, task.status, TaskStatus.RUNNING, f"on {agent.name}")
            await batch.move_tasks([move])

    async def _out_of_turn(self, batch: Batch, letter: Letter, attempt: AttemptRecord | None) -> None:
        """A letter about a lease that is not open, or not the sender's: kept, and the sender told to stop."""
        mine = attempt is not None and _is_holder(attempt, letter)
        kind = f"late_{letter.type}" if mine else f"foreign_{letter.type}"
        if mine and attempt and attempt.has_result:
            if not isinstance(letter.payload, WorkResult):
                return  # its result overtook it: several servers read the queue
            known, same = await batch.compare_result(letter.payload, letter.message_id)
            if same and not known:
                return  # its agent repeats itself because our acknowledgement was lost
            # The same message: the broker delivered it twice after a crash, or somebody played it back.
            kind = "repeated_message" if known else "second_work_result"
        detail = {"type": letter.type, "payload": letter.payload.model_dump(mode="json")}
        where = attempt.request_id if attempt else None
        await batch.keep_anomalies([Anomaly(kind, detail, str(letter.agent.agent_id), letter.attempt_id, where)])
        if not isinstance(letter.payload, WorkResult):
            payload: dict[str, object] = {
                "attempt_id": str(letter.attempt_id),
                "lease_token": getattr(letter.payload, "lease_token", 0),
                "reason": "this lease is over",
            }
            await batch.send([self.control(letter.agent, MessageType.CANCEL, payload)])

    async def _cancel(self, batch: Batch, agent: KnownAgent, attempt: AttemptRecord, about: RequestRecord) -> None:
        payload: dict[str, object] = {
            "attempt_id": str(attempt.attempt_id),
            "lease_token": attempt.lease_token,
            "reason": f"the request is {about.status}",
        }
        await batch.send([self.control(agent, MessageType.CANCEL, payload, about)])
        await batch.mark_cancel_sent([attempt.attempt_id])


def _moved(tasks: Sequence[task_flow.Task], status: Mapping[UUID, TaskStatus]) -> list[Standing]:
    return [Standing(t.task_id, t.request_id, t.order, status.get(t.task_id, t.status), t.spec) for t in tasks]


def _is_unheard(agent: KnownAgent, incarnation: str) -> bool:
    """Whether a living agent's registration is missing, and not because another home's has taken its place."""
    return incarnation != agent.incarnation and agent.journal in ("", journal_of(incarnation))


def _is_holder(attempt: AttemptRecord, letter: Letter) -> bool:
    token = getattr(letter.payload, "lease_token", None)
    return attempt.agent_id == letter.agent.agent_id and attempt.lease_token == token


def _holds(attempt: AttemptRecord, letter: Letter) -> bool:
    return attempt.status in ATTEMPT_OPEN and _is_holder(attempt, letter)
