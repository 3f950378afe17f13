"""Whether a new classifier reads worse than the one it would replace.

examine(classifier, intents) -> how it does on phrases left out of its training, and on past approved requests
worse(old, new) -> the reason not to trust the new one, or None
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from chargehand.llm.catalogue_match.judging import Judge
from chargehand.llm.catalogue_match.reading import read
from chargehand.understanding.judgements import Approved

MOST_PAST = 200  # requests, the newest: reading them takes about a second


class Exam(NamedTuple):
    """How many of what was asked came out right."""

    phrases: int  # left out of training in turn, of the intents that are compared
    phrases_right: int
    past: int
    past_right: int


class Allowed(NamedTuple):
    """What may be lost: so many, or this share of what the old one had right, whichever is more."""

    few: int
    share: float


PHRASES = Allowed(2, 0.05)
"""More intents make the others a little harder to tell apart: adding one to 20 cost 0 to 2 phrases in our catalogs. An
intent that takes another's words costs most of both their phrases."""

PAST = Allowed(1, 0.05)
"""These were right and approved once. One may have hung by a thread; more are people who must now ask twice."""


def examine(judge: Judge, intents: Collection[str], past: Sequence[Approved], sure: float) -> Exam:
    """Examine a classifier on some of its intents."""
    counted = [judge.classifier.recalled.get(intent, (0, 0)) for intent in intents]
    asked = [each for each in past if set(each.intents) <= set(intents)][-MOST_PAST:]
    right = sum(_reads(judge, each, sure) for each in asked)
    return Exam(sum(total for _, total in counted), sum(good for good, _ in counted), len(asked), right)


def _reads(judge: Judge, past: Approved, sure: float) -> bool:
    answer: Any = read(past.words, judge, sure=sure)
    return Counter(task["intent"] for task in answer["subtasks"]) == Counter(past.intents)


def worse(old: Exam, new: Exam) -> str | None:
    """Return why a new classifier should not be trusted, None when it may."""
    compared = (
        ("phrases left out of training", PHRASES, old.phrases_right, new.phrases_right, new.phrases),
        ("past approved requests", PAST, old.past_right, new.past_right, new.past),
    )
    for what, allowed, before, now, total in compared:
        if before - now > max(allowed.few, allowed.share * before):
            return f"{now} of {total} {what} are read rightly, and were {before}"
    return None
