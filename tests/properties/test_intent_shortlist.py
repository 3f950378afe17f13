"""Which intents a model is shown: what a question costs stays flat, and what is asked for is among them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec
from chargehand.understanding import intent_shortlist
from chargehand.understanding.questions import build_ask
from tests.decompose.scoring import load_cases

CASES = Path(__file__).parents[1] / "decompose"


def named(intent: str) -> str:
    """Return an intent's name as ours are written; some catalogs of the tests have others."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", intent)).lower()


def spec_of(entry: dict[str, Any]) -> IntentSpec:
    return IntentSpec(**({"work_type": "custom_work"} | entry | {"intent": named(entry["intent"])}))


def everything() -> list[IntentSpec]:
    """Return every catalog of the tests in one, and copies of it about other things, up to 1,500 intents."""
    entries = [entry for path in sorted(CASES.glob("*_catalog.json")) for entry in json.loads(path.read_text())]
    first = {spec.intent: spec for spec in reversed([spec_of(entry) for entry in entries])}  # of those with one name
    specs = [first[intent] for intent in sorted(first)]
    copies = [
        spec.model_copy(
            update={
                "intent": f"{spec.intent[:50]}_{number}",
                "service": f"unit{number}",
                "examples": tuple(f"{example} of unit{number}" for example in spec.examples),
            }
        )
        for number in range(100)
        for spec in specs
    ]
    return [*specs, *copies][:1500]


def size(text: str, specs: list[IntentSpec]) -> int:
    ask = build_ask(UUID(int=1), text, Catalog(tuple(specs)))
    return len(json.dumps([*ask.messages, ask.answer_schema]))


def test_what_a_question_costs_does_not_grow_with_the_catalog() -> None:
    specs = everything()
    text = "deploy the status page and add our portals to its config, then restart nginx on web-1"
    assert size(text, specs) <= 1.5 * size(text, specs[:150])
    assert size(text, specs[:15]) < size(text, specs[:150])


def test_a_small_catalog_is_shown_whole_and_a_large_one_in_its_own_order() -> None:
    specs = everything()
    assert intent_shortlist.narrow("anything", specs[: intent_shortlist.MOST]) == tuple(specs[: intent_shortlist.MOST])
    shown = intent_shortlist.narrow("deploy the status page", specs)
    assert len(shown) == intent_shortlist.MOST
    assert [spec.intent for spec in shown] == [spec.intent for spec in specs if spec in shown]


PLAIN = frozenset({"building", "cloud", "dataplatform", "delivery", "example", "helpdesk", "homelab"})
PLAIN |= {"media", "network", "office"}  # the requests of the other sets share few words with their catalog


@pytest.mark.parametrize(("messy", "most"), [(False, 0.05), (True, 0.33)])
def test_what_is_asked_for_is_among_what_is_shown(messy: bool, most: float) -> None:
    specs = everything()
    known = {spec.intent for spec in specs}
    missed, wanted = [], 0
    for path in sorted(CASES.glob("*.jsonl")):
        if (path.stem.removesuffix("_tuning").removesuffix("_unseen") in PLAIN) is messy:
            continue
        for case in load_cases(path):
            gold = set(map(named, case["intents"])) & known
            shown = {spec.intent for spec in intent_shortlist.narrow(case["request"], specs)}
            wanted += len(gold)
            missed += [(case["request"], intent) for intent in gold - shown]
    assert wanted > 150
    assert len(missed) <= most * wanted, missed
