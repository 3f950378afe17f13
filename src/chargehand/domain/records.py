"""Rows as the engine sees them, and the changes it hands back. Plain values: the store fills and reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from chargehand.domain.intents import Otherwise
from chargehand.domain.llm import Purpose, Reply
from chargehand.domain.messages import Difficulty
from chargehand.domain.plans import WorkPlan, WorkTask
from chargehand.domain.priorities import Priority
from chargehand.domain.routing import RoutingDecision
from chargehand.domain.states import AttemptStatus, PlanStatus, RequestStatus, TaskStatus

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request as it stands."""

    request_id: UUID
    wording: str
    requester: str
    mode: str
    dry_run: bool
    status: RequestStatus
    trace_id: UUID
    claim_token: int | None = None
    failures: int = 0
    priority: Priority = "normal"
    not_before: datetime | None = None  # its tasks start then at the earliest
    otherwise: tuple[Otherwise, ...] = ()  # what may be done when nobody can do it as asked
    reworded_by: tuple[str, ...] = ()  # who has said since, in other words, what is to be done

    @property
    def askers(self) -> tuple[str, ...]:
        """Everybody who has said what is to be done: none of them is one of the two that four eyes need."""
        return (self.requester, *self.reworded_by)

    def asked_too(self, who: str) -> RequestRecord:
        """Return the request with this person among those who have said what is to be done."""
        return self if who in self.askers else replace(self, reworded_by=(*self.reworded_by, who))

    @property
    def asked_by(self) -> str:
        """All of them as one text, which a ruling is signed with."""
        return "\n".join(self.askers)

    @property
    def may_wait(self) -> bool:
        """Whether it does not matter that nobody is there now."""
        return "wait" in self.otherwise or self.not_before is not None

    @property
    def body_digest(self) -> str:
        """What an idempotency key is bound to. The time it may start is not: "at 2" said again is another one."""
        body = [self.wording, self.mode, self.dry_run, self.priority, self.otherwise]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()


Followed = Literal["used", "repair", "retry", "leave", "doubt", "beside"]


class Call(NamedTuple):
    """One call of one tier, as it is kept.

    `problem` says why the reply was not used, None for the one that was; `error_class` is its row of
    `tiers.FAILURES`, or `Unsure`. `choice` says why this tier was asked, `followed` what was done next, `at` when its
    answer came.
    """

    reply: Reply
    problem: str | None
    error_class: str | None
    choice: str
    followed: Followed
    at: datetime
    purpose: Purpose = "skeleton"


FOLLOWED: Mapping[Followed, str] = {
    "used": "its answer was taken",
    "repair": "it was told what was wrong and asked again",
    "retry": "it was asked the same again",
    "leave": "the next tier was asked, or a person",
    "doubt": "its answer was kept, and the next tier was asked because it was unsure",
    "beside": "its reading was kept beside that of a model",
}
"""What can follow a call, by the word that is stored with it."""


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A stored plan. `digest` is the one that was computed when it was made; approvals name it.

    `intact`: whether the plan still has that digest, where that was looked at. `approvers` are those whose approval is
    signed with this home's key; `unsigned` are the others. `ruled`: whether ruling, digest and requester are signed.
    `at` is the time of the transaction, `approved_at` of the oldest approval, both in microseconds since 1970.
    """

    plan_id: UUID
    request_id: UUID
    version: int
    digest: str
    status: PlanStatus
    plan: WorkPlan
    ruling: Json
    expired: bool
    approvers: tuple[str, ...] = ()
    unsigned: tuple[str, ...] = ()
    ruled: bool = True
    at: int = 0
    approved_at: int | None = None
    intact: bool | None = None


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it stands. `waited`: seconds it has been ready; `forgiven`: attempts that do not count any more.

    `supplied` are the values of its inputs, where they were looked up (`admission.supply`).
    """

    task_id: UUID
    request_id: UUID
    plan_id: UUID
    order: int
    intent: str
    work_type: str
    spec: WorkTask
    status: TaskStatus
    status_reason: str
    attempts_made: int
    tried: tuple[UUID, ...]
    waited: float = 0.0
    failures: int = 0
    forgiven: int = 0
    waits_for: UUID | None = None  # the agent that it waits for by choice
    chose: bool = False  # whether it has ever waited by choice since it is ready
    stranded: float = 0.0  # seconds it has been ready, but for those that it was to wait by choice
    supplied: Json = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything its agent is given."""
        return {**self.spec.parameters, **self.supplied}


class Standing(NamedTuple):
    """Where a task stands, and what was approved of it: all it takes to say what follows from it."""

    task_id: UUID
    request_id: UUID
    order: int
    status: TaskStatus
    spec: WorkTask


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An attempt as it stands. `lease_left` in seconds; negative when the lease has run out."""

    attempt_id: UUID
    task_id: UUID
    request_id: UUID
    agent_id: UUID
    number: int
    lease_token: int
    status: AttemptStatus
    lease_left: float
    incarnation: str = ""
    has_result: bool = False
    begun: bool = False  # its agent has said so itself; noted where it is not safe to repeat


class Compared(NamedTuple):
    """How a result compares with the stored one: whether it came in the same message, and whether it says the same."""

    same_message: bool
    same_result: bool


@dataclass(frozen=True, slots=True)
class Staff:
    """An agent that may run something, and whether it is there. `circuit_open_for` in seconds."""

    name: str
    status: str
    in_flight: int
    slots: int
    circuit_open_for: float


@dataclass(frozen=True, slots=True)
class KnownAgent:
    """An enrolled agent: what its signatures are checked with and by which policy its offers are granted.

    `status` is what the sweep and its heartbeats have made of it; `offline` until it has registered.
    """

    agent_id: UUID
    name: str
    key_generation: int
    incarnation: str
    grant_policy: str | None
    spoken_generation: int = 1
    status: str = "offline"

    @property
    def is_there(self) -> bool:
        """Whether a life of it is registered that has not been silent for too long."""
        return self.status != "offline"

    @property
    def journal(self) -> str:
        """The journal that its registered life writes; empty when that is not known."""
        return journal_of(self.incarnation)


def journal_of(incarnation: str) -> str:
    """Return the journal of an incarnation, which is JOURNAL.LIFE; empty when it names none."""
    journal, dot, _ = incarnation.rpartition(".")
    return journal if dot else ""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An attempt whose agent has not said that it has the order."""

    attempt_id: UUID
    lease_token: int
    number: int
    task: WorkTask
    trace_id: UUID
    request_id: UUID
    dry_run: bool
    run_seconds: float  # how long it may take, as the order said at first


@dataclass(frozen=True, slots=True)
class RequestMove:
    """A request's change of status and the line that tells a person why."""

    request_id: UUID
    old: RequestStatus
    new: RequestStatus
    reason: str = ""
    data: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanMove:
    """A plan's change of status."""

    plan_id: UUID
    request_id: UUID
    old: PlanStatus
    new: PlanStatus
    data: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskMove:
    """A task's change of status. `delay` (seconds) is how long a task made ready must wait first."""

    task_id: UUID
    request_id: UUID
    old: TaskStatus
    new: TaskStatus
    reason: str = ""
    delay: float = 0.0
    result: Json | None = None
    data: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptMove:
    """An attempt's change of status, with what it came to when it ends."""

    attempt_id: UUID
    task_id: UUID
    request_id: UUID
    old: AttemptStatus
    new: AttemptStatus
    reason: str = ""
    result: Json | None = None
    duration_ms: int | None = None
    incarnation: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: how long a lease lives without a sign of life, until the work must have begun, and until it must end."""

    lease: float
    start: float
    run: float
    stretched: str = ""  # why it may run for longer than is declared


@dataclass(frozen=True, slots=True)
class Placement:
    """A task handed to an agent under a lease, and the decision that says why."""

    attempt_id: UUID
    task: TaskRecord
    agent_id: UUID
    number: int
    lease_token: int
    decision: RoutingDecision
    limits: Limits


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an ended attempt teaches about its agent. `infrastructure` counts against the agent's circuit."""

    attempt_id: UUID
    agent_id: UUID
    work_type: str
    ok: bool
    counts: bool  # cancelled work and changed content say nothing about the agent
    infrastructure: bool
    duration_ms: int
    difficulty: Difficulty | None  # as its agent says; None where it does not
    resources_used: Mapping[str, float] = field(default_factory=dict)
    intent: str = ""
    dry_run: bool = False
    repeated: bool = False  # the task had been tried before


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A message to be published after the commit."""

    queue: str
    body: bytes
    attempt_id: UUID | None = None


ReviewKind = Literal["no_plan", "unknown_outcome", "missing_output", "quarantine"]


@dataclass(frozen=True, slots=True)
class Review:
    """Work that only a person can take further, intact."""

    request_id: UUID
    kind: ReviewKind
    reason: str
    context: Json
    task_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A message that should not have come. It is kept and changes nothing else."""

    kind: str
    detail: Json
    agent_id: str | None = None
    attempt_id: UUID | None = None
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a request's history as it was stored."""

    seq: int
    kind: str
    task_id: UUID | None
    attempt_id: UUID | None
    data: Json
    at: datetime
