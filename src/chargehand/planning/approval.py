"""Who must agree to a plan. The first rule that matches decides; rules look at the typed plan, never at words.

So nothing that a request, a playbook or a model says can make a plan run without being asked for. `missing_consent` is
what every way to start work asks: `approve`, `retry`, `resume`, a plan that runs at once, and each hand-out of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chargehand.domain.errors import NotPermitted, PlanChanged, WrongStatus
from chargehand.domain.plans import Ruling, WorkPlan
from chargehand.domain.records import PlanRecord, RequestRecord
from chargehand.domain.risks import RISKS, OwnRule, Risk
from chargehand.domain.states import RequestStatus
from chargehand.planning.digest import digest as digest_of


@dataclass(frozen=True, slots=True)
class ApprovalContext:
    """What the rules may know beside the plan: who asked, how the words were read, and what the operator allows.

    `flags` are reasons to look twice that the reading of the request gave; those of single tasks are in the plan, too.
    More than `max_flags` of them are asked about whatever else allows the plan.
    """

    requester: str
    only_matched: bool  # no model has read the request, only the catalogue match
    flags: tuple[str, ...] = ()
    max_flags: int = 0
    four_eyes_for: frozenset[Risk] = frozenset()
    auto_approve: frozenset[Risk] = frozenset()


class Rule(NamedTuple):
    """A named rule: when it matches, what it asks for, and the reason a person is shown."""

    name: str
    matches: Callable[[WorkPlan, ApprovalContext], bool]
    action: Literal["run", "ask", "ask_twice"]
    reason: str


def _rules_of_risks(action: Literal["ask", "ask_twice"]) -> tuple[Rule, ...]:
    """Return the rules that risks bring with them, that of the worst risk first."""
    own = [(risk, traits.own_rule) for risk, traits in RISKS.items() if traits.own_rule is not None]
    return tuple(_rule_of(risk, rule) for risk, rule in reversed(own) if rule.action == action)


def _rule_of(risk: Risk, own: OwnRule) -> Rule:
    return Rule(own.name, lambda plan, _: risk in risks(plan), own.action, own.reason)


RULES = (
    Rule("four eyes", lambda plan, context: not risks(plan).isdisjoint(context.four_eyes_for),
         "ask_twice", "the operator wants two people to agree to work of this risk"),
    *_rules_of_risks("ask_twice"),  # before what asks one person only
    Rule("offers differ", lambda plan, _: _contested(plan),
         "ask", "agents offer one of its steps differently"),
    Rule("flagged", lambda plan, context: bool(plan.out_of_scope) or _flags(plan, context) > context.max_flags,
         "ask", "something in it is unsure or was left out"),
    Rule("custom work", lambda plan, _: any(task.work_type == "custom_work" for task in plan.tasks),
         "ask", "it holds work that no agent has described"),
    *_rules_of_risks("ask"),  # before what lets it run
    Rule("allowed by the operator", lambda plan, context: risks(plan) <= context.auto_approve,
         "run", "the operator lets plans of this risk run at once"),
    Rule("plain commands only", lambda _, context: context.only_matched,
         "ask", "no model has read the request, only the catalogue match"),
    Rule("default", lambda plan, context: True,
         "ask", "a person agrees to every plan"),
)  # fmt: skip


def rule_on(plan: WorkPlan, context: ApprovalContext) -> Ruling:
    """Return what the first matching rule says."""
    rule = next(rule for rule in RULES if rule.matches(plan, context))
    return Ruling(action=rule.action, rule=rule.name, reason=rule.reason)


def risks(plan: WorkPlan) -> frozenset[Risk]:
    """Return the risks of all tasks of a plan."""
    return frozenset(task.risk for task in plan.tasks)


def _contested(plan: WorkPlan) -> bool:
    """Whether what a step is, and how dangerous, depends on which agent is believed."""
    return any(task.contested for task in plan.tasks)


def _flags(plan: WorkPlan, context: ApprovalContext) -> int:
    """How many flags there are. The plan's tasks repeat those of the reading, so they are not added up."""
    return max(len(context.flags), sum(len(task.flags) for task in plan.tasks))


NEEDED: Mapping[str, int] = {"run": 0, "ask": 1, "ask_twice": 2}
"""How many different people must approve, by what the ruling says."""

UNBOUND = "this is not the plan that was approved; nothing of it was run"
UNRULED = "what the approval policy said about this plan is not signed with this home's key; nothing of it was run"
CHANGED = "the request was changed after it was planned; nothing of it was run"


def needed_approvals(plan: PlanRecord) -> int:
    """Return how many different people must approve."""
    return NEEDED[plan.ruling["action"]]


def person(name: str) -> str:
    """Return what two spellings of one person's name have in common: neither spaces nor capitals make two people."""
    return " ".join(name.split()).casefold()


def consenting(request: RequestRecord, plan: PlanRecord, action: str) -> frozenset[str]:
    """Return whose signed approval counts where the ruling is `action`: for four eyes of nobody who asked for it.

    Who said the request in other words has asked for what these words say.
    """
    approvers, askers = (frozenset(map(person, names)) for names in (plan.approvers, request.askers))
    return approvers - (askers if action == "ask_twice" else frozenset())


def missing_consent(request: RequestRecord, plan: PlanRecord) -> str | None:
    """Return why no work of this plan may start for this request; None when it may. Every way to start work asks it."""
    if reason := _why_unfit(request, plan):
        return reason
    missing = needed_approvals(plan) - len(consenting(request, plan, plan.ruling["action"]))
    if missing <= 0:
        return None
    if plan.unsigned:
        names = ", ".join(plan.unsigned)
        return f"the approval by {names} is not signed with this home's key, so nobody gave it; nothing of it was run"
    return f"{missing} more must approve it; nothing of it was run"


def _why_unfit(request: RequestRecord, plan: PlanRecord) -> str | None:
    """Return why nobody's approval could let this plan run: not all of it is what Chargehand wrote."""
    intact = digest_of(plan.plan) == plan.digest if plan.intact is None else plan.intact
    if plan.request_id != request.request_id or not intact:
        return UNBOUND
    if not plan.ruled:
        return UNRULED
    return None if (plan.plan.dry_run, plan.plan.mode) == (request.dry_run, request.mode) else CHANGED


def why_ask_again(request: RequestRecord, plan: PlanRecord, context: ApprovalContext, lasts: float) -> str | None:
    """Return why work that stopped may not be taken up again on the approval that was given; None when it may.

    An approval lasts for `lasts` seconds. Until then it also has to be what the rules ask for now.
    """
    if missing := missing_consent(request, plan):
        return missing
    if plan.expired or (plan.approved_at is not None and plan.at - plan.approved_at > lasts * 1_000_000):
        return "its approval is too old to start work again"
    action = rule_on(plan.plan, context).action
    if len(consenting(request, plan, action)) < NEEDED[action]:
        return "the approval policy asks for more than was given"
    return None


def stricter(plan: PlanRecord, context: ApprovalContext) -> str:
    """Return what must be agreed to now: what was ruled when the plan was made, or what the rules of now ask for."""
    then: str = plan.ruling["action"]
    return max((then, rule_on(plan.plan, context).action), key=lambda action: NEEDED[action])


def still_missing(request: RequestRecord, plan: PlanRecord, context: ApprovalContext) -> bool:
    """Whether more people must approve before the plan may start, by what was ruled and by the rules of now."""
    action = stricter(plan, context)
    return bool(missing_consent(request, plan)) or len(consenting(request, plan, action)) < NEEDED[action]


def check_approvable(
    request: RequestRecord, plan: PlanRecord | None, digest: str, approver: str, context: ApprovalContext
) -> PlanRecord:
    """Return the plan if this person may approve it now; else raise what says why not."""
    if plan is None or request.status is not RequestStatus.AWAITING_APPROVAL:
        raise WrongStatus(
            f"request {request.request_id} is {request.status}: there is nothing to approve",
            hint=f"`chargehand status {request.request_id}` shows where it stands.",
        )
    if digest != plan.digest and plan.digest.startswith(digest):
        raise PlanChanged(
            f"{digest!r} is only the beginning of the plan's digest: another plan could begin like it",
            hint="Give the whole digest; `chargehand approve` without one shows it.",
        )
    if plan.digest != digest or digest_of(plan.plan) != digest:
        raise PlanChanged("the plan is not the one you were shown", hint="Look at it again, then approve what you see.")
    if reason := _why_unfit(request, plan):
        raise NotPermitted(reason, hint="Somebody changed the database: see `chargehand why`, and submit it again.")
    if plan.expired:
        raise NotPermitted("the plan was made too long ago", hint="Submit the request again for a fresh plan.")
    if stricter(plan, context) == "ask_twice" and person(approver) in set(map(person, request.askers)):
        raise NotPermitted("two other people must approve this plan; you asked for it, or for these words, yourself")
    return plan
