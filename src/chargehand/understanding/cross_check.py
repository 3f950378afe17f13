"""A model's plan against the catalogue match, which reads the same request by itself.

compare(intent, what the match makes of its words) -> how far they agree
disagreements(subtasks, opinion) -> flags, by subtask
refused_too_soon(wishes, opinion) -> what a model says that nobody can do, and the match is sure of
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from chargehand.domain.llm import Opinion, Seen, View

Agreement = Literal["agrees", "leans", "silent", "doubts", "differs"]

SURE = 0.4
"""Confidence of the match from which its word counts: of 258 parts of requests with a known intent it was that sure of
a wrong one in 7 (3 %), and of the right one in 222 (86 %)."""

UNLIKELY = 0.1  # for another one: where both are possible, the words leave it open
LIKELY = 0.15  # below it, it says nothing about what the words mean


class Planned(NamedTuple):
    """A subtask as a model read it."""

    intent: str
    words: str


def compare(intent: str, view: View | None) -> Agreement:
    """Return whether the match takes the words for the same intent; `silent` where it cannot tell."""
    if view is None or not view.likely:
        return "silent"
    best = max(view.likely, key=lambda name: (view.likely[name], name == intent))
    sure, own = view.likely[best], view.likely.get(intent, 0.0)
    if best == intent:
        return "agrees" if sure >= SURE else "leans" if sure >= LIKELY else "silent"
    if sure >= SURE and own < UNLIKELY:
        return "differs"
    return "doubts" if sure >= LIKELY else "silent"


def disagreements(planned: Sequence[Planned], opinion: Opinion) -> list[list[str]]:
    """Return the flags of each subtask: what the match takes for something else, and what it finds left out."""
    flags = [_flags(task, view) for task, view in zip(planned, opinion.queries, strict=True)]
    for seen in _left_out(planned, opinion.seen):
        flags[-1].append(f"disagreement: “{seen.words}” is not in the plan; {_taken_for(seen.intent, seen.confidence)}")
    return flags


def refused_too_soon(wishes: Sequence[str], opinion: Opinion | None) -> dict[str, str]:
    """Return the wishes that the match is sure of, each with the question to ask instead of refusing it."""
    found = {}
    for wish in wishes:
        for seen in opinion.seen if opinion else ():
            if seen.confidence >= SURE and _overlap(seen, Planned("", wish)):
                taken = _taken_for(seen.intent, seen.confidence)
                found[wish] = f"“{wish}”: the model says that nothing here does it; {taken}. Is that meant?"
    return found


def _flags(task: Planned, view: View) -> list[str]:
    flags = []
    if compare(task.intent, view) == "differs":
        best = max(view.likely, key=lambda name: view.likely[name])
        flags.append(f"disagreement: {_taken_for(best, view.likely[best])}, the model for {task.intent}")
    if view.negated:
        flags.append("disagreement: the words say what not to do")
    return flags


def _taken_for(intent: str, confidence: float) -> str:
    return f"the catalogue match takes it for {intent} ({confidence:.2f})"


def _left_out(planned: Sequence[Planned], seen: Sequence[Seen]) -> list[Seen]:
    """What the match is sure of and no subtask stands for. Where one read the same words, `compare` has said it."""
    intents = {task.intent for task in planned}
    return [each for each in seen if each.intent not in intents and not any(_overlap(each, task) for task in planned)]


def _overlap(seen: Seen, task: Planned) -> bool:
    ours, theirs = set(seen.words.casefold().split()), set(task.words.casefold().split())
    return len(ours & theirs) > len(ours) / 2
