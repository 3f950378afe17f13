"""Who must agree to a plan. The first rule that matches decides; rules look at the typed plan, never at words.

So nothing that a request, a playbook or a model says can make a plan run without being asked for.
"""

from __future__ import annotations

from collections.abc import Callable
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
    Rule("dry run", lambda plan, _: plan.dry_run and not _contested(plan),
         "run", "a dry run changes nothing"),
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


def needed_approvals(plan: PlanRecord) -> int:
    """Return how many different people must approve."""
    return 2 if plan.ruling["action"] == "ask_twice" else 1


def check_approvable(request: RequestRecord, plan: PlanRecord | None, digest: str, approver: str) -> PlanRecord:
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
    if plan.expired:
        raise NotPermitted("the plan was made too long ago", hint="Submit the request again for a fresh plan.")
    if plan.ruling["action"] == "ask_twice" and approver == request.requester:
        raise NotPermitted("two other people must approve this plan; you asked for it yourself")
    return plan
