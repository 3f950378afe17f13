"""What agents' messages change: a round of them, decided over the locked rows. Pure.

    decide(messages, rows, policy) -> Recorded

Each message is looked up in `TABLE` by its type and by how its sender stands to the attempt. A round holds at most one
message per attempt, so none depends on another; the engine writes what all of them come to at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from chargehand.domain.envelopes import MessageType
from chargehand.domain.messages import Acceptance, Progress, WorkResult
from chargehand.domain.records import (
    Anomaly,
    AttemptMove,
    AttemptRecord,
    Compared,
    Json,
    KnownAgent,
    Limits,
    Outcome,
    RequestRecord,
    Review,
    TaskMove,
    TaskRecord,
    journal_of,
)
from chargehand.domain.signed_messages import Message
from chargehand.domain.states import ATTEMPT_OPEN, AttemptStatus, RequestStatus, TaskStatus
from chargehand.execution.limits import limits_of
from chargehand.execution.outcomes import Ending, effects_of, lost_result, plain, repeatable
from chargehand.execution.retry import RetryPolicy

LONGEST_LINE = 2_000  # characters: as many as an agent of ours writes at most
MOST_LINES = 20
"""Lines of one progress message that are kept, the latest: twice what an agent of ours puts into one."""

GOES_ON = frozenset({RequestStatus.RUNNING, RequestStatus.PAUSED})
"""Where work that an agent has may begin: a pause holds back only what nobody has yet."""


@dataclass(frozen=True, slots=True)
class LockedRows:
    """The rows that a round is about.

    `compared`: what `results_again` named, by attempt. `elsewhere`: the attempts of `failed_here` for which there is an
    agent that could do it and has not tried.
    """

    requests: Mapping[UUID, RequestRecord]
    tasks: Mapping[UUID, TaskRecord]
    attempts: Mapping[UUID, AttemptRecord]
    compared: Mapping[UUID, Compared] = field(default_factory=dict)
    elsewhere: Set[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class RecordingPolicy:
    """What the settings say: how often work is tried, and how long it may take where it does not say so itself."""

    retry: RetryPolicy
    usual: Limits


class Control(NamedTuple):
    """A grant, a cancel or an acknowledgement, not yet signed."""

    agent: KnownAgent
    kind: MessageType
    payload: dict[str, object]
    about: RequestRecord | None = None


class NewEvent(NamedTuple):
    """A line for a request's history that no change of a status writes."""

    request_id: UUID
    kind: str
    data: Json
    task_id: UUID
    attempt_id: UUID


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is to be written. `renewed` are (attempt, agent) pairs whose lease is renewed.

    `begun`: attempts whose agents say that they have begun what is not safe to repeat: that cannot be taken back.
    `settle`: requests of which a task has ended, so that others may start. `cancelled`: attempts whose agents are told
    to stop because of their request, and need not be told again.
    """

    attempts: Sequence[AttemptMove] = ()
    tasks: Sequence[TaskMove] = ()
    events: Sequence[NewEvent] = ()
    renewed: Sequence[tuple[UUID, UUID]] = ()
    begun: Sequence[UUID] = ()
    reviews: Sequence[Review] = ()
    outcomes: Sequence[Outcome] = ()
    settle: Sequence[UUID] = ()
    anomalies: Sequence[Anomaly] = ()
    controls: Sequence[Control] = ()
    cancelled: Sequence[UUID] = ()


NOTHING = Recorded()


class Lease(StrEnum):
    """How the sender of a message stands to the attempt that it is about: the columns of `TABLE`."""

    LEASED = "leased"
    ACCEPTED = "accepted"
    STARTED = "started"
    REPORTED = "reported"  # it ended, and its result is stored
    LOST = "lost"  # it ended without one
    FOREIGN = "foreign"  # the sender does not hold it, or there is no such attempt


@dataclass(frozen=True, slots=True)
class Case:
    """One message and the rows that it is about."""

    message: Message
    attempt: AttemptRecord
    task: TaskRecord
    request: RequestRecord
    compared: Compared | None
    policy: RecordingPolicy
    elsewhere: bool = False

    @property
    def agent(self) -> KnownAgent:
        """Who sent it."""
        return self.message.agent

    @property
    def holder(self) -> tuple[UUID, UUID]:
        """The attempt and its agent, as a lease to be renewed."""
        return self.attempt.attempt_id, self.message.agent.agent_id


def decide(messages: Sequence[Message], rows: LockedRows, policy: RecordingPolicy) -> Recorded:
    """Return what follows from a round of messages, at most one per attempt."""
    parts = [_decide(message, rows, policy) for message in messages]
    return _joined([*parts, Recorded(controls=_acknowledgements(messages))])


def _decide(message: Message, rows: LockedRows, policy: RecordingPolicy) -> Recorded:
    attempt = _attempt_of(message, rows.attempts)
    if attempt is None:
        return _refused(message, None, f"foreign_{message.type}")
    rule = TABLE[message.type][lease_of(message, attempt)]
    task, request = rows.tasks[attempt.task_id], rows.requests[attempt.request_id]
    compared, elsewhere = rows.compared.get(attempt.attempt_id), attempt.attempt_id in rows.elsewhere
    return rule(Case(message, attempt, task, request, compared, policy, elsewhere))


def lease_of(message: Message, attempt: AttemptRecord) -> Lease:
    """Return how the sender stands to the attempt: only the agent that holds its lease may speak of it."""
    if not _is_holder(message, attempt):
        return Lease.FOREIGN
    if attempt.status in ATTEMPT_OPEN:
        return Lease(attempt.status)
    return Lease.REPORTED if attempt.has_result else Lease.LOST


def results_again(messages: Iterable[Message], attempts: Mapping[UUID, AttemptRecord]) -> list[Message]:
    """Return the results for attempts that have one: whether it is the same must be looked up before `decide`."""
    return [
        message
        for message in messages
        if message.type is MessageType.WORK_RESULT
        and (attempt := _attempt_of(message, attempts)) is not None
        and lease_of(message, attempt) is Lease.REPORTED
    ]


def failed_here(messages: Iterable[Message]) -> list[UUID]:
    """Return the attempts that failed on their agent: whether another could do them must be known before `decide`."""
    return [
        message.payload.attempt_id
        for message in messages
        if isinstance(message.payload, WorkResult)
        and message.payload.failure is not None
        and message.payload.failure.kind == "failed"
    ]


def ended(endings: Sequence[Ending], policy: RetryPolicy) -> Recorded:
    """Return what follows from attempts that have ended, by their agents' word or because time is up."""
    effects = [effects_of(ending, policy) for ending in endings]
    return Recorded(
        attempts=[e.attempt for e in effects],
        tasks=[e.task for e in effects],
        reviews=[e.review for e in effects if e.review],
        outcomes=[e.outcome for e in effects],
        settle=[ending.request.request_id for ending in endings],
    )


def _attempt_of(message: Message, attempts: Mapping[UUID, AttemptRecord]) -> AttemptRecord | None:
    return None if message.attempt_id is None else attempts.get(message.attempt_id)


def _is_holder(message: Message, attempt: AttemptRecord) -> bool:
    said = message.payload
    ours = not isinstance(said, Acceptance) or _is_of_its_journal(said.incarnation, attempt, message.agent)
    return ours and _has_the_lease(message, attempt)


def _has_the_lease(message: Message, attempt: AttemptRecord) -> bool:
    token = getattr(message.payload, "lease_token", None)
    return attempt.agent_id == message.agent.agent_id and attempt.lease_token == token


def _is_of_its_journal(incarnation: str, attempt: AttemptRecord, agent: KnownAgent) -> bool:
    """Whether this life writes the journal that knows of the attempt: a copy of the agent gets no leave to start."""
    return (journal_of(attempt.incarnation) or agent.journal) in ("", journal_of(incarnation))


def _joined(parts: Sequence[Recorded]) -> Recorded:
    return Recorded(
        attempts=[move for part in parts for move in part.attempts],
        tasks=[move for part in parts for move in part.tasks],
        events=[event for part in parts for event in part.events],
        renewed=[lease for part in parts for lease in part.renewed],
        begun=[attempt_id for part in parts for attempt_id in part.begun],
        reviews=[review for part in parts for review in part.reviews],
        outcomes=[outcome for part in parts for outcome in part.outcomes],
        settle=[request_id for part in parts for request_id in part.settle],
        anomalies=[anomaly for part in parts for anomaly in part.anomalies],
        controls=[control for part in parts for control in part.controls],
        cancelled=[attempt_id for part in parts for attempt_id in part.cancelled],
    )


def _acknowledgements(messages: Iterable[Message]) -> list[Control]:
    """Return, for each agent, that its results are kept, whatever they came to: it may forget them."""
    results: dict[UUID, list[Message]] = {}
    for message in messages:
        if message.type is MessageType.WORK_RESULT:
            results.setdefault(message.agent.agent_id, []).append(message)
    return [
        Control(group[0].agent, MessageType.RECORDED, {"attempt_ids": [str(message.attempt_id) for message in group]})
        for group in results.values()
    ]


# --- The rules: what one message comes to -----------------------------------------------------------------------------


def _accepted(case: Case) -> Recorded:
    """Its agent has the order in its journal, and asks for leave to begin where it needs that."""
    said, agent = _acceptance(case), case.agent
    if case.request.status not in GOES_ON:
        return _called_off(case)
    if said.needs_grant:
        begins = _move(case, AttemptStatus.STARTED, f"granted to {agent.name}", said.incarnation)
        return Recorded(attempts=[begins], tasks=_task_runs(case), renewed=[case.holder], controls=[_grant(case, said)])
    accepts = _move(case, AttemptStatus.ACCEPTED, f"{agent.name} has it in its journal", said.incarnation)
    news = case.attempt.status is not AttemptStatus.ACCEPTED
    return Recorded(attempts=[accepts] if news else [], renewed=[case.holder])


def _accepted_again(case: Case) -> Recorded:
    """It has been started: the same life has lost the grant; another life cannot know whether the former one began."""
    said = _acceptance(case)
    if case.request.status not in GOES_ON:
        return _called_off(case)
    if said.incarnation != case.attempt.incarnation:
        return _called_off(case, _lost(case))
    if said.needs_grant:
        return Recorded(controls=[_grant(case, said)])
    return NOTHING  # its first progress overtook it


def _begun(case: Case) -> Recorded:
    """Progress of what is not known to have started: it says so itself, and may have overtaken the acceptance."""
    if not _progress(case).started:
        return _progressed(case)
    begins = _move(case, AttemptStatus.STARTED, f"{case.agent.name} has begun", case.agent.incarnation)
    return replace(_progressed(case), attempts=[begins], tasks=_task_runs(case))


def _progressed(case: Case) -> Recorded:
    """The agent is alive and has something to tell."""
    said = _progress(case)
    ids = case.task.task_id, case.attempt.attempt_id
    return Recorded(
        begun=[case.attempt.attempt_id] if said.started and not repeatable(case.task, case.request) else [],
        events=[
            NewEvent(
                case.task.request_id,
                "task.progress",
                {"message": plain(line[:LONGEST_LINE]), "agent": case.agent.name, **said.data},
                *ids,
            )
            for line in said.message.splitlines()[-MOST_LINES:]
        ],
        renewed=[case.holder],
    )


def _ended(case: Case) -> Recorded:
    """The result that counts."""
    said = case.message.payload
    assert isinstance(said, WorkResult)
    ending = Ending(
        case.request, case.task, case.attempt, said, message_id=case.message.message_id, others=case.elsewhere
    )
    return ended([ending], case.policy.retry)


def _overtaken(case: Case) -> Recorded:
    """Its result came first: several servers read the queue."""
    return NOTHING


def _said_again(case: Case) -> Recorded:
    """A result for an attempt that has one, to be compared with it."""
    assert case.compared is not None, "compared before deciding, see `results_again`"
    if case.compared.same_message:  # the broker delivered it twice after a crash, or somebody played it back
        return _refused(case.message, case.attempt, "repeated_message")
    if case.compared.same_result:
        return NOTHING  # its agent repeats itself because our acknowledgement was lost
    return _refused(case.message, case.attempt, "second_work_result")


def _late(case: Case) -> Recorded:
    """The lease has run out."""
    return _refused(case.message, case.attempt, f"late_{case.message.type}")


def _foreign(case: Case) -> Recorded:
    """The lease is another agent's, or a later one of this, or another journal's: then its holder must not be stopped,
    who reads the same queue."""
    refused = _refused(case.message, case.attempt, f"foreign_{case.message.type}")
    return replace(refused, controls=[]) if _has_the_lease(case.message, case.attempt) else refused


Rule = Callable[[Case], Recorded]

_M = MessageType
_RULES: Mapping[MessageType, tuple[Rule, ...]] = {
    # what came         leased      accepted    started           reported      lost    foreign
    _M.WORK_ACCEPTED: (_accepted,  _accepted,  _accepted_again,  _overtaken,   _late,  _foreign),
    _M.WORK_PROGRESS: (_begun,     _begun,     _progressed,      _overtaken,   _late,  _foreign),
    _M.WORK_RESULT:   (_ended,     _ended,     _ended,           _said_again,  _late,  _foreign),
}  # fmt: skip

TABLE = {kind: dict(zip(Lease, rules, strict=True)) for kind, rules in _RULES.items()}
"""The rule for a message, by its type and by how its sender stands to the attempt."""


# --- What rules are made of -------------------------------------------------------------------------------------------


def _acceptance(case: Case) -> Acceptance:
    assert isinstance(case.message.payload, Acceptance)
    return case.message.payload


def _progress(case: Case) -> Progress:
    assert isinstance(case.message.payload, Progress)
    return case.message.payload


def _move(case: Case, new: AttemptStatus, reason: str, incarnation: str) -> AttemptMove:
    attempt = case.attempt
    ids = attempt.attempt_id, attempt.task_id, attempt.request_id
    return AttemptMove(*ids, attempt.status, new, reason, incarnation=incarnation)


def _task_runs(case: Case) -> list[TaskMove]:
    task = case.task
    if task.status is not TaskStatus.DISPATCHED:
        return []
    return [TaskMove(task.task_id, task.request_id, task.status, TaskStatus.RUNNING, f"on {case.agent.name}")]


def _lost(case: Case) -> Recorded:
    text = f"{case.agent.name} was restarted after it was told to start; whether it did is unknown"
    result = lost_result(case.attempt, repeatable=repeatable(case.task, case.request), said=text)
    return ended([Ending(case.request, case.task, case.attempt, result, reported=False)], case.policy.retry)


def _grant(case: Case, said: Acceptance) -> Control:
    payload: dict[str, object] = {
        "attempt_id": str(said.attempt_id),
        "lease_token": said.lease_token,
        "lease_seconds": limits_of(case.task.spec, case.policy.usual).lease,
        "incarnation": said.incarnation,  # the life that asked; another one must not begin on it
    }
    return Control(case.agent, MessageType.START, payload, case.request)


def _called_off(case: Case, also: Recorded = NOTHING) -> Recorded:
    """The agent is told to stop, besides what else is written."""
    attempt, request = case.attempt, case.request
    reason = f"the request is {request.status}"
    cancel = Control(case.agent, MessageType.CANCEL, _cancel(attempt.attempt_id, attempt.lease_token, reason), request)
    return replace(also, controls=[cancel], cancelled=[attempt.attempt_id])


def _refused(message: Message, attempt: AttemptRecord | None, kind: str) -> Recorded:
    """The message is kept and changes nothing else; an agent that means to work on is told to stop."""
    detail = {"type": message.type, "payload": message.payload.model_dump(mode="json")}
    where = attempt.request_id if attempt else None
    anomaly = Anomaly(kind, detail, str(message.agent.agent_id), message.attempt_id, where)
    if message.type is MessageType.WORK_RESULT:
        return Recorded(anomalies=[anomaly])
    payload = _cancel(message.attempt_id, getattr(message.payload, "lease_token", 0), "this lease is over")
    return Recorded(anomalies=[anomaly], controls=[Control(message.agent, MessageType.CANCEL, payload)])


def _cancel(attempt_id: UUID | None, token: int, reason: str) -> dict[str, object]:
    return {"attempt_id": str(attempt_id), "lease_token": token, "reason": reason}
