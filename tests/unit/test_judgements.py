"""What people made of readings, as verdicts; and the report, which says where there is too little to go by."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chargehand.cli.show.models import report_lines
from chargehand.understanding.calibration import UNFITTED
from chargehand.understanding.feedback import FEW, Report, reported
from chargehand.understanding.judgements import approved, fits, judgements
from tests.builders import NOW, make_id


def reading(*intents: str, request: str = "r", minute: int = 0, tier: str = "local", sure: float = 0.9) -> Any:
    subtasks = [
        {"intent": intent, "confidence": sure, "claimed_confidence": 0.95, "terms": {"tier": 1.1}} for intent in intents
    ]
    row = {"request_id": make_id(request), "created_at": NOW + timedelta(minutes=minute), "tier": tier, "model": "m"}
    return {**row, "wording": " and ".join(intents), "value": {"subtasks": subtasks}}


def plan(*intents: str, request: str = "r", minute: int = 0, action: str = "ask", decisions: Any = ()) -> Any:
    row = {"request_id": make_id(request), "created_at": NOW + timedelta(minutes=minute), "intents": list(intents)}
    return {**row, "action": action, "decisions": list(decisions)}


APPROVED, REJECTED = ("approved",), ("rejected",)


@pytest.mark.parametrize(
    ("readings", "plans", "expected"),
    [
        ([reading("a", "b")], [plan("a", "b", decisions=APPROVED)], [(True, "approved"), (True, "approved")]),
        ([reading("a")], [plan("a")], []),
        ([reading("a")], [], []),
        ([reading("a")], [plan("a", action="run")], []),
        ([reading("a")], [plan("a", action="run", decisions=APPROVED)], []),
        ([reading("a")], [plan("a", decisions=REJECTED)], [(False, "rejected")]),
        (
            [reading("a", "b"), reading("a", "c", minute=5)],
            [plan("a", "b", decisions=REJECTED), plan("a", "c", minute=5, decisions=APPROVED)],
            [(True, "changed"), (False, "changed"), (True, "approved"), (True, "approved")],
        ),
        (
            [reading("a", "a"), reading("a", minute=5, tier="person")],
            [plan("a", minute=5, decisions=APPROVED)],
            [(True, "changed"), (False, "changed"), (True, "approved")],
        ),
        ([reading("a")], [plan("a", request="another", decisions=APPROVED)], []),
        ([reading("a")], [plan("a", minute=-1, decisions=APPROVED)], []),
    ],
    ids=[
        "approved", "not yet", "no plan", "ran by itself", "ran, approved by a rule", "rejected", "said again",
        "written by a person", "another request's", "of a plan before it",
    ],
)  # fmt: skip
def test_only_what_people_decide_is_a_verdict(readings: Any, plans: Any, expected: Any) -> None:
    assert [(each.right, each.how) for each in judgements(readings, plans)] == expected


def test_a_rejection_without_words_weighs_half() -> None:
    (found,) = judgements([reading("a")], [plan("a", decisions=REJECTED)])
    assert (found.sample.weight, found.sample.log_odds) == (0.5, 1.1)


def many(right: int, wrong: int, sure: float = 0.9) -> tuple[list[Any], list[Any]]:
    readings = [reading("a", request=f"{n}", sure=sure) for n in range(right + wrong)]
    plans = [plan("a", request=f"{n}", decisions=APPROVED if n < right else REJECTED) for n in range(right + wrong)]
    return readings, plans


def one(readings: Any, plans: Any, threshold: float = 0.6) -> Report:
    (found,) = reported(judgements(readings, plans), readings, {"local": threshold})
    return found


def test_a_report_compares_confidence_and_claim_with_what_was_right() -> None:
    found = one(*many(30, 10, sure=0.75))
    assert (found.readings, found.subtasks, found.right, found.few) == (40, 40, 0.75, False)
    assert (found.confidence, found.ece) == (pytest.approx(0.75), pytest.approx(0.0))
    assert (found.claimed, found.claimed_ece) == (pytest.approx(0.95), pytest.approx(0.2))
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.75 < found.high
    assert [tuple(each) for each in found.bins] == [(40, pytest.approx(0.75), 0.75)]
    assert [(a.threshold, a.asked, a.asked_wrong, a.missed_wrong) for a in found.levels] == [
        (0.5, 0, 0, 10), (0.6, 0, 0, 10), (0.7, 0, 0, 10), (0.8, 40, 10, 0), (0.9, 40, 10, 0),
    ]  # fmt: skip


def test_a_report_says_where_there_is_too_little() -> None:
    few = one(*many(FEW - 1, 0))
    assert few.few
    none = one([reading("a")], [])
    assert (none.subtasks, none.right, none.ece, none.levels, none.fit) == (0, None, None, [], UNFITTED)
    told = ["\n".join(line.text for line in report_lines(each)) for each in ([few], [none], [])]
    assert "mostly luck" in told[0]
    assert "nothing is known" in told[1]
    assert told[2] == "No request was read yet."


def test_a_report_shows_the_threshold_that_is_set() -> None:
    told = [line.text for line in report_lines([one(*many(40, 10), threshold=0.65)])]
    assert [line.split()[0] for line in told if line.endswith("as set")] == ["0.65"]


def test_fits_are_by_tier_and_model() -> None:
    readings, plans = many(0, 10)
    found = fits(judgements([*readings, reading("a", request="x", tier="external")], [*plans, plan("a", request="x")]))
    assert found.keys() == {("local", "m")}
    assert found["local", "m"].shift < 0


@pytest.mark.parametrize(
    ("readings", "plans", "expected"),
    [
        ([reading("b", "a")], [plan("b", "a", decisions=APPROVED)], [("b and a", ("a", "b"))]),
        ([reading("a", "b")], [plan("a", decisions=APPROVED)], []),  # a person took a step out: the words said more
        ([reading("a")], [plan("a", action="run", decisions=APPROVED)], []),
        ([reading("a")], [plan("a", decisions=REJECTED)], []),
        (
            [reading("a"), reading("c", minute=5)],
            [plan("a", decisions=REJECTED), plan("c", minute=5, decisions=APPROVED)],
            [("c", ("c",))],
        ),
    ],
    ids=["approved", "edited", "ran by itself", "rejected", "said again"],
)
def test_what_was_approved_as_it_was_read_must_go_on_being_read_so(readings: Any, plans: Any, expected: Any) -> None:
    assert approved(readings, plans) == expected
