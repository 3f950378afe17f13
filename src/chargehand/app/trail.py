"""Every decision about one request: what `why` tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from chargehand.app.audit import Sealed
from chargehand.app.history import HistoryEvent
from chargehand.app.snapshot import Attempt, Decomposition, LlmCall, Plan, Request, Review, Task
from chargehand.domain.value import Value


class Approval(Value):
    """Who agreed to, or rejected, exactly which digest, as the events say. `version` is the plan's."""

    approval_id: int | None  # None: no row of the table says the same
    plan_id: UUID
    digest: str
    approver: str
    decision: Literal["approved", "rejected"]
    words: str
    created_at: datetime
    version: int


class Considered(BaseModel):
    """An agent as it was looked at for a task: why it was rejected, or its score term by term."""

    model_config = ConfigDict(frozen=True)  # its facts are for the replay

    name: str
    rejected_by: str | None = None
    reason: str = ""
    terms: dict[str, JsonValue] = Field(default_factory=dict)
    score: int | float | None = None


class Choice(BaseModel):
    """What is told of a stored routing decision. Older versions of the program stored less of it."""

    model_config = ConfigDict(frozen=True)

    policy: str = ""
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


class Anomaly(Value):
    """A message that should not have come. It changed nothing."""

    anomaly_id: int
    at: datetime
    kind: str
    agent_id: str | None
    attempt_id: UUID | None
    request_id: UUID | None
    detail: JsonValue


@dataclass(frozen=True)
class DecisionTrail:
    """All that is stored about how one request was decided, each part in the order in which it happened.

    `differences` are where its tables say something else than its events. `sealed` is None where nobody could check it.
    """

    request: Request
    decompositions: tuple[Decomposition, ...]
    llm_calls: tuple[LlmCall, ...]
    plans: tuple[Plan, ...]
    approvals: tuple[Approval, ...]
    tasks: tuple[Task, ...]
    decisions: tuple[Routed, ...]
    attempts: tuple[Attempt, ...]
    reviews: tuple[Review, ...]
    anomalies: tuple[Anomaly, ...]
    events: tuple[HistoryEvent, ...]
    differences: tuple[str, ...] = ()
    sealed: Sealed | None = None

    def attempts_of(self, task: Task) -> Mapping[UUID, Attempt]:
        """Return the attempts of one task by their ids, oldest first."""
        return {a.attempt_id: a for a in self.attempts if a.task_id == task.task_id}
