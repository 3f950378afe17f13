"""Worked examples for a model, made of the catalog's own: what it should answer, shown rather than told.

    shots(specs) -> pairs of words and the answer to them

They stand before the request and depend on the catalog alone, so that a server keeps them read between two requests.
Values in them are made up: what a model copies from here is not in the request, and is found out by that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chargehand.domain.intents import IntentSpec

LONGEST = 70  # characters of an example that is shown: a longer one teaches no more and costs a second to read

ELSEWHERE = ("order a pizza for the team", "water the plants", "book a flight to Rome", "sing a song")
"""Work that is no infrastructure; the first one that shares no word with the catalog is out of its scope."""

VAGUE = "make it better"
ASKED = "What exactly should be done, and to what?"

STAND_INS = ("web-7", "blue", "8099")
SLOT = re.compile(r"\{\w+\}")
WORD = re.compile(r"[a-z]{4,}")  # shorter ones are grammar


class Subtask(NamedTuple):
    """A part of a request, and the intent that does it."""

    words: str
    intent: str


class Shot(NamedTuple):
    """Words of a request, and what it falls into."""

    request: str
    subtasks: tuple[Subtask, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    ambiguities: tuple[str, ...] = ()


def shots(specs: Sequence[IntentSpec]) -> list[Shot]:
    """Return a compound request with a part that nobody here does, a vague one and a simple one.

    Fewer where a catalog has no examples to make them of. The same catalog gives the same shots.
    """
    own = list(_examples(specs))
    strange = _elsewhere(specs)
    made = []
    if len(own) >= 2:
        first, second = own[0], own[len(own) // 2]
        made.append(Shot(f"{first.words}, then {second.words}, and {strange}", (first, second), (strange,)))
    made.append(Shot(VAGUE, ambiguities=(ASKED,)))
    if own:
        last = own[-1]
        made.append(Shot(f"please {last.words}", (last,)))
    return made


def _examples(specs: Sequence[IntentSpec]) -> Iterator[Subtask]:
    """Yield a short example of each intent that has one, its slots filled with values that nobody would ask for."""
    for spec in specs:
        fitting = [each for each in spec.examples if len(each) <= LONGEST and each.isprintable()]
        if fitting:
            yield Subtask(_filled(fitting[0]), spec.intent)


def _filled(example: str) -> str:
    values = iter(STAND_INS * 4)
    return SLOT.sub(lambda _: next(values, STAND_INS[0]), example)


def _elsewhere(specs: Sequence[IntentSpec]) -> str:
    said = {
        word for spec in specs for text in (spec.description, *spec.examples) for word in WORD.findall(text.lower())
    }
    return next((each for each in ELSEWHERE if not said & set(WORD.findall(each))), ELSEWHERE[0])
