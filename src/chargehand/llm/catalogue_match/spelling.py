"""Words with one slip of the keyboard, read as a word that is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz.distance import OSA

from chargehand.llm.catalogue_match.lexicon import nouns_by_word
from chargehand.llm.catalogue_match.words import VERBS, stem

NOUNS_BY_WORD = nouns_by_word()
SHORTEST = 5  # letters: shorter names differ by one letter from too many others


@dataclass(frozen=True)
class Word:
    """A known word as it is compared."""

    word: str
    stems: tuple[str, ...]
    actions: frozenset[str]


@lru_cache(maxsize=4096)
def closest(word: str, known: frozenset[str]) -> Word | None:
    """Return the one known word that differs by one letter or two swapped ones, None when there is none or several."""
    if len(word) < SHORTEST or not word.isalpha():
        return None
    verbs = [verb for verb in _slips(word, VERBS) if len(verb) >= SHORTEST]
    stems = sorted({*_slips(stem(word), known), *(NOUNS_BY_WORD[noun] for noun in _slips(word, NOUNS_BY_WORD))} & known)
    if len(verbs) == 1:
        return Word(verbs[0], (stem(verbs[0]),), VERBS[verbs[0]])
    return Word(stems[0], (stems[0],), frozenset()) if len(stems) == 1 and not verbs else None


def _differ_by_one(left: str, right: str) -> bool:
    """Whether one letter too many, too few or wrong, or two neighbours swapped, makes one word the other."""
    return OSA.distance(left, right, score_cutoff=1) == 1


def _slips(word: str, known: Iterable[str]) -> list[str]:
    # The first letter is seldom wrong, and comparing only words that share it keeps this fast.
    return sorted(other for other in known if other[:1] == word[:1] and len(other) >= 4 and _differ_by_one(word, other))
