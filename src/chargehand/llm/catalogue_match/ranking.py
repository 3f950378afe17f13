"""Which of the intents a clause means, or none: a conditional logit over a few traits.

Each intent gets a score from what the words, the classifier and the sentence model say of it; "none of these" gets one
from what kind of clause it is. The shares of their exponentials are the probabilities. The weights are few, so that
they carry over to catalogs nobody has seen: `./run bench calibrate` fits them to the sets in tests/decompose, and shows
what they are worth on each catalog when they were fitted to the others only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

SURE, CERTAIN = 0.70, 0.93
"""Below the first nothing is planned, below the second with a flag: `./run bench calibrate` shows what others cost."""

LEAST_SHARE = 0.001  # of the classifier, among the intents: less says nothing more


class Traits(NamedTuple):
    """What speaks for one intent. Likenesses are cosines (0 without the sentence model), the others from 0 to 1."""

    share: float  # log of the classifier's share among the intents
    nearest: float  # likeness to its nearest phrase
    overall: float  # mean likeness to its nearest example, its description and its name
    apart: float  # how much nearer it is than the next intent
    said: float  # how much of the clause it accounts for, times how far the verb agrees
    agreement: float  # of the verb
    recall: float  # how much of its own content the clause names


class Setting(NamedTuple):
    """What speaks for none of the intents."""

    always: float  # 1
    stranger: float  # log of the classifier's share for other trades
    likeness: float  # to the nearest phrase of another trade
    aside: float  # to the nearest phrase that asks for nothing
    unknown: float  # share of what it is about that the catalog has no word for
    choice: float  # log of the number of intents


class Weights(NamedTuple):
    """Of the traits and of the setting, in their order."""

    traits: tuple[float, ...]
    setting: tuple[float, ...]


def shares(each: Sequence[Traits], setting: Setting, weights: Weights) -> tuple[list[float], float]:
    """Return the probability of each intent, and that of none of them."""
    scores = [_score(traits, weights.traits) for traits in each]
    none = _score(setting, weights.setting)
    highest = max([none, *scores])
    sizes = [math.exp(score - highest) for score in scores]
    total = sum(sizes) + math.exp(none - highest)
    return [size / total for size in sizes], math.exp(none - highest) / total


def _score(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True))


# What `./run bench calibrate` fits; a test fits them again. Without the extra `embed` there is no likeness.
BY_WORDS = Weights(traits=(0.525, 0.0, 0.0, 0.0, 3.35, 0.707, 0.981), setting=(2.554, 0.366, 0.0, 0.0, 1.291, -0.214))
BY_MEANING = Weights(
    traits=(0.3, 1.584, 4.491, 2.842, 2.545, 1.22, 0.396), setting=(2.574, 0.23, 1.772, -2.444, 0.421, 0.41)
)
