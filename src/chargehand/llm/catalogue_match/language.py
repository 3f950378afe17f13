"""Whether a request is in English, by its letters and its small words. Anything else is not guessed at."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from chargehand.llm.catalogue_match.lexicon import ENGLISH, FILLERS, FOREIGN
from chargehand.llm.catalogue_match.words import Token

FOREIGN_LETTERS = 0.2  # share of letters of other scripts: a name or two in an English sentence stays below
UNKNOWN_WORDS = 0.6  # share of unknown words that, without one English small word, is another language
FEWEST_WORDS = 5  # fewer say nothing by themselves: "oliver garden reviews" is English


def is_english(found: Sequence[Token], known: frozenset[str]) -> bool:
    """Return whether the text can be taken for English."""
    words = [token for token in found if token.kind == "word"]
    if _share_of_other_scripts(found) > FOREIGN_LETTERS:
        return False
    lowers = [token.lower for token in words]
    english = sum(word in ENGLISH or word in FILLERS - FOREIGN for word in lowers)
    foreign = sum(word in FOREIGN for word in lowers)
    if foreign > english:
        return False
    messages = any(not token.raw.isascii() for token in words)
    unknown = sum(not token.actions and not set(token.stems) & known and token.lower not in ENGLISH for token in words)
    few = len(words) < FEWEST_WORDS and not messages  # "käynnistä palvelin" has letters that English has not
    return bool(english) or few or unknown / len(words) <= UNKNOWN_WORDS


def _share_of_other_scripts(found: Sequence[Token]) -> float:
    messages = [message for token in found if token.kind != "quoted" for message in token.raw if message.isalpha()]
    other = [message for message in messages if not unicodedata.name(message, "").startswith("LATIN")]
    return len(other) / len(messages) if messages else 0.0
