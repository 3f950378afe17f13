"""A row in the table is all that a tier needs to be asked, weighed, checked and set; without a row nothing goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError, create_model

from chargehand.domain.errors import BadConfiguration, UnknownTier
from chargehand.domain.llm import Opinion, Reply, View
from chargehand.domain.plans import DecomposedRequest
from chargehand.domain.tiers import EMBEDDED, MODEL, PEOPLE, PERSON, TIERS, Limits, Table, Tier, chained, models, named
from chargehand.engine.tier_chain import Places
from chargehand.settings import Settings, llm_fields
from chargehand.understanding.confidence import Beside
from chargehand.understanding.feedback import reported
from chargehand.understanding.nlu import Thresholds, read_reply
from chargehand.understanding.questions import build_ask
from chargehand.understanding.tiers import about_doubt, next_step, next_tier
from tests.builders import make_catalog, make_id

LAB = Tier("lab", "the model of the lab", MODEL, prior=0.65, limits=Limits(20.0, 2, "ollama_chat/large"))
GUEST = Tier("guest", "somebody who knows", PEOPLE)
LOCAL = named("local")
TABLE = chained(LOCAL, LAB, *map(named, ("external", EMBEDDED, PERSON)), GUEST)
STOP = {"order": 1, "name": "x", "intent": "stop_wiki", "confidence": 0.9, "words": "stop the wiki"}
OTHER = Opinion([View({"start_wiki": 0.9, "stop_wiki": 0.02})])
SAME = Opinion([View({"stop_wiki": 0.9})])


def read(tier: str, table: Table = TABLE, opinion: Opinion | None = None, **subtask: Any) -> DecomposedRequest:
    ask = build_ask(make_id("r"), "stop the wiki", make_catalog("start_wiki", "stop_wiki"))
    reply = Reply(tier=tier, model="m", value={"subtasks": [STOP | subtask]})
    return read_reply(reply, ask, Thresholds(), Beside(opinion), table)


def test_it_is_asked_in_its_place() -> None:
    configured = {"local", "lab", "external", "embedded"}
    assert next_tier(configured, ["local"], TABLE).reason == "the model of the lab, because local gave no usable plan"
    assert next_tier(configured, ["local", "lab"], TABLE).tier == "external"
    assert "(local, lab not configured)" in next_tier({"external"}, [], TABLE).reason


def test_a_doubt_goes_from_model_to_model_and_the_match_steps_aside_after_it() -> None:
    assert about_doubt("local", [], "lab", TABLE) == about_doubt("lab", ["local"], "external", TABLE) == "doubt"
    assert about_doubt("lab", [], "embedded", TABLE) == "use"
    assert about_doubt("embedded", ["lab"], None, TABLE) == "leave"


def test_it_is_asked_again_as_models_are() -> None:
    assert next_step("BadDecomposition", LAB, repairs=0, retries=0, seconds_left=9).action == "repair"
    assert next_step("RateLimitError", LAB, repairs=0, retries=0, seconds_left=9).action == "retry"


def test_its_confidence_is_made_of_terms_that_begin_with_its_prior() -> None:
    (task,) = read("lab").subtasks
    assert (task.confidence, task.claimed_confidence) == (0.65, 0.9)
    assert task.terms == {"tier": pytest.approx(math.log(0.65 / 0.35), abs=0.001)}


def test_it_is_cross_checked_and_flagged() -> None:
    (differs,), (agrees,) = read("lab", opinion=OTHER).subtasks, read("lab", opinion=SAME).subtasks
    assert differs.confidence < Thresholds().flag
    assert differs.flags[0].startswith("disagreement: ")
    assert (agrees.terms["catalogue match"], agrees.flags) == (2.0, ())
    (unsure,) = read("lab", confidence=0.5).subtasks
    assert unsure.flags[0].endswith("is below 0.60")


def test_another_person_is_believed() -> None:
    (task,) = read("guest", opinion=OTHER, confidence=0.3).subtasks
    assert (task.confidence, task.terms, task.flags) == (0.3, {}, ())


def test_each_kind_has_its_threshold() -> None:
    below = Thresholds(flag=0.6, embedded=0.7).below
    assert {name: below(tier) for name, tier in TABLE.items()} == {
        "local": 0.6, "lab": 0.6, "external": 0.6, "embedded": 0.7, "person": 0.0, "guest": 0.0,
    }  # fmt: skip


def test_it_has_settings_with_the_defaults_of_its_row() -> None:
    settings = create_model("WithLab", __base__=Settings, **llm_fields(models(TABLE)))
    found = settings(llm_lab_url="http://127.0.0.1:1", llm_lab_model="large").llm(LAB)
    assert tuple(found) == ("http", "http://127.0.0.1:1", "large", None, 20.0, 2)
    with pytest.raises(ValidationError, match="not a URL"):
        settings(llm_lab_url="lab")
    assert {name for name in Settings.model_fields if name.startswith("llm_")} == set(llm_fields(models()))


UNKNOWN: dict[str, Callable[[], object]] = {
    "named": lambda: named("lab"),
    "asked next": lambda: next_tier({"local", "lab"}, []),
    "in doubt": lambda: about_doubt("lab", [], None),
    "followed": lambda: about_doubt("local", [], "lab"),
    "failed": lambda: about_doubt("embedded", ["lab"], None),
    "read": lambda: read("lab", TIERS),
    "with places": lambda: Places({"lab": 2}),
    "reported": lambda: reported([], [{"tier": "lab", "model": "m"}], {}),
}


@pytest.mark.parametrize("way", UNKNOWN)
def test_what_has_no_row_is_an_error_wherever_it_is_looked_up(way: str) -> None:
    with pytest.raises(UnknownTier, match="no tier is called 'lab'; there are local, "):
        UNKNOWN[way]()


@pytest.mark.parametrize(
    "rows",
    [(LOCAL, LOCAL._replace(told="another")), (LAB._replace(prior=None),), (LAB._replace(limits=None),)],
    ids=["twice", "no prior", "no limits"],
)
def test_a_row_that_says_too_little_is_refused(rows: tuple[Tier, ...]) -> None:
    with pytest.raises(BadConfiguration):
        chained(*rows)
