"""Who is asked to decompose a request, who next when that fails, and what a tier's failure means.

Before decomposition nobody knows how hard a request is, so the chain goes from what costs nothing to what costs most;
the tier that needs no model is the last one before a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chargehand.domain.plans import DecomposedRequest

PERSON = "person"

CHAIN: Mapping[str, str] = {
    "memory": "plans that were approved for nearly the same words",
    "local": "the local model",
    "external": "the external model for decomposition",
    "embedded": "the catalogue match, which needs no model",
    PERSON: "a person",
}


MODELS = frozenset({"local", "external"})
"""The tiers that are models."""


@dataclass(frozen=True, slots=True)
class TierChoice:
    """Which tier to ask now, and why it and not an earlier one. None: nothing is left but a person."""

    tier: str | None
    reason: str


def next_tier(configured: frozenset[str], failed: Sequence[str]) -> TierChoice:
    """Choose the next tier of `CHAIN` that is configured and is not among those that failed for this request."""
    left = [tier for tier in CHAIN if tier in configured and tier not in failed]
    if not left:
        return TierChoice(None, "a person must look: " + (_told(failed) if failed else "no tier is configured"))
    if failed:
        return TierChoice(left[0], f"{CHAIN[left[0]]}, because {_told(failed)}")
    return TierChoice(left[0], _why_first(left[0]))


def _told(failed: Sequence[str]) -> str:
    return f"{', '.join(failed)} gave no usable plan"


def doubt(decomposed: DecomposedRequest, flag: float) -> str | None:
    """Return why a model's answer should be looked at by a surer one, or None when it need not.

    Cheaper than deciding from the words of the request: whoever asks, or is less sure of a subtask than `flag`, says
    so itself; and where the catalogue match disagrees, the confidence is below it.
    """
    unsure = [task for task in decomposed.subtasks if task.confidence < flag]
    if unsure:
        return f"unsure of “{unsure[0].words or unsure[0].name}” ({unsure[0].confidence:.2f} is below {flag:.2f})"
    if decomposed.ambiguities:
        return f"it asks: {decomposed.ambiguities[0]}"
    return None if decomposed.subtasks else "it finds nothing in it that can be done here"


def about_doubt(tier: str, failed: Sequence[str], following: str | None) -> Literal["use", "doubt", "leave"]:
    """Return what becomes of an answer that leaves a doubt.

    A model's is kept while another model is asked. The catalogue match's is not used where models are configured and
    all of them failed: people then wrote for a model, and a person or a later retry is better than "say it plainly" or
    "nobody can do this". In every other case what it asks is asked.
    """
    if tier in MODELS:
        return "doubt" if following in MODELS else "use"
    return "leave" if tier == "embedded" and MODELS & set(failed) else "use"


def _why_first(first: str) -> str:
    cheaper = list(CHAIN)[: list(CHAIN).index(first)]
    return f"first choice: {CHAIN[first]}" + (f" ({', '.join(cheaper)} not configured)" if cheaper else "")


class FailureRule(NamedTuple):
    """What to do about a tier's failure before the next tier is asked.

    `repairs` (asking again with what was wrong) and `retries` (asking the same again) are how often, within the
    tier's total time-out. `alert` is for what only an operator can mend.
    """

    repairs: int = 0
    retries: int = 0
    alert: bool = False


REPAIR = FailureRule(repairs=1)  # a model that is told what was wrong mends it at once or never
RETRY = FailureRule(retries=2)
RETRY_ONCE = FailureRule(retries=1)
NEXT = FailureRule()
ALERT = FailureRule(alert=True)

FAILURES: Mapping[str, FailureRule] = {
    # the answer
    "BadDecomposition": REPAIR,
    "BadParameters": REPAIR,
    "InvalidAnswer": REPAIR,
    "OutputTruncated": NEXT,
    "ContextWindowExceededError": NEXT,
    "ContentPolicyViolationError": NEXT,
    # the way there
    "RateLimitError": RETRY,
    "InternalServerError": RETRY,
    "BadGatewayError": RETRY,
    "ServiceUnavailableError": RETRY,
    "APIError": RETRY,
    "APIConnectionError": RETRY_ONCE,
    "ModelUnavailable": RETRY_ONCE,
    "TierBusy": NEXT,  # as many requests as it may read at a time kept it busy until the time was over
    "Timeout": NEXT,  # the tier's total time is gone with it
    # money
    "BudgetExceededError": NEXT,
    "PaymentRequiredError": NEXT,
    # the configuration: the same call will never succeed
    "AuthenticationError": ALERT,
    "PermissionDeniedError": ALERT,
    "NotFoundError": ALERT,
    "UnsupportedParamsError": ALERT,
    "BadRequestError": ALERT,
    "BadConfiguration": ALERT,
}


def failure_rule(error_class: str) -> FailureRule:
    """Return the row for a class of error. One that nobody foresaw goes on to the next tier and is reported."""
    return FAILURES.get(error_class, ALERT)


ALWAYS_THE_SAME = frozenset({"memory", "embedded"})  # no model: the same words get the same answer, however often
FIRST_WAIT = 0.5  # seconds before the first retry, doubled for each one after it: a gateway that restarts takes 1-2 s


class NextStep(NamedTuple):
    """What to do after a tier has failed: ask it again with what was wrong, the same again after a while, or go on."""

    action: Literal["repair", "retry", "leave"]
    wait_seconds: float = 0.0


LEAVE = NextStep("leave")


def next_step(
    error_class: str, tier: str, *, repairs: int, retries: int, seconds_left: float, retry_after: float = 0.0
) -> NextStep:
    """Apply the failure's row, given how often this tier was already asked again and how much of its time is left.

    A tier that wants to be left alone for longer than that is left.
    """
    rule = failure_rule(error_class)
    if tier in ALWAYS_THE_SAME or seconds_left <= 0:
        return LEAVE
    if repairs < rule.repairs:
        return NextStep("repair")
    wait = max(retry_after, FIRST_WAIT * 2**retries)
    if retries < rule.retries and wait < seconds_left:
        return NextStep("retry", wait)
    return LEAVE
