"""Every error Chargehand raises on purpose. A class says what to do; its message helps the person who reads it.

ChargehandError
├── PermanentError            the same call will fail again: change something first
│   ├── BadRequest            the words or the options of a request
│   │   └── BadParameters     a parameter does not fit its intent's schema
│   ├── UnknownId             nothing has that id
│   ├── IdempotencyConflict   the key was used for another request
│   ├── WrongStatus           the action does not fit the status a request is in
│   ├── PlanChanged           the approval names another plan than the current one
│   ├── NotPermitted          a rule forbids it (four eyes, expired approval)
│   ├── BadDecomposition      a model's answer is not a plan; says why, so that it can be repaired once
│   ├── Infeasible            no agent could ever do it
│   ├── ContentChanged        a playbook or script is not the one that was approved
│   ├── MissingOutput         an earlier task did not return an output a later one needs
│   ├── TaskFailed            an agent's work failed, and would again
│   │   └── TaskFailedHere    it failed on this agent; another one may do it
│   ├── OutcomeUnknown        work started and nobody knows how it ended
│   ├── BadEnvelope           a message that is malformed, too large or not signed as it must be
│   ├── UnreadableText        JSON or YAML of a stranger that is broken, too large, too deep or too much
│   ├── Unstorable            the database cannot hold a value
│   ├── BadConfiguration      a wrong setting, a bad file, or a missing program
│   │   ├── SchemaTooNew      the database was written by a newer Chargehand
│   │   └── UnknownTier       a tier is named that the table of tiers does not have
│   └── AuditBroken           sealed events were altered or removed
└── TransientError            the same call may succeed later
    ├── NoAgentAvailable      agents could do it, but none can now
    ├── TaskInterrupted       an agent's work failed for a reason that may pass
    ├── StaleStatus           somebody else moved the row first
    ├── DatabaseUnreachable
    │   └── DatabaseBusy      it answers, but cannot do this just now
    ├── DatabaseRefuses       (also a BadConfiguration) a user, a name, a permission, the URL
    ├── BrokerUnreachable
    │   └── Unroutable        no queue takes the message: the agent is gone
    ├── ModelUnavailable      a model did not answer, or gave an unusable answer
    └── DiskFull
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ChargehandError(Exception):
    """Root of the tree.

    `code` names the kind of error in JSON and in problem details, `exit_code` is the CLI's, `http_status` the
    API's. `hint` says what to do next; it is shown under the message.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class PermanentError(ChargehandError):
    """The same call will fail again until something is changed."""


class TransientError(ChargehandError):
    """The same call may succeed later."""

    retryable = True
    http_status = 503
    exit_code = 5


class BadRequest(PermanentError):
    """The words or the options of a request cannot be accepted. Nothing was stored."""

    code, exit_code, http_status = "bad-request", 2, 422


class BadParameters(BadRequest):
    """A parameter is missing, unknown or does not fit the intent's schema."""

    code = "bad-parameters"


class UnknownId(PermanentError):
    """Nothing has that id."""

    code, exit_code, http_status = "unknown-id", 2, 404


class IdempotencyConflict(PermanentError):
    """The idempotency key belongs to a request with another body."""

    code, exit_code, http_status = "idempotency-conflict", 2, 409


class WrongStatus(PermanentError):
    """The action does not fit the status the request, plan or task is in."""

    code, exit_code, http_status = "wrong-status", 2, 409


class PlanChanged(PermanentError):
    """The approval names a digest that is not the current plan's. Look at the plan again."""

    code, exit_code, http_status = "plan-changed", 3, 409


class NotPermitted(PermanentError):
    """A rule forbids it: approving one's own plan where two other people must approve, or approving too late."""

    code, exit_code, http_status = "not-permitted", 3, 403


class BadDecomposition(PermanentError):
    """A model's answer is not a usable decomposition. The message is what the model is told when it may repair it.

    `subtasks` are the orders of those that are wrong, where all others can be used; none: the answer as a whole is.
    """

    code, exit_code, http_status = "bad-decomposition", 3, 422

    def __init__(self, message: str, *, hint: str | None = None, subtasks: Sequence[int] = ()) -> None:
        super().__init__(message, hint=hint)
        self.subtasks = tuple(subtasks)


class Infeasible(PermanentError):
    """No agent could ever do it, with the reasons counted. Raised before any work is started."""

    code, exit_code, http_status = "infeasible", 4, 422


class ContentChanged(PermanentError):
    """The playbook or script differs from the one whose hash was approved. Nothing was run."""

    code, exit_code, http_status = "content-changed", 3, 409


class MissingOutput(PermanentError):
    """A task needs an output that an earlier one did not return, or one that does not fit. Nothing was run."""

    code, exit_code, http_status = "missing-output", 3, 409


class TaskFailed(PermanentError):
    """An agent's work failed, and would fail again on another agent."""

    code = "task-failed"


class TaskFailedHere(TaskFailed):
    """An agent's work failed there, for no reason that is known to lie in the request. Another agent may do it."""

    code = "task-failed-here"


class OutcomeUnknown(PermanentError):
    """Work was started and nobody knows how it ended. A person decides, unless the work is safe to repeat."""

    code, exit_code = "outcome-unknown", 3


class BadEnvelope(PermanentError):
    """A message is malformed, too large, or not signed by the one it claims to be from."""

    code, http_status = "bad-envelope", 400


class UnreadableText(PermanentError):
    """JSON or YAML that somebody else wrote is broken, or over a limit. `line` is where, from 1, if that is known."""

    code, http_status = "unreadable-text", 422

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class Unstorable(PermanentError):
    """The database cannot hold a value, now or later: a character that is none, a text or a number without end."""

    code, http_status = "unstorable", 422
    hint = "It is not tried again. If an agent returned it, its result waits in `chargehand review`."


class BadConfiguration(PermanentError):
    """A wrong setting, a bad file of the operator's, or a missing program."""

    code, exit_code = "bad-configuration", 5


class SchemaTooNew(BadConfiguration):
    """The database was written by a newer Chargehand. Upgrade this one."""

    code = "schema-too-new"


class UnknownTier(BadConfiguration):
    """A tier is named that this version does not have, so nobody knows how its answers must be treated."""

    code = "unknown-tier"
    hint = "A tier is a row of chargehand.domain.tiers.TIERS; a newer Chargehand may have stored one more."


class AuditBroken(PermanentError):
    """Sealed events were altered, removed or added to. Names each request and what is wrong with it."""

    code, exit_code = "audit-broken", 6


class NoAgentAvailable(TransientError):
    """Agents could do it, but none can now; the message counts why: `0/3 agents can run X: 1 full, 2 offline`."""

    code, exit_code = "no-agent-available", 4


class TaskInterrupted(TransientError):
    """An agent's work failed for a reason that may pass (a host unreachable, a time-out)."""

    code, exit_code = "task-interrupted", 1


class StaleStatus(TransientError):
    """Somebody else moved the row first; look again."""

    code, http_status = "stale-status", 409


class DatabaseUnreachable(TransientError):
    """The database does not answer. Nothing was lost: what was accepted is in it."""

    code = "database-unreachable"


class DatabaseBusy(DatabaseUnreachable):
    """The database answers, but cannot do this just now: too many connections, a failover, a deadlock, a lock."""

    code = "database-busy"


class DatabaseRefuses(BadConfiguration, TransientError):
    """The database refuses the user, the name, a permission or the URL. The hint has the line that mends it.

    An operator may mend it while a server runs, so loops try again as with other faults of the database.
    """

    code, retryable = "database-refuses", True


class BrokerUnreachable(TransientError):
    """The message broker does not answer. Messages wait in the database."""

    code = "broker-unreachable"


class Unroutable(BrokerUnreachable):
    """No queue takes the message: that agent is not connected."""

    code = "unroutable"


class ModelUnavailable(TransientError):
    """A model did not answer in time, or its answer was unusable."""

    code = "model-unavailable"


class DiskFull(TransientError):
    """No space is left where something must be written. What was not committed was not accepted."""

    code = "disk-full"
