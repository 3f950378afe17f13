"""What follows when an attempt ends: for the attempt, its task, its agent, and whether a person must look. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from chargehand.catalog import outputs
from chargehand.domain.messages import Failure, WorkResult
from chargehand.domain.records import AttemptMove, AttemptRecord, Outcome, RequestRecord, Review, TaskMove, TaskRecord
from chargehand.domain.states import AttemptStatus, RequestStatus, TaskStatus
from chargehand.execution import retry
from chargehand.execution.retry import RetryDecision

SAYS_NOTHING = frozenset({"cancelled", "content_changed", "unstored"})
"""Failures that teach nothing about the agent."""

ATTEMPT_STATUSES: Mapping[str, AttemptStatus] = {
    "cancelled": AttemptStatus.CANCELLED,
    "unknown": AttemptStatus.UNKNOWN,
    "unstored": AttemptStatus.UNKNOWN,
}
"""How an attempt ends by its failure, where it does not just fail."""

MAX_TOLD = 2000  # characters of a message that people are shown; the whole result is stored


@dataclass(frozen=True, slots=True)
class Ending:
    """An attempt that has ended, by its agent's word (`reported`) or because nobody has heard of it.

    `message_id` is that of the message that said so. `others`: an agent is there that could do it and has not tried.
    """

    request: RequestRecord
    task: TaskRecord
    attempt: AttemptRecord
    result: WorkResult
    reported: bool = True
    message_id: UUID | None = None
    others: bool = False


@dataclass(frozen=True, slots=True)
class Effects:
    """What is to be written."""

    attempt: AttemptMove
    task: TaskMove
    outcome: Outcome
    review: Review | None = None


def effects_of(ending: Ending, policy: retry.RetryPolicy) -> Effects:
    """Return everything that follows from one ended attempt."""
    result = ending.result
    decision = None if result.ok else _retry(ending, result.failure or _unsaid(), policy)
    attempt = _attempt_move(ending)
    task = _task_move(ending, decision, policy)
    review = _review(ending, decision) if task.new is TaskStatus.IN_REVIEW else None
    return Effects(attempt, task, _outcome(ending), review)


def lost_result(attempt: AttemptRecord, *, repeatable: bool, said: str) -> WorkResult:
    """Return the result of an attempt nobody has heard of: unknown when it was started and must not be repeated."""
    started = attempt.status is AttemptStatus.STARTED
    kind = "unknown" if started and not repeatable else "infrastructure"
    failure = Failure(kind=kind, message=said, details={"lost": True})
    return WorkResult(attempt_id=attempt.attempt_id, lease_token=attempt.lease_token, ok=False, failure=failure)


def unstored(result: WorkResult, why: str) -> WorkResult:
    """Return what is recorded instead of a result that the database cannot hold: how it ended, and why no more."""
    ended = "was done" if result.ok else "failed"
    message = f"its agent says that it {ended}, but the result cannot be stored: {why}"
    failure = Failure(kind="unstored", message=message, details={"started": True, "ok": result.ok})
    return WorkResult(attempt_id=result.attempt_id, lease_token=result.lease_token, ok=False, failure=failure)


def plain(text: str) -> str:
    """Return text from outside as one line people can be shown: no control characters, bounded."""
    kept = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(kept.split())[:MAX_TOLD]


def _retry(ending: Ending, failure: Failure, policy: retry.RetryPolicy) -> RetryDecision:
    if ending.attempt.begun and _is_handed_back(failure):  # it said that it had begun: one of the two is not so
        failure = failure.model_copy(update={"kind": "unknown"})
    return retry.decide(
        failure,
        attempts_made=ending.task.attempts_made - ending.task.forgiven,
        retry_safe=repeatable(ending.task, ending.request),
        started=_has_begun(ending.attempt, failure),
        others=ending.others,
        policy=policy,
    )


def _has_begun(attempt: AttemptRecord, failure: Failure) -> bool:
    """Whether any of it may have been done: an agent may hand back what it was only granted."""
    return attempt.begun or (attempt.status is AttemptStatus.STARTED and not _is_handed_back(failure))


def _is_handed_back(failure: Failure) -> bool:
    """Whether the agent says that nothing was begun."""
    return failure.kind == "content_changed" or failure.details.get("started") is False


def repeatable(task: TaskRecord, request: RequestRecord) -> bool:
    """Whether the work may be done twice: it says so itself, or it changes nothing because it is a dry run."""
    return task.spec.retry_safe or request.dry_run


def _unsaid() -> Failure:
    return Failure(kind="permanent", message="the agent reported a failure without saying why")


def _attempt_move(ending: Ending) -> AttemptMove:
    result, old = ending.result, ending.attempt
    told = plain(result.failure.message if result.failure else result.summary)
    return AttemptMove(
        old.attempt_id,
        old.task_id,
        old.request_id,
        old.status,
        _attempt_status(ending),
        reason=told,
        result=_stored(ending) if ending.reported else None,
        duration_ms=result.duration_ms,
    )


def _stored(ending: Ending) -> dict[str, object]:
    """Return the result with the id of its message, by which the same message is known when it comes again."""
    return {**ending.result.model_dump(mode="json"), "message_id": str(ending.message_id)}


def _attempt_status(ending: Ending) -> AttemptStatus:
    if ending.result.ok:
        return AttemptStatus.SUCCEEDED
    if not ending.reported:
        return AttemptStatus.LOST
    kind = (ending.result.failure or _unsaid()).kind
    return ATTEMPT_STATUSES.get(kind, AttemptStatus.FAILED)


def _task_move(ending: Ending, decision: RetryDecision | None, policy: retry.RetryPolicy) -> TaskMove:
    task, result = ending.task, ending.result
    move = TaskMove(task.task_id, task.request_id, task.status, TaskStatus.SUCCEEDED, plain(result.summary))
    if decision is None:
        return _done(move, ending, policy)
    failure = result.failure or _unsaid()
    said = plain(failure.message)
    data = {"failure": failure.model_dump(mode="json"), "decision": decision.model_dump(mode="json")}
    if decision.action == "review":
        return replace(move, new=TaskStatus.IN_REVIEW, reason=f"{said} ({decision.reason})", data=data)
    if ending.request.status is RequestStatus.CANCELLING:
        return replace(move, new=TaskStatus.CANCELLED, reason=said, data=data)
    if decision.action == "again":
        reason = f"{said} ({decision.reason})"
        return replace(move, new=TaskStatus.READY, reason=reason, delay=decision.wait_seconds, data=data)
    return replace(move, new=TaskStatus.FAILED, reason=said, result=_kept(result), data=data)


def _done(move: TaskMove, ending: Ending, policy: retry.RetryPolicy) -> TaskMove:
    """The work came to its end; where something was left undone, the operator decides what that means."""
    result, unfit = ending.result, _unfit(ending)
    told = {"summary": plain(result.summary), "changed": result.changed}
    move = replace(move, result={**_kept(result), **unfit}, data={**told, **unfit})
    if not result.in_part:
        return move
    left = plain(result.in_part)
    reason = plain(f"{result.summary}; {left}")
    return replace(move, new=retry.DONE_IN_PART[policy.in_part], reason=reason, data={**move.data, "in_part": left})


def _unfit(ending: Ending) -> dict[str, str]:
    """What it returned is not what it declared: the work is done all the same, so it is kept, and not done again."""
    problem = None if ending.request.dry_run else outputs.unfit(ending.task.spec, ending.result.outputs)
    return {"unfit_outputs": plain(problem)} if problem else {}


def _kept(result: WorkResult) -> dict[str, object]:
    return result.model_dump(mode="json", include={"ok", "summary", "changed", "in_part", "outputs", "data", "failure"})


def _review(ending: Ending, decision: RetryDecision | None) -> Review:
    failure = ending.result.failure or _unsaid()
    context = {
        "task": ending.task.spec.model_dump(mode="json"),
        "attempt_id": str(ending.attempt.attempt_id),
        "agent_id": str(ending.attempt.agent_id),
        "failure": failure.model_dump(mode="json"),
    }
    reason = decision.reason if decision else failure.message
    return Review(ending.task.request_id, "unknown_outcome", reason, context, ending.task.task_id)


def _outcome(ending: Ending) -> Outcome:
    result, attempt = ending.result, ending.attempt
    kind = None if result.ok else (result.failure or _unsaid()).kind
    return Outcome(
        attempt_id=attempt.attempt_id,
        agent_id=attempt.agent_id,
        work_type=ending.task.work_type,
        ok=result.ok,
        counts=kind not in SAYS_NOTHING,
        infrastructure=kind == "infrastructure",
        duration_ms=result.duration_ms,
        difficulty=result.difficulty,
        resources_used=result.resources_used,
        intent=ending.task.intent,
        dry_run=ending.request.dry_run,
        repeated=ending.task.attempts_made - ending.task.forgiven > 1,
    )
