"""What doors show of a request, read into typed values: the request, its plan, its steps, who tried them, what waits.

Each value mirrors a row of the store: every column is a field, and a column without a field, or a status that nobody
knows, is an error. Doors show these values and never see a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from chargehand.domain.intents import Otherwise, OutputRef
from chargehand.domain.llm import Purpose
from chargehand.domain.messages import Failure
from chargehand.domain.plans import DecomposedRequest, Ruling, WorkPlan, WorkTask
from chargehand.domain.priorities import Priority
from chargehand.domain.records import Followed, ReviewKind
from chargehand.domain.states import AttemptStatus, PlanStatus, RequestStatus, TaskStatus
from chargehand.domain.value import Value

Mode = Literal["sequential", "parallel"]
V = TypeVar("V", bound=Value)


def read(kind: type[V], row: Mapping[str, Any]) -> V:
    """Read one row. Raises `pydantic.ValidationError` for a column or a member that `kind` does not know."""
    return kind.model_validate(dict(row))


def read_all(kind: type[V], rows: Iterable[Mapping[str, Any]]) -> tuple[V, ...]:
    """Read rows, in their order."""
    return tuple(read(kind, row) for row in rows)


class Request(Value):
    """A request. `text` is what was accepted, `wording` how it stands after answers and other words."""

    request_id: UUID
    idempotency_key: str | None
    body_digest: str
    text: str
    wording: str
    requester: str
    reworded_by: tuple[str, ...] = ()
    mode: Mode
    dry_run: bool
    status: RequestStatus
    status_reason: str
    trace_id: UUID
    priority: Priority
    head_start: float  # seconds; what the priority is worth
    not_before: datetime | None
    otherwise: tuple[Otherwise, ...]
    claim_token: int | None
    claim_until: datetime | None
    failures: int
    read_by_tier: str | None
    read_by_model: str | None
    event_count: int
    turn: datetime
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class Plan(Value):
    """One version of a request's plan, and the ruling on who must agree to it."""

    plan_id: UUID
    request_id: UUID
    version: int
    digest: str
    status: PlanStatus
    plan: WorkPlan
    ruling: Ruling
    created_at: datetime
    expires_at: datetime | None
    decided_at: datetime | None


class Result(Value):
    """What an agent returned. `data` and `outputs` are its own words; `unfit_outputs` says how the outputs are wrong.

    `in_part` says what was left undone, though the work came to its end.
    An attempt keeps all of it, a task what people and later tasks use.
    """

    ok: bool = False
    summary: str = ""
    changed: bool | None = None
    in_part: str = ""
    outputs: dict[str, JsonValue] = Field(default_factory=dict)
    data: dict[str, JsonValue] = Field(default_factory=dict)
    failure: Failure | None = None
    unfit_outputs: str | None = None
    attempt_id: UUID | None = None
    lease_token: int | None = None
    duration_ms: int | None = None
    resources_used: dict[str, float] = Field(default_factory=dict)
    difficulty: Literal["straightforward", "tricky", "failed"] | None = None
    message_id: UUID | None = None


class Said(Value):
    """What one task of a playbook said on one host, or a script. `told`: it was there to say just that."""

    task: str = ""
    host: str = ""
    text: str = ""
    told: bool = False

    @classmethod
    def of(cls, item: Mapping[str, JsonValue]) -> Said:
        """Read what an agent wrote."""
        words = {name: str(item.get(name, "")) for name in ("task", "host", "text")}
        return cls(**words, told=item.get("told") is True)


class Task(Value):
    """One step of an approved plan, where it stands, and what it returned."""

    task_id: UUID
    request_id: UUID
    plan_id: UUID
    task_order: int
    intent: str
    work_type: str
    agent_type: str
    spec: WorkTask
    status: TaskStatus
    status_reason: str
    attempts_made: int
    forgiven: int
    tried: tuple[UUID, ...]
    ready_since: datetime | None
    due_at: datetime | None
    turn: datetime | None
    wants_capacity: bool  # it waits for a slot or a key, not for a time
    waits_for: UUID | None
    chose_until: datetime | None
    failures: int
    result: Result | None
    read_by_tier: str | None
    read_by_model: str | None
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None

    @property
    def returned(self) -> Result:
        """What it returned; an empty result where it returned nothing."""
        return self.result or NOTHING

    @property
    def said(self) -> tuple[Said, ...]:
        """What its own tasks said, in order. What an agent wrote in another form is left out."""
        found = self.returned.data.get("said")
        return tuple(Said.of(item) for item in found if isinstance(item, dict)) if isinstance(found, list) else ()

    @property
    def given(self) -> Mapping[str, JsonValue]:
        """The outputs that later tasks can take. A failure gives none, also when a person counts it as done."""
        return self.returned.outputs if self.status is TaskStatus.SUCCEEDED and self.returned.ok else {}


NOTHING = Result()


class Attempt(Value):
    """One try at a task by one agent, under one lease. `agent` is the agent's name."""

    attempt_id: UUID
    task_id: UUID
    request_id: UUID
    agent_id: UUID
    number: int
    lease_token: int
    status: AttemptStatus
    incarnation: str
    lease_until: datetime
    start_by: datetime
    deadline_at: datetime
    lease_seconds: float
    created_at: datetime
    accepted_at: datetime | None
    started_at: datetime | None
    begun_at: datetime | None  # when its agent said that it had begun what is not safe to repeat
    ended_at: datetime | None
    cancel_sent: bool
    duration_ms: int | None
    result: Result | None
    agent: str

    @property
    def seconds(self) -> float | None:
        """How long it took; None until it has ended."""
        return self.duration_ms / 1000 if self.duration_ms is not None else None


class Decomposition(Value):
    """What was understood of a wording, by which tier, and the thresholds it was judged by."""

    decomposition_id: int
    request_id: UUID
    wording: str
    tier: str
    model: str
    value: DecomposedRequest
    thresholds: dict[str, JsonValue]
    created_at: datetime


class LlmCall(Value):
    """One call of one tier: what it cost, why it was made, and what was wrong with the answer. Money in US dollars."""

    call_id: int
    request_id: UUID
    purpose: Purpose
    tier: str
    model: str
    prompt_version: str
    seconds: float
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost_usd: Decimal
    error_class: str | None
    error: str | None
    answer: str | None  # JSON as the model wrote it; a long one is kept in part
    choice: str
    followed: Followed
    created_at: datetime


class TriedTier(Value):
    """A tier that led to no plan, and why its answer was not used."""

    tier: str
    model: str
    error: str | None


class ReviewContext(Value):
    """What a person needs for a review; which fields are there depends on the review's kind. More may be kept."""

    model_config = ConfigDict(extra="allow")

    wording: str = ""
    tried: tuple[TriedTier, ...] = ()
    task: WorkTask | None = None
    failure: Failure | None = None


class Review(Value):
    """Work that waits, or waited, for a person."""

    review_id: int
    request_id: UUID
    task_id: UUID | None
    kind: ReviewKind
    reason: str
    context: ReviewContext
    status: Literal["open", "resolved"]
    resolution: str | None
    resolved_by: str | None
    created_at: datetime
    resolved_at: datetime | None


class TakenInput(Value):
    """A parameter's value that an earlier task gives: where it comes from and, where it is `known`, what it is."""

    ref: OutputRef
    intent: str = ""  # of the task that gives it, where that was looked at
    known: bool = False
    value: JsonValue = None


class Considered(BaseModel):
    """An agent as it was looked at for a task: why it was rejected, or its score term by term."""

    model_config = ConfigDict(frozen=True)  # its facts are for the replay

    agent_id: str = ""
    name: str
    rejected_by: str | None = None
    reason: str = ""
    terms: dict[str, JsonValue] = Field(default_factory=dict)
    score: int | float | None = None


class Choice(BaseModel):
    """What is told of a stored routing decision. Older versions of the program stored less of it."""

    model_config = ConfigDict(frozen=True)

    policy: str = ""
    selected: str | None = None
    pool_size: int = 0
    prediction: str = ""  # the runs that the duration was predicted from
    draw: int | None = None  # by which the agents to look at were picked from a large pool
    candidates: tuple[Considered, ...] = ()


class Routed(Value):
    """One routing decision for a task. `decision` is the whole stored document, which a replay reads."""

    id: int
    task_id: UUID
    work_type: str
    agent_pool: str
    selected_agent_id: UUID | None
    success_rate_percent: int
    specialization_match: bool
    recent_context_match: bool
    retried: bool
    reason: str
    created_at: datetime
    attempt_id: UUID | None
    decision: dict[str, JsonValue]
    predicted_success: float | None
    predicted_ms: int | None
    succeeded: bool | None
    duration_ms: int | None

    @property
    def choice(self) -> Choice:
        """Which agents were looked at, and what was made of each."""
        return Choice.model_validate(self.decision)


@dataclass(frozen=True)
class Snapshot:
    """One request with everything that is shown of it: its newest plan, that plan's tasks, and earlier work kept."""

    request: Request
    plan: Plan | None
    tasks: tuple[Task, ...]
    attempts: tuple[Attempt, ...]
    decomposition: Decomposition | None
    questions: tuple[str, ...]
    decisions: tuple[Routed, ...] = ()

    @property
    def seconds(self) -> float | None:
        """How long the work has taken, from the approval to the end."""
        ended = self.request.ended_at
        if ended is None or self.plan is None or self.plan.decided_at is None:
            return None
        return (ended - self.plan.decided_at).total_seconds()


def of_plan(tasks: Sequence[Task], plan: Plan | None) -> tuple[Task, ...]:
    """Return the newest plan's tasks, and those that were done under an earlier one."""
    done = TaskStatus.SUCCEEDED
    return tuple(t for t in tasks if plan is None or t.plan_id == plan.plan_id or t.status is done)


def asked_back(request: Request, decomposition: Decomposition | None) -> tuple[str, ...]:
    """Return the questions a request waits with."""
    if request.status is not RequestStatus.ASKING or decomposition is None:
        return ()
    return decomposition.value.ambiguities


def attempts_of(task: Task, attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return the attempts of one task, oldest first."""
    return [attempt for attempt in attempts if attempt.task_id == task.task_id]


def taken(task: Task, tasks: Iterable[Task]) -> dict[str, TakenInput]:
    """Return what a task takes of earlier ones, by parameter; the value is known once the giver has succeeded."""
    plan = {other.task_order: other for other in tasks if other.plan_id == task.plan_id}
    found = {}
    for name, ref in task.spec.inputs.items():
        giver = plan[ref.task]
        known = ref.output in giver.given
        found[name] = TakenInput(ref=ref, intent=giver.intent, known=known, value=giver.given.get(ref.output))
    return found
