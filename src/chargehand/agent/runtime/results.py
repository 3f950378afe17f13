"""How an attempt ended, in the words of the protocol. Pure.

An exception of a class that is not in the table is a mistake in foreign code: it would happen again, so it counts as
permanent. What the machine lacks (space, memory, file handles) is the agent's fault and another agent may do better.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import JsonValue, ValidationError

from chargehand.agent.offers import Outcome, Returned
from chargehand.agent.secrets.redactor import Redactor
from chargehand.domain.envelopes import is_storable
from chargehand.domain.errors import (
    BadConfiguration,
    BadEnvelope,
    ChargehandError,
    ContentChanged,
    DiskFull,
    OutcomeUnknown,
    TaskFailedHere,
    TransientError,
)
from chargehand.domain.messages import MOST_FIGURES, Failure, WorkOrder, WorkResult

Kind = Literal["permanent", "failed", "retryable", "infrastructure", "content_changed", "cancelled", "unknown"]
Ending = Literal["cancel", "deadline", "lease", "stop", "drain", "no_grant"]

FAILURES: tuple[tuple[type[BaseException], Kind], ...] = (
    (ContentChanged, "content_changed"),
    (OutcomeUnknown, "unknown"),
    (BadConfiguration, "infrastructure"),  # a program this machine lacks
    (DiskFull, "infrastructure"),
    (MemoryError, "infrastructure"),
    (TransientError, "retryable"),
    (TaskFailedHere, "failed"),
    (BaseException, "permanent"),
)
"""First match wins."""

EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN})

ENDINGS: Mapping[Ending, tuple[Kind, Kind, str]] = {
    # why it was ended: (kind if it had started, kind if not, words)
    "cancel": ("cancelled", "cancelled", "cancelled"),
    "deadline": ("retryable", "retryable", "took longer than allowed"),
    "lease": ("unknown", "retryable", "the lease could not be renewed, so the work was ended"),
    "stop": ("unknown", "retryable", "the agent was stopped"),
    "drain": ("unknown", "retryable", "the agent is draining"),
    "no_grant": ("unknown", "retryable", "no leave to start came"),
}

MAX_RESULT = 900_000
"""Bytes: below `envelopes.MAX_BYTES` with room for the envelope."""
MAX_MESSAGE = 2_000
"""Characters of a message for people."""


def failure_of(error: BaseException) -> Failure:
    """Return what an exception of the work means."""
    kind = next(kind for kind_of, kind in FAILURES if isinstance(error, kind_of))
    if isinstance(error, OSError) and error.errno in EXHAUSTED:
        kind = "infrastructure"
    details: dict[str, JsonValue] = {"exception": type(error).__name__}
    if frames := traceback.extract_tb(error.__traceback__):
        details["at"] = f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}"
    if hint := getattr(error, "hint", ""):
        details["hint"] = str(hint)
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if not isinstance(error, ChargehandError):  # ours are written for people and need no class name
        first_line = f"{type(error).__name__}: {first_line}"
    return Failure(kind=kind, message=first_line[:MAX_MESSAGE], details=details)


def ended(why: Ending, *, started: bool, words: str = "") -> Failure:
    """Return the failure of work that was ended from outside; `words` say more than the table does."""
    kind_started, kind_not, text = ENDINGS[why]
    message = f"{text}: {words}" if words else text
    return Failure(
        kind=kind_started if started else kind_not,
        message=message if started else f"{message}; nothing was started",
        details={"ended_by": why, "started": started},
    )


def unknown(message: str) -> Failure:
    """Return the failure of work that began and whose end nobody saw."""
    return Failure(kind="unknown", message=message, details={"started": True})


def failed(order: WorkOrder, failure: Failure, duration_ms: int = 0) -> WorkResult:
    """Return the result of a failure."""
    return WorkResult(
        attempt_id=order.attempt_id,
        lease_token=order.lease_token,
        ok=False,
        summary=failure.message,
        failure=failure,
        duration_ms=duration_ms,
        difficulty="failed",
    )


def succeeded(order: WorkOrder, returned: Returned, duration_ms: int) -> WorkResult:
    """Return the result of work that came to its end. What is not JSON in it makes it a failure of its author."""
    outcome = _outcome(order, returned)
    try:
        result = WorkResult(
            attempt_id=order.attempt_id,
            lease_token=order.lease_token,
            ok=True,
            summary=outcome.summary[:MAX_MESSAGE],
            changed=outcome.changed,
            in_part=outcome.in_part[:MAX_MESSAGE],
            outputs=dict(outcome.outputs),
            data=dict(outcome.data),
            duration_ms=duration_ms,
            resources_used=dict(outcome.resources_used),
            difficulty=outcome.difficulty,
        )
        return fitted(checked(result))
    except BadEnvelope as error:
        return failed(order, Failure(kind="permanent", message=str(error), details={"started": True}), duration_ms)
    except (ValidationError, AttributeError, TypeError, ValueError) as error:
        text = f"the work ended, but what it returned cannot be sent ({type(error).__name__}): return JSON values"
        return failed(order, Failure(kind="permanent", message=text, details={"started": True}), duration_ms)


def checked(result: WorkResult) -> WorkResult:
    """Return the result if the orchestrator will take it. Raises `BadEnvelope` with what its author should mend.

    What is refused over there would be sent again and again, and the work done twice.
    """
    if not is_storable(result.outputs) or not is_storable(result.data):
        raise BadEnvelope("the work ended, but it returned a number of more than 300 digits: return such a one as text")
    for text in texts(result.outputs):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise BadEnvelope("the work ended, but it returned half a character: return valid Unicode")
    return result


def texts(value: JsonValue) -> Iterator[str]:
    """Yield every text in a value, the names of an object's fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def fitted(result: WorkResult) -> WorkResult:
    """Return the result without `data`, then without `outputs`, where it is too large for one message."""
    for name in ("data", "outputs"):
        if (size := len(result.model_dump_json())) <= MAX_RESULT:
            break
        note = {"left_out": f"{name}: the result had {size:,} bytes"}
        result = result.model_copy(update={name: {}, "data": {**({} if name == "data" else result.data), **note}})
    return result


def measured(result: WorkResult, used: Mapping[str, float]) -> WorkResult:
    """Return the result with what was measured beside what its author says, who may know better."""
    missing = [(name, value) for name, value in used.items() if name not in result.resources_used]
    room = MOST_FIGURES - len(result.resources_used)
    return result.model_copy(update={"resources_used": {**result.resources_used, **dict(missing[:room])}})


def redacted(result: WorkResult, redactor: Redactor) -> WorkResult:
    """Return the result with the values of secrets hidden: what the journal and the orchestrator get."""
    failure = result.failure and result.failure.model_copy(
        update={
            "message": redactor.text(result.failure.message),
            "details": redactor.mapping(result.failure.details),
        }
    )
    return result.model_copy(
        update={
            "summary": redactor.text(result.summary),
            "in_part": redactor.text(result.in_part),
            "outputs": redactor.mapping(result.outputs),
            "data": redactor.mapping(result.data),
            "resources_used": {redactor.text(name): used for name, used in result.resources_used.items()},
            "failure": failure,
        }
    )


def _outcome(order: WorkOrder, returned: Any) -> Outcome:
    if isinstance(returned, Outcome):
        return returned
    if isinstance(returned, dict):
        return Outcome(f"{order.name or order.intent}: done", outputs=returned)
    return Outcome(returned if isinstance(returned, str) else f"{order.name or order.intent}: done")
