"""What the catalogue match makes of a request that a model has read, to check the model's plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chargehand.domain.llm import Opinion, Seen, View
from chargehand.llm.catalogue_match.clauses import Clause, cut
from chargehand.llm.catalogue_match.guards import held_by
from chargehand.llm.catalogue_match.judging import Judge, Judgement
from chargehand.llm.catalogue_match.language import is_english
from chargehand.llm.catalogue_match.reading import mentioned, read, with_topic
from chargehand.llm.catalogue_match.words import Token, tokens

MOST_CHARACTERS = 400  # of a part: a longer one is no part
REFUSING = frozenset(["not", "don't", "don’t", "dont", "never", "skip", "avoid", "leave"])


def opinion(text: str, parts: Sequence[str], judge: Judge, *, sure: float) -> Opinion | None:
    """Return what it makes of a request and of each part; None for what is not English.

    An empty part, or one that is not of the request's words, stands for the whole request.
    """
    if not is_english(tokens(text), judge.known):
        return None
    return Opinion([_view(part, text, judge) for part in parts], _seen(text, judge, sure))


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


def _seen(text: str, judge: Judge, sure: float) -> list[Seen]:
    answer: Any = read(text, judge, sure=sure)
    sure_of = [task for task in answer["subtasks"] if task["confidence"] >= sure]
    return [Seen(task["words"], task["intent"], task["confidence"]) for task in sure_of]
