"""Looking back: figures against cases worked out by hand, and decisions taken again by other policies."""

from __future__ import annotations

import json

import pytest

from chargehand.domain.routing import RoutingDecision
from chargehand.routing.replay import replayed, stored
from chargehand.routing.report import appraised, compared
from chargehand.routing.router import ADDITIVE, LEARNED, route
from tests.builders import make_agent, make_task

TASK = make_task()
AGENTS = [
    make_agent("old", success_count=80, failure_count=20, lately_successes=6.0, lately_runs=30.0, overall_runs=30.0),
    make_agent("new", lately_successes=9.0, lately_runs=9.0, overall_successes=9.0, overall_runs=9.0),
]


def row(decision: RoutingDecision, **fields):
    """A row as it comes back from the database."""
    columns = ("reason", "success_rate_percent", "specialization_match", "recent_context_match", "agent_pool")
    return {
        **{name: getattr(decision, name) for name in columns},
        "selected_agent_id": decision.selected,
        "decision": json.loads(json.dumps(stored(decision))),
        "predicted_success": decision.predicted_success,
        "predicted_ms": decision.predicted_ms,
        "succeeded": None,
        "duration_ms": None,
    } | fields


def test_a_decision_taken_again_is_the_same_and_another_policy_may_choose_another():
    kept = row(route(TASK, AGENTS))
    again, other = replayed(TASK, kept), replayed(TASK, kept, ADDITIVE)
    assert again.same
    assert not again.partial
    assert (again.decision.selected, other.decision.selected) == ("new", "old")
    assert not other.partial
    found = compared([(kept, other)])
    assert (found.decisions, found.same, found.partial, found.unreadable) == (1, 0, 0, 0)


def test_a_decision_to_wait_can_be_taken_again():
    full = AGENTS[0]._replace(in_flight=AGENTS[0].slots, lately_successes=30.0, lately_runs=30.0)
    free = make_agent("free", lately_runs=30.0)
    kept = row(route(TASK, [full, free], wait_limit=20.0))
    assert kept["decision"]["waits_for"] == full.agent_id
    assert (appraised([kept]).found_nobody, appraised([kept]).chose_to_wait) == (0, 1)
    assert replayed(TASK, kept).same
    kept["decision"]["wait_limit"] = 0.0
    assert not replayed(TASK, kept).same


def test_a_sampled_decision_is_exact_by_its_own_policy_and_partial_by_another():
    pool = [make_agent(f"{n:03d}", lately_runs=5.0, lately_successes=n % 5) for n in range(120)]
    kept = row(route(TASK, pool, draw=99))
    assert replayed(TASK, kept).same
    assert replayed(TASK, kept, ADDITIVE).partial
    assert not replayed(TASK, kept, LEARNED._replace(weights=(("queue", -1.0),))).same


def test_a_decision_of_an_older_scorer_is_called_that_and_not_a_difference():
    kept = row(route(TASK, AGENTS))
    kept["decision"]["scorer"] -= 1
    assert (replayed(TASK, kept).same, replayed(TASK, kept).older) == (True, True)
    kept["reason"] = "what the older code said"
    found = compared([(kept, replayed(TASK, kept))])
    assert (found.exact, found.older) == (0, 1)
    nobody = row(route(TASK, [], others=3))
    assert replayed(TASK, nobody).same


def test_a_decision_that_looked_at_nobody_or_kept_no_facts_is_counted_apart():
    old_form = row(route(TASK, AGENTS))
    old_form["decision"].pop("form")
    assert replayed(TASK, old_form) is None
    assert compared([(old_form, None)]).unreadable == 1


def test_figures_are_those_worked_out_by_hand():
    decision = route(TASK, AGENTS)
    rows = [
        row(decision, predicted_success=0.9, succeeded=True, predicted_ms=1000, duration_ms=1500),
        row(decision, predicted_success=0.9, succeeded=False, predicted_ms=1000, duration_ms=10),
        row(decision, predicted_success=0.4, succeeded=False),
        row(decision),
        row(route(TASK, [])),
    ]
    found = appraised(rows)
    assert (found.decisions, found.found_nobody, found.ended) == (5, 1, 3)
    assert found.success_rate == pytest.approx(1 / 3)
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.16) / 3)
    assert found.ece == pytest.approx((2 * 0.4 + 1 * 0.4) / 3)
    assert found.duration_ratio == 1.5
    assert found.load_jain == 1.0
    assert found.by_agent == {"new": (3, 1)}
    assert found.by_policy == {"learned": (3, 1)}


def test_nothing_is_said_where_there_is_nothing():
    assert appraised([]).success_rate is None
    assert appraised([row(route(TASK, AGENTS))]).brier is None
