"""The statuses of a request, a plan, a task and an attempt, and every move that is allowed between them.

A status moves only along these tables. The store moves it with an UPDATE guarded by the old status and writes the
event in the same transaction; a guard that matches no row raises `StaleStatus`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, TypeVar

from chargehand.domain.errors import WrongStatus


class RequestStatus(StrEnum):
    """Where a request is on its way."""

    ACCEPTED = "accepted"  # committed; nobody has looked at it yet
    DECOMPOSING = "decomposing"  # claimed under a lease; a model is reading it
    ASKING = "asking"  # a person must answer a question before there is a plan
    AWAITING_APPROVAL = "awaiting_approval"  # the plan is shown; a person must approve exactly it
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"  # no new work is started; running work is being ended
    IN_REVIEW = "in_review"  # no model or agent can go on; a person has it, intact
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # a person said no to the plan
    REFUSED = "refused"  # no agent could ever do it; nothing was started
    EXPIRED = "expired"  # nobody approved in time


class PlanStatus(StrEnum):
    """A plan is never changed: a new version replaces it."""

    PENDING_APPROVAL = "pending_approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


class TaskStatus(StrEnum):
    """Where a task is."""

    PENDING = "pending"  # waits for the tasks it depends on, or for its turn
    READY = "ready"  # may be routed (after `due_at`)
    DISPATCHED = "dispatched"  # an attempt holds a lease; its agent has not said that it started
    RUNNING = "running"
    PAUSED = "paused"  # held back by a person
    IN_REVIEW = "in_review"  # how it ended is unknown, and it must not be repeated blindly
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # a task it depends on failed
    CANCELLED = "cancelled"


InPart = Literal["accept", "fail"]
"""What becomes of a task of which something was left undone: it counts as done, or it fails."""


class AttemptStatus(StrEnum):
    """One lease of one task by one agent."""

    LEASED = "leased"  # in the outbox or on its way
    ACCEPTED = "accepted"  # the agent has written it into its journal
    STARTED = "started"  # granted (work not safe to repeat) or begun
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # the lease ran out
    UNKNOWN = "unknown"  # it was started, and its agent does not know how it ended


R, P, T, A = RequestStatus, PlanStatus, TaskStatus, AttemptStatus

REQUEST: dict[RequestStatus, frozenset[RequestStatus]] = {
    R.ACCEPTED: frozenset({R.DECOMPOSING, R.CANCELLED}),
    R.DECOMPOSING: frozenset(
        {R.ACCEPTED, R.ASKING, R.AWAITING_APPROVAL, R.RUNNING, R.REFUSED, R.IN_REVIEW, R.CANCELLED}
    ),
    R.ASKING: frozenset({R.ACCEPTED, R.CANCELLED}),
    R.AWAITING_APPROVAL: frozenset({R.ACCEPTED, R.RUNNING, R.REJECTED, R.CANCELLED, R.EXPIRED}),
    R.RUNNING: frozenset({R.COMPLETED, R.FAILED, R.PAUSED, R.CANCELLING, R.IN_REVIEW}),
    R.PAUSED: frozenset({R.RUNNING, R.CANCELLING}),
    R.CANCELLING: frozenset({R.CANCELLED, R.IN_REVIEW}),
    R.IN_REVIEW: frozenset({R.ACCEPTED, R.RUNNING, R.CANCELLED, R.CANCELLING}),
    R.FAILED: frozenset(
        {R.RUNNING, R.AWAITING_APPROVAL, R.REFUSED, R.IN_REVIEW}
    ),  # `retry`, with a new plan if need be
    R.CANCELLED: frozenset(),
    R.COMPLETED: frozenset(),
    R.REJECTED: frozenset(),
    R.REFUSED: frozenset(),
    R.EXPIRED: frozenset(),
}

PLAN: dict[PlanStatus, frozenset[PlanStatus]] = {
    P.PENDING_APPROVAL: frozenset({P.APPROVED, P.REJECTED, P.SUPERSEDED, P.EXPIRED}),
    P.APPROVED: frozenset({P.SUPERSEDED}),
    P.REJECTED: frozenset(),
    P.SUPERSEDED: frozenset(),
    P.EXPIRED: frozenset(),
}

TASK: dict[TaskStatus, frozenset[TaskStatus]] = {
    T.PENDING: frozenset({T.READY, T.PAUSED, T.SKIPPED, T.CANCELLED}),
    T.READY: frozenset({T.DISPATCHED, T.PENDING, T.PAUSED, T.FAILED, T.IN_REVIEW, T.CANCELLED}),
    T.PAUSED: frozenset({T.PENDING, T.CANCELLED}),
    T.DISPATCHED: frozenset({T.RUNNING, T.SUCCEEDED, T.FAILED, T.READY, T.IN_REVIEW, T.CANCELLED}),
    T.RUNNING: frozenset({T.SUCCEEDED, T.FAILED, T.READY, T.IN_REVIEW, T.CANCELLED}),
    T.IN_REVIEW: frozenset({T.READY, T.SUCCEEDED, T.CANCELLED}),
    T.FAILED: frozenset({T.READY}),
    T.SKIPPED: frozenset({T.PENDING}),
    T.SUCCEEDED: frozenset(),
    T.CANCELLED: frozenset(),
}

ATTEMPT: dict[AttemptStatus, frozenset[AttemptStatus]] = {
    A.LEASED: frozenset({A.ACCEPTED, A.STARTED, A.SUCCEEDED, A.FAILED, A.CANCELLED, A.LOST, A.UNKNOWN}),
    A.ACCEPTED: frozenset({A.STARTED, A.SUCCEEDED, A.FAILED, A.CANCELLED, A.LOST, A.UNKNOWN}),
    A.STARTED: frozenset({A.SUCCEEDED, A.FAILED, A.CANCELLED, A.LOST, A.UNKNOWN}),
    A.SUCCEEDED: frozenset(),
    A.FAILED: frozenset(),
    A.CANCELLED: frozenset(),
    A.LOST: frozenset(),
    A.UNKNOWN: frozenset(),
}

REQUEST_ENDED = frozenset({R.COMPLETED, R.FAILED, R.CANCELLED, R.REJECTED, R.REFUSED, R.EXPIRED})
"""A request here gets its seal. `failed` may be opened again by `retry`; it then gets another."""

TASK_ENDED = frozenset({T.SUCCEEDED, T.FAILED, T.SKIPPED, T.CANCELLED})
ATTEMPT_OPEN = frozenset({A.LEASED, A.ACCEPTED, A.STARTED})
"""These hold a lease, an agent's slot and the task's exclusive keys."""

S = TypeVar("S", bound=StrEnum)


def check_move(table: Mapping[S, frozenset[S]], old: S, new: S) -> None:
    """Raise `WrongStatus` unless the table allows old -> new."""
    if new not in table[old]:
        allowed = ", ".join(sorted(table[old])) or "nothing: it has ended"
        raise WrongStatus(f"cannot go from {old} to {new}", hint=f"From {old} it can become: {allowed}.")
