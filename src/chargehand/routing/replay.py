"""Routing decisions as they are stored, and taking them again from what was stored.

stored(decision) -> JSON; replayed(task, JSON, policy) -> the decision that policy would have taken
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chargehand.domain.plans import WorkTask
from chargehand.domain.routing import AgentFacts, Candidate, Figures, Policy, RoutingDecision
from chargehand.routing.router import SCORER, Around, score

FORM = 2  # of a stored decision; facts are lists in the order of AgentFacts._fields, old ones shorter


def stored(decision: RoutingDecision) -> dict[str, Any]:
    """Return a decision as JSON, complete enough to be taken again."""
    return {
        "form": FORM,
        "scorer": SCORER,
        "intent": decision.intent,
        "policy": decision.policy,
        "rules": decision.rules._asdict() if decision.rules else None,
        "selected": decision.selected,
        "infeasible": decision.infeasible,
        "pool_size": decision.pool_size,
        "draw": decision.draw,
        "others": decision.others,
        "wait_limit": decision.wait_limit,
        "waits_for": decision.waits_for,
        "prediction": decision.prediction,
        "candidates": [_candidate(candidate) for candidate in decision.candidates],
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {**candidate._asdict(), "terms": {name: round(term, 6) for name, term in candidate.terms.items()}}


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision taken again.

    `partial`: another policy might have looked at agents whose facts were not stored. `older`: it was taken by another
    version of the scorer, so that it need not come out the same.
    """

    decision: RoutingDecision
    same: bool
    partial: bool
    older: bool = False


def replayed(task: WorkTask, row: Mapping[str, Any], policy: Policy | None = None) -> Replay | None:
    """Take a stored decision again, by its own policy or another. None when it looked at nobody, or in another form.

    `row` is one of `routing_decisions`. With its own policy, everything must come out as it was stored.
    """
    value = row["decision"]
    if value.get("form") != FORM or value["rules"] is None:
        return None
    decision = score(task, facts_of(value), policy or policy_of(value["rules"]), _around(value))
    partial = policy is not None and value["draw"] is not None
    return Replay(decision, _same(decision, row), partial, older=value["scorer"] != SCORER)


def _around(value: Mapping[str, Any]) -> Around:
    """Return what was said about the task beside its agents, as far as a decision goes by it."""
    return Around(others=value["others"], wait_limit=value["wait_limit"])


def policy_of(rules: Mapping[str, Any]) -> Policy:
    """Return a policy as it was stored."""
    return Policy(**{**rules, "weights": tuple((name, float(weight)) for name, weight in rules["weights"])})


def facts_of(value: Mapping[str, Any]) -> list[AgentFacts]:
    """Return the facts of every agent that was looked at, in the order in which it was."""
    return [_facts(candidate["facts"]) for candidate in value["candidates"]]


def _facts(values: Sequence[Any]) -> AgentFacts:
    facts = AgentFacts(*values)
    of_intent = Figures(*facts.of_intent) if facts.of_intent else None
    return facts._replace(specializations=tuple(facts.specializations), of_intent=of_intent)


def _same(decision: RoutingDecision, row: Mapping[str, Any]) -> bool:
    """Whether every column and every candidate is as it was stored."""
    columns = ("reason", "success_rate_percent", "specialization_match", "recent_context_match", "agent_pool")
    again = stored(decision)
    return (
        all(getattr(decision, name) == row[name] for name in columns)
        and all(again[name] == row["decision"][name] for name in ("selected", "infeasible", "waits_for"))
        and _plain(again["candidates"]) == _plain(row["decision"]["candidates"])
    )


def _plain(candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**c, "facts": _facts(c["facts"])} for c in candidates]
