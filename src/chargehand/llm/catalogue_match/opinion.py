"""What the catalogue match makes of a request that a model has read, to check the model's plan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from chargehand.domain.llm import Extracted, Opinion, Seen, View
from chargehand.llm.catalogue_match.clauses import Clause, cut
from chargehand.llm.catalogue_match.guards import held_by
from chargehand.llm.catalogue_match.judging import Judge, Judgement
from chargehand.llm.catalogue_match.language import is_english
from chargehand.llm.catalogue_match.parameters import extract, may_be_name
from chargehand.llm.catalogue_match.reading import held, mentioned, with_topic
from chargehand.llm.catalogue_match.words import Token, tokens

MOST_CHARACTERS = 400  # of a part: a longer one is no part
REFUSING = frozenset(["not", "don't", "don’t", "dont", "never", "skip", "avoid", "leave"])


def opinion(text: str, parts: Sequence[str], judge: Judge, *, sure: float) -> Opinion | None:
    """Return what it makes of a request and of each part; None for what is not English.

    An empty part, or one that is not of the request's words, stands for the whole request.
    """
    if not is_english(tokens(text), judge.known):
        return None
    answer: tuple[Any, Sequence[tuple[str, str]]] = held(text, judge, sure=sure)
    value, guarded = answer
    seen = [Seen(task["words"], task["intent"], task["confidence"]) for task in value["subtasks"]]
    sure_of = [each for each in seen if each.confidence >= sure]
    return Opinion([_view(part, text, judge) for part in parts], sure_of, guarded, value["out_of_scope"])


def extracted(text: str, parts: Sequence[tuple[str, str]], judge: Judge) -> list[Extracted]:
    """Return the values that each part (its intent and words) gives, and whether nothing in it is left over."""
    return [_extracted(intent, words, text, judge) for intent, words in parts]


def _extracted(intent: str, words: str, text: str, judge: Judge) -> Extracted:
    known = judge.profiles.get(intent)
    if known is None:
        return Extracted()
    clause = tuple(_within(words, text, tokens(text)))
    found = extract(known, clause, judge.told)
    left = [at for at, token in enumerate(clause) if at not in found.used and _may_give(clause, at, judge, known.stems)]
    return Extracted(found.values, certain=not (left or found.refused or found.supposed))


def _may_give(clause: Sequence[Token], place: int, judge: Judge, stems: Collection[str]) -> bool:
    """Whether a word that no parameter has taken could be the value of one."""
    token = clause[place]
    return token.is_value or (may_be_name(clause, place, judge.told) and not set(token.stems) & set(stems))


def _view(part: str, text: str, judge: Judge) -> View:
    """Intents that any clause of the part could mean: one clause is no word against what another one means."""
    found = tokens(text)
    said = _within(part, text, found)
    if not said or said[-1].end - said[0].start > MOST_CHARACTERS:
        return View({})

    def judged(clause: tuple[Token, ...]) -> Judgement:
        return judge.judge(with_topic(clause, mentioned(found, clause, judge)))

    clauses = cut(text, said, lambda clause: judged(clause).strength) or []
    likely: dict[str, float] = {}
    for clause in clauses:
        judgement = judged(clause.tokens)
        for guess in judgement.guesses if judgement.outcome == "intent" else ():  # what is near to no work says nothing
            intent = guess.profile.spec.intent
            likely[intent] = max(likely.get(intent, 0.0), guess.confidence)
    return View(likely, len(clauses) == 1 and _is_negated(clauses[0], judge))


def _within(part: str, text: str, found: Sequence[Token]) -> list[Token]:
    """Return the words of the request that a part consists of; all of them when it is none of it."""
    start = text.casefold().find(part.casefold()) if part else -1
    inside = [token for token in found if start <= token.start and token.end <= start + len(part)]
    return inside if start >= 0 and inside else list(found)


def _is_negated(clause: Clause, judge: Judge) -> bool:
    """Whether it begins with saying what not to do: a "but" or "only" further on leaves an order an order."""
    phrases = frozenset(example.lower() for each in judge.profiles.values() for example in each.spec.examples)
    guard = held_by(clause.words, phrases)
    begins = any(token.lower in REFUSING for token in clause.tokens[:2])
    return guard is not None and guard.name == "negation" and begins
