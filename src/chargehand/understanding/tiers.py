"""Who is asked to decompose a request, who next when that fails, and what a tier's failure means.

Before decomposition nobody knows how hard a request is, so the chain goes from what costs nothing to what costs most;
the tier that needs no model is the last one before a person.

The tiers themselves are the rows of `domain.tiers.TIERS`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chargehand.domain.plans import DecomposedRequest
from chargehand.domain.tiers import MATCH, MODEL, TIERS, Table, Tier, named


@dataclass(frozen=True, slots=True)
class TierChoice:
    """Which tier to ask now, and why it and not an earlier one. None: nothing is left but a person."""

    tier: str | None
    reason: str


def next_tier(configured: Collection[str], failed: Sequence[str], table: Table = TIERS) -> TierChoice:
    """Choose the next tier that is configured and is not among those that failed for this request.

    Raises `UnknownTier` for one that has no row: it would never be asked.
    """
    known = {named(name, table).name for name in configured}
    left = [tier for tier in table.values() if tier.name in known and tier.name not in failed]
    if not left:
        return TierChoice(None, "a person must look: " + (_told(failed) if failed else "no tier is configured"))
    if failed:
        return TierChoice(left[0].name, f"{left[0].told}, because {_told(failed)}")
    return TierChoice(left[0].name, _why_first(left[0], table))


def _told(failed: Sequence[str]) -> str:
    return f"{', '.join(failed)} gave no usable plan"


def _why_first(first: Tier, table: Table) -> str:
    cheaper = list(table)[: list(table).index(first.name)]
    return f"first choice: {first.told}" + (f" ({', '.join(cheaper)} not configured)" if cheaper else "")


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


def about_doubt(
    tier: str, failed: Sequence[str], following: str | None, table: Table = TIERS
) -> Literal["use", "doubt", "leave"]:
    """Return what becomes of an answer that leaves a doubt.

    A model's is kept while another model is asked. The catalogue match's is not used where models are configured and
    all of them failed: people then wrote for a model, and a person or a later retry is better than "say it plainly" or
    "nobody can do this". In every other case what it asks is asked.
    """
    kind = named(tier, table).kind
    if kind is MODEL:
        return "doubt" if following is not None and named(following, table).kind is MODEL else "use"
    return "leave" if kind is MATCH and any(named(each, table).kind is MODEL for each in failed) else "use"


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


FIRST_WAIT = 0.5  # seconds before the first retry, doubled for each one after it: a gateway that restarts takes 1-2 s


class NextStep(NamedTuple):
    """What to do after a tier has failed: ask it again with what was wrong, the same again after a while, or go on."""

    action: Literal["repair", "retry", "leave"]
    wait_seconds: float = 0.0


LEAVE = NextStep("leave")


def next_step(
    error_class: str, tier: Tier, *, repairs: int, retries: int, seconds_left: float, retry_after: float = 0.0
) -> NextStep:
    """Apply the failure's row, given how often this tier was already asked again and how much of its time is left.

    A tier that wants to be left alone for longer than that is left.
    """
    rule = failure_rule(error_class)
    if tier.kind.deterministic or seconds_left <= 0:
        return LEAVE
    if repairs < rule.repairs:
        return NextStep("repair")
    wait = max(retry_after, FIRST_WAIT * 2**retries)
    if retries < rule.retries and wait < seconds_left:
        return NextStep("retry", wait)
    return LEAVE
