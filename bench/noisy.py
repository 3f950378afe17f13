"""A model that errs as often as it is told to, and is sure of itself either way: what confidences are tried on.

Its answers are scripted on a server of `chargehand.testing.llm` before anything is asked, and follow from the seed. It
answers for the parts of a request; asked for their values, it gives none.
No model is like it. It shows what the cross-check and the calibration do with a model whose accuracy is known.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.scoring import Case
from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec
from chargehand.testing.llm import Answer, says

JOINT = re.compile(
    r"\s*(?:,\s*|;\s*|\.\s+|\b)(?:(?:and then|and also|and|then|plus|after that)\b|(?<=[,;.])\s*)\s*", re.I
)
SHARES = {"near": 0.5, "any": 0.25, "left out": 0.25}  # of its mistakes; nothing is left out of a single subtask
NOTICES = 0.6  # share of the ambiguous and out-of-scope requests that it notices to be so
SURE = (0.97, 0.95, 0.95, 0.9, 0.9, 0.85)  # what it claims, right or wrong: 0.92 on average
NEAREST = 3  # intents that share most words with the right one: what it takes by mistake
Json = dict[str, Any]


def answers(cases: Sequence[Case], known: Catalog, *, seed: int, accuracy: float) -> Mapping[str, list[Answer]]:
    """Return a script: what the model answers to the words of each case. `accuracy`: share of intents it gets right."""
    return {
        case.request: [says(_answer(case, known, accuracy, random.Random(f"{seed} {case.request}"))), says({})]
        for case in cases
    }


def _answer(case: Case, known: Catalog, accuracy: float, draw: random.Random) -> Json:
    notices = draw.random() < NOTICES
    if case.ambiguous and notices:
        return {"subtasks": [], "ambiguities": [f"What is meant by “{case.request[:100]}”?"]}
    wishes = [case.request[:200]] if case.out_of_scope and notices else []
    intents = list(case.intents)
    if (case.ambiguous or case.out_of_scope) and not notices:
        intents.append(draw.choice(known.intents))
    subtasks = [
        subtask for intent, words in zip(intents, parts(case.request, len(intents)), strict=True)
        if (subtask := _subtask(intent, words, known, accuracy, draw, single=len(intents) == 1)) is not None
    ]  # fmt: skip
    subtasks = subtasks or ([] if wishes else [_said(intents[0], case.request, draw)])
    return {"subtasks": [task | {"order": n} for n, task in enumerate(subtasks, 1)], "out_of_scope": wishes}


def _subtask(
    intent: str, words: str, known: Catalog, accuracy: float, draw: random.Random, *, single: bool
) -> Json | None:
    if draw.random() < accuracy:
        return _said(intent, words, draw)
    mistake = draw.choices(list(SHARES), list(SHARES.values()))[0]
    if mistake == "left out" and not single:
        return None
    others = [spec for spec in known.specs if spec.intent != intent]
    chosen = draw.choice(_nearest(intent, known, others) if mistake == "near" else others)
    return _said(chosen.intent, words, draw)


def _said(intent: str, words: str, draw: random.Random) -> Json:
    return {"name": words[:100] or intent, "intent": intent, "words": words, "confidence": draw.choice(SURE)}


def _nearest(intent: str, known: Catalog, others: Sequence[IntentSpec]) -> Sequence[IntentSpec]:
    spec = known.get(intent)
    own = _words(spec) if spec else set()
    return sorted(others, key=lambda other: (-len(own & _words(other)), other.intent))[:NEAREST]


def _words(spec: IntentSpec) -> set[str]:
    return set(re.findall(r"[a-z]+", " ".join([spec.intent, spec.description, *spec.examples]).lower()))


def parts(request: str, count: int) -> list[str]:
    """Return the words for each of so many subtasks: cut at "and" and the like where that fits, else all of them."""
    found = [part for part in JOINT.split(request) if part.strip()]
    return found if len(found) == count else [request] * count
