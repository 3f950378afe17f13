"""Every decision about one request: what `why` tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import JsonValue

from chargehand.app.audit import Sealed
from chargehand.app.history import HistoryEvent
from chargehand.app.snapshot import Attempt, Decomposition, LlmCall, Plan, Request, Review, Routed, Task
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
