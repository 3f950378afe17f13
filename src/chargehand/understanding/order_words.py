"""Words that state an order become dependencies: "then", "after", "before", "once", numbered lists.

    stated_order(text, words of each subtask) -> which comes first, which second, and the words that say so

A model may overlook them, and in parallel mode an order that is only implied is lost. What is read here is grammar, not
meaning: where two parts of a request stand, and what stands between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

THEN = re.compile(
    r"\b(?:and then|then|afterwards|after (?:that|this|which)|once (?:that|this|it)(?:'s| is| has)? ?\w*|"
    r"when (?:that|this|it) is \w+|next|finally|lastly|subsequently|followed by)\b"
)
"""Between two parts: what stands behind it comes later than all that stands before it."""

FIRST = re.compile(r"\b(?:after|once|as soon as)(?: you(?:'ve| have)?| we(?:'ve| have)?| having)?$")
"""Right before a part: that part comes first, and the other part of the sentence second."""

SECOND = re.compile(r"\bbefore(?: you| we)?$")
"""Right before a part: that part comes second, and the other part of the sentence first."""

NUMBERED = re.compile(r"(?:^|[\s(])(?:step )?(\d{1,2})[.):]$")
SENTENCE = re.compile(r"[.;!?\n]")
OPENING = re.compile(
    r"(?:and |but |please |step |[,;-] ?)*(?:(?:then|next|finally|lastly|afterwards|subsequently|before|once|"
    r"as soon as|after(?: (?:that|this|which)\b)?|\d{1,2}[.):])(?: (?:you|we|having|please))?[ ,]+)+"
)
"""A connective that a tier took into its quotation of a part: it belongs before the part."""


class Stated(NamedTuple):
    """One subtask that comes after another one, by their places, and the words that say so."""

    first: int
    second: int
    because: str


class _Part(NamedTuple):
    """Where a subtask stands in the text. `lead` is what stands before it, up to the part before."""

    place: int
    start: int
    end: int
    lead: str


def stated_order(text: str, words: Sequence[str]) -> list[Stated]:
    """Return the order that the text states between its parts; `words` are quotations of it, one for each subtask.

    A part that is not found word for word says nothing, and neither does one that shares its words with another.
    """
    said = _flat(text)
    parts = _parts(said, [_flat(each) for each in words])
    found = [*_staged(parts), *_turned(parts)]
    return list(dict.fromkeys(each for each in found if each.first != each.second))


def _flat(text: str) -> str:
    """Lower the case and fold white space, but keep where lines end: a numbered list has one item on each."""
    lines = (" ".join(line.split()) for line in text.casefold().replace("’", "'").splitlines())
    return "\n".join(line for line in lines if line)


def _parts(said: str, words: Sequence[str]) -> list[_Part]:
    found: list[tuple[int, int, int]] = []
    behind = 0
    for place, quoted in enumerate(words):
        start = said.find(quoted, behind) if quoted else -1
        start = said.find(quoted) if start < 0 and quoted else start
        end = start + len(quoted)
        if start >= 0 and not any(start < other and begin < end for begin, other, _ in found):
            opening = OPENING.match(quoted)
            found.append((start + (opening.end() if opening else 0), end, place))
            behind = end
    found.sort()
    before = [0, *(end for _, end, _ in found)]
    return [_Part(place, start, end, said[before[n] : start]) for n, (start, end, place) in enumerate(found)]


def _staged(parts: Sequence[_Part]) -> Iterator[Stated]:
    """ "A and B, then C": what stands behind "then" comes after all of the stage before."""
    stages: list[tuple[str, list[int]]] = []
    number = 0
    for part in parts:
        because = _new_stage(part, number)
        number = _number(part) or number
        if because and stages:
            stages.append((because, [part.place]))
        elif stages:
            stages[-1][1].append(part.place)
        else:
            stages.append(("", [part.place]))
    for (_, earlier), (because, later) in pairwise(stages):
        yield from (Stated(first, second, because) for first in earlier for second in later)


def _number(part: _Part) -> int:
    """The number of a list's item before a part; 0 without one."""
    found = NUMBERED.search(part.lead.rstrip())
    return int(found[1]) if found else 0


def _new_stage(part: _Part, number: int) -> str:
    """The words that begin a new stage with this part; `number` is the last item's, so that "node 4." is none."""
    lead = part.lead.rstrip()
    if number and _number(part) == number + 1:
        return f"{number + 1}."
    if FIRST.search(lead) or SECOND.search(lead):
        return ""  # a word that turns two parts round, not one that goes on
    then = THEN.search(lead)
    return then[0] if then else ""


def _turned(parts: Sequence[_Part]) -> Iterator[Stated]:
    """ "After A, B", "B once A", "before B, A", "A before B": two parts of one sentence."""
    for n, part in enumerate(parts):
        lead = part.lead.rstrip()
        comes_first, comes_second = FIRST.search(lead), SECOND.search(lead)
        if not (comes_first or comes_second):
            continue
        other = _same_sentence(parts, n)
        if other is None:
            continue
        if comes_first:
            yield Stated(part.place, other.place, comes_first[0].split()[0])
        elif comes_second:
            yield Stated(other.place, part.place, "before")


def _same_sentence(parts: Sequence[_Part], n: int) -> _Part | None:
    """The part that a turning word relates to: the one before in its sentence, else the one behind."""
    if n > 0 and not SENTENCE.search(parts[n].lead):
        return parts[n - 1]
    if n + 1 < len(parts) and not SENTENCE.search(parts[n + 1].lead):
        return parts[n + 1]
    return None
