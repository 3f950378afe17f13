"""Which intents of a large catalog a model is shown: those that share words with the request.

What a question costs then no longer grows with the catalog. The whole catalog stays what answers are checked against.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from chargehand.domain.intents import IntentSpec

MOST = 40  # intents that are shown: some 4,000 tokens with their examples and parameters
EACH_WORD = 6  # of them by each word alone, so that a long clause does not crowd out a short one
STEM = 5  # letters: "deployed" and "deploying" begin alike, and so do most misspellings
WORD = re.compile(r"\w+")
TELLS_NOTHING = "a an and at be by do for from in is it its make me my of on or our please the then to up with you"
SKIPPED = frozenset(TELLS_NOTHING.split())

Shared = Mapping[int, frozenset[str]]
"""Place in the catalog -> the words that this intent shares with the request; only those that share any."""


def narrow(text: str, specs: Sequence[IntentSpec], most: int = MOST) -> tuple[IntentSpec, ...]:
    """Return at most so many of the intents, in the catalog's order; all of them when there are no more."""
    if len(specs) <= most:
        return tuple(specs)
    wanted = _stems(text)
    shared = {place: common for place, spec in enumerate(specs) if (common := wanted & _phrases_of(spec))}
    rarity = _rarity(shared, len(specs))
    ranked = sorted(shared, key=lambda place: (-sum(rarity[stem] for stem in shared[place]), place))
    chosen = dict.fromkeys(_by_each_word(rarity, shared, ranked)[: most // 2])
    chosen |= dict.fromkeys(ranked)
    chosen |= dict.fromkeys(range(most))  # so many are shown whatever the words are
    return tuple(specs[place] for place in sorted(list(chosen)[:most]))


def _by_each_word(rarity: Mapping[str, float], shared: Shared, ranked: Sequence[int]) -> list[int]:
    """Return, for each word from the rarest on, the best of the intents that say it."""
    found: dict[int, None] = {}
    for stem in sorted(rarity, key=lambda stem: (-rarity[stem], stem)):
        saying = [place for place in ranked if stem in shared[place]]
        found |= dict.fromkeys(saying[:EACH_WORD])
    return list(found)


def _rarity(shared: Shared, count: int) -> dict[str, float]:
    """Return how much each word of the request tells: more, the fewer intents say it."""
    times = Counter(stem for common in shared.values() for stem in common)
    return {stem: math.log(1 + count / number) for stem, number in times.items()}


def _phrases_of(spec: IntentSpec) -> frozenset[str]:
    return _phrases(spec.intent, spec.description, spec.service or "", spec.examples)


@lru_cache(maxsize=8192)  # the same offers come with every request
def _phrases(intent: str, description: str, service: str, examples: tuple[str, ...]) -> frozenset[str]:
    return _stems(" ".join([intent.replace("_", " "), description, service.replace("-", " "), *examples]))


def _stems(text: str) -> frozenset[str]:
    return frozenset(word[:STEM] for word in WORD.findall(text.lower()) if word not in SKIPPED)
