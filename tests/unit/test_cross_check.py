"""A model's plan against the catalogue match: where they agree, where not, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.domain.llm import Opinion, Reply, Seen, View
from chargehand.understanding.calibration import Fit
from chargehand.understanding.confidence import Beside, stands_in
from chargehand.understanding.cross_check import Planned, compare, disagreements
from chargehand.understanding.nlu import Thresholds, read_reply
from chargehand.understanding.questions import build_ask
from tests.builders import make_catalog, make_id

SURE_FIT = Fit(shift=3.0, slope=1.5, outcomes=500)


@pytest.mark.parametrize(
    ("likely", "agreement"),
    [
        ({"stop": 0.9, "start": 0.05}, "agrees"),
        ({"stop": 0.3, "start": 0.05}, "leans"),
        ({"stop": 0.05}, "silent"),
        ({}, "silent"),
        ({"start": 0.9, "stop": 0.05}, "differs"),
        ({"start": 0.9}, "differs"),
        ({"start": 0.6, "stop": 0.3}, "doubts"),
        ({"start": 0.3, "stop": 0.01}, "doubts"),
        ({"start": 0.1}, "silent"),
        ({"start": 0.5, "stop": 0.5}, "agrees"),
    ],
)
def test_how_far_they_agree(likely: dict[str, float], agreement: str) -> None:
    assert compare("stop", View(likely)) == agreement


def test_nobody_to_ask_is_no_opinion() -> None:
    assert compare("stop", None) == "silent"


def test_what_it_takes_for_something_else_is_named() -> None:
    flags = disagreements([Planned("stop", "start it")], Opinion([View({"start": 0.9})]))
    assert flags == [["disagreement: the catalogue match takes it for start (0.90), the model for stop"]]


def test_what_is_to_be_left_alone_is_named() -> None:
    assert disagreements([Planned("stop", "do not stop it")], Opinion([View({"stop": 0.9}, negated=True)])) == [
        ["disagreement: the words say what not to do"]
    ]


def test_what_a_model_refuses_and_the_match_is_sure_of_is_asked_about() -> None:
    wish, unsure = "install grafana on node4", "make coffee"
    opinion = Opinion([], [Seen(wish, "deploy_service", 0.8), Seen(unsure, "deploy_service", 0.3)])
    catalog = make_catalog("deploy_service")
    ask = build_ask(make_id("request"), f"{wish} and {unsure}", catalog)
    reply = Reply(tier="local", model="m", value={"out_of_scope": [wish, unsure]})
    got = read_reply(reply, ask, Thresholds(), Beside(opinion))
    assert got.out_of_scope == (unsure,)
    assert got.ambiguities == (
        f"“{wish}”: the model says that nothing here does it; the catalogue match takes it for deploy_service (0.80)."
        " Is that meant?",
    )
    assert read_reply(reply, ask, Thresholds()).out_of_scope == (wish, unsure)


def test_what_was_left_out_is_named_once() -> None:
    planned = [Planned("stop", "stop the wiki"), Planned("start", "start the blog")]
    queries = [View({"stop": 0.9}), View({"start": 0.9})]
    assert disagreements(planned, Opinion(queries, [Seen("check the disk", "check", 0.8)]))[1][0].startswith(
        "disagreement: “check the disk” is not in the plan"
    )
    there = [Seen("stop the wiki", "stop", 0.9), Seen("start the blog", "restart", 0.9)]
    assert disagreements(planned, Opinion(queries, there)) == [[], []], "the same words are compared, not missed"


# --- on the way from an answer to a decomposition --------------------------------------------------------------------

TEXT = "stop the wiki and check http://wiki.local"


def read(*subtasks: dict[str, Any], tier: str = "local", **beside: Any) -> Any:
    ask = build_ask(make_id("r"), TEXT, make_catalog("start_wiki", "stop_wiki"))
    value: Any = {"subtasks": [{"order": n, "name": "x"} | task for n, task in enumerate(subtasks, 1)]}
    reply = Reply(tier=tier, model="m", value=value)
    return read_reply(reply, ask, Thresholds(), Beside(**beside))


STOP = {"intent": "stop_wiki", "confidence": 0.95, "words": "stop the wiki"}
OTHER = Opinion([View({"start_wiki": 0.9, "stop_wiki": 0.02})])
SAME = Opinion([View({"stop_wiki": 0.9})])


def test_agreement_makes_it_surer_and_the_terms_are_kept() -> None:
    (alone,), (backed,) = read(STOP).subtasks, read(STOP, opinion=SAME).subtasks
    assert backed.confidence > 0.9 > alone.confidence
    assert (backed.claimed_confidence, backed.terms["catalogue match"], backed.flags) == (0.95, 2.0, ())


@pytest.mark.parametrize("fits", [{}, {("local", "m"): SURE_FIT}])
def test_a_disagreement_is_flagged_and_below_the_threshold_whatever_outcomes_say(fits: Any) -> None:
    (task,) = read(STOP | {"confidence": 1.0}, opinion=OTHER, fits=fits).subtasks
    assert task.confidence < Thresholds().flag
    assert task.flags[0].startswith("disagreement: ")


def test_an_answer_that_was_repaired_or_reads_other_words_is_trusted_less() -> None:
    plain = read(STOP).subtasks[0].confidence
    assert read(STOP, repaired=True).subtasks[0].confidence < plain
    assert read(STOP | {"words": "stop everything"}).subtasks[0].confidence < plain


def test_a_fit_belongs_to_one_tier_and_model_and_its_version_is_stored() -> None:
    fits = {("local", "m"): Fit(-1.0, 1.0, 40.0), ("external", "m"): SURE_FIT}
    got = read(STOP, fits=fits)
    assert got.subtasks[0].terms["outcomes"] == -1.0
    assert got.calibration == Fit(-1.0, 1.0, 40.0).version
    assert read(STOP).calibration == "2"


def test_a_person_is_believed() -> None:
    (task,) = read(STOP | {"confidence": 1.0}, tier="person", opinion=OTHER).subtasks
    assert (task.confidence, task.flags, task.terms) == (1.0, (), {})


def test_the_doubt_of_the_model_itself_stays_a_flag() -> None:
    (task,) = read(STOP | {"confidence": 0.55}, opinion=SAME).subtasks
    assert task.confidence > 0.6
    assert "it says 0.55 itself" in task.flags[0]


def test_words_stand_in_a_text_whatever_their_case_and_spaces() -> None:
    assert stands_in("STOP  the Wiki", TEXT)
    assert not stands_in("stop the blog", TEXT)
