"""What follows from a failed attempt: another one, the end, or a person.

The rule behind the table: work that is not safe to repeat is repeated only where it never started. A host that became
unreachable half-way, a time limit, a lost lease: each may have left part of the work done, so a person looks first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chargehand.domain.messages import Failure
from chargehand.domain.states import InPart, TaskStatus
from chargehand.domain.value import Value

Action = Literal["again", "elsewhere", "fail", "review"]
"""`elsewhere`: again where another agent can do it that has not tried yet, else it fails."""


class RetryDecision(Value):
    """What follows from a failed attempt."""

    action: Literal["again", "fail", "review"]
    wait_seconds: float = 0.0
    reason: str


class Row(NamedTuple):
    """What to do when the work is safe to repeat, when it is not but never started, and when it is not and had."""

    safe: Action
    not_started: Action
    started: Action
    reason: str


TABLE: Mapping[str, Row] = {
    # kind of failure           safe      not started  started
    "permanent":       Row("fail",   "fail",      "fail",   "it would fail again on any agent"),
    "failed":          Row("elsewhere", "elsewhere", "fail", "it failed on this agent"),
    "content_changed": Row("fail",   "fail",      "fail",   "what would run is not what was approved"),
    "cancelled":       Row("fail",   "fail",      "fail",   "it was cancelled"),
    "retryable":       Row("again",  "again",     "review", "its agent reports that it failed and may be tried again"),
    "infrastructure":  Row("again",  "again",     "review", "its agent broke down or was lost"),
    "unknown":         Row("again",  "review",    "review", "it was started and nobody knows how it ended"),
    "unstored":        Row("review", "review",    "review", "its result is lost, and would be again"),
}  # fmt: skip


DONE_IN_PART: Mapping[InPart, TaskStatus] = {"accept": TaskStatus.SUCCEEDED, "fail": TaskStatus.FAILED}
"""The status of a task that was done in part, by what the operator wants."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a task is attempted in all, and how many seconds it waits before the second, third, ... attempt.

    `in_part`: what becomes of a task of which something was left undone. It is not tried again: the rest was done.
    """

    max_attempts: int = 3
    waits: tuple[float, ...] = (1.0, 2.0, 4.0)  # the last one also stands for all that follow
    in_part: InPart = "accept"

    def wait_after(self, attempts_made: int) -> float:
        """Return the wait after so many attempts, in seconds."""
        return self.waits[min(attempts_made, len(self.waits)) - 1] if self.waits else 0.0


DEFAULT = RetryPolicy()


def decide(
    failure: Failure,
    *,
    attempts_made: int,
    retry_safe: bool,
    started: bool,
    others: bool = False,
    policy: RetryPolicy = DEFAULT,
) -> RetryDecision:
    """Decide what follows from a failed attempt.

    `attempts_made` counts this one. `started` is whether the attempt may have begun: its agent had the start grant, or
    has said so. `others` is whether an agent is there that could do it and has not tried.
    """
    row = TABLE[failure.kind]
    action = row.safe if retry_safe else row.started if started else row.not_started
    if action == "review":
        why = f"{row.reason}, and it is not safe to repeat" if row.safe != "review" else row.reason
        return RetryDecision(action="review", reason=why)
    if action == "fail":
        why = f"{row.reason}, and it is not safe to repeat" if row.safe != "fail" else row.reason
        return RetryDecision(action="fail", reason=why)
    if action == "elsewhere" and not others:
        return RetryDecision(action="fail", reason=f"{row.reason}, and there is no other that can do it")
    if attempts_made >= policy.max_attempts:
        return RetryDecision(action="fail", reason=f"attempt {attempts_made} of {policy.max_attempts}: {row.reason}")
    wait = policy.wait_after(attempts_made)
    told = f"attempt {attempts_made} of {policy.max_attempts}: {row.reason}; again in {wait:g} s"
    return RetryDecision(action="again", wait_seconds=wait, reason=told)
