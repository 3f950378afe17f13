"""A request cut into clauses: of all ways to cut it, the one whose clauses the catalog explains best.

Cutting at every "and" breaks "up and running" and "portals and services"; cutting nowhere loses the second task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chargehand.llm.catalogue_match.lexicon import PLACES
from chargehand.llm.catalogue_match.telling import orders, tells
from chargehand.llm.catalogue_match.words import SUBJECT_REACH, Token, imperatives, main_verb

SENTENCE_ENDS = frozenset(".;!?")
CUTTING_MARKS = frozenset(",:()–—&+-")
CONNECTIVES = frozenset("and then also plus next finally afterwards first firstly secondly lastly & ,".split())  # noqa: SIM905
SEQUENCE = frozenset({"then", "next", "finally", "afterwards", "after"})
TURNING = frozenset({"but", "before", "after"})  # what follows is a clause only if it has a verb: not "before lunch"
SPAN = 5  # pieces in one clause at most: enumerations are longer only in prose
MOST_PIECES = 60  # a request with more is prose, not a command

# In log strength: a cut before a verb is what is expected, a second order inside a clause is not.
NEW_CLAUSE_COST, BORROWED_VERB_COST, SECOND_ORDER_COST = 0.05, 0.35, 2.0
WEAKEST = 0.02  # a strength of zero must not forbid a cut


@dataclass(frozen=True)
class Clause:
    """One part of the request. `then` says that it follows the one before; `borrowed` that its verb is another's."""

    tokens: tuple[Token, ...]
    words: str
    then: bool = False
    borrowed: bool = False


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    ends_sentence: bool


Strength = Callable[[tuple[Token, ...]], float]


def cut(text: str, found: Sequence[Token], strength: Strength) -> list[Clause] | None:
    """Return the clauses of a text, None when it has too many pieces to be a command."""
    pieces = _pieces(found)
    if len(pieces) > MOST_PIECES:
        return None
    return [clause for sentence in _sentences(pieces) for clause in _best_cut(text, found, sentence, strength)]


def _pieces(found: Sequence[Token]) -> list[_Piece]:
    """Cut at every place where a clause could end."""
    starts = [0, *(place for place in range(1, len(found)) if _may_start(found, place)), len(found)]
    pieces = [
        _Piece(start, end, any(token.raw in SENTENCE_ENDS for token in found[start:end]))
        for start, end in pairwise(starts)
    ]
    return [piece for piece in pieces if any(token.kind != "mark" for token in found[piece.start : piece.end])]


def _may_start(found: Sequence[Token], place: int) -> bool:
    before, here = found[place - 1], found[place]
    if before.kind == "mark":
        glued = before.raw in "-&+" and before.end == here.start  # "-f", "+1"
        return before.raw in SENTENCE_ENDS | CUTTING_MARKS and not glued
    # "next" joins only after another joint ("and next, ..."): "next week" is a time.
    if here.lower in TURNING:
        return (here.lower == "after" and _next_is_that(found, place)) or _orders_soon(found, place + 1)
    return here.lower in CONNECTIVES - {",", "next"} or _follows_what_comes_first(found, place)


def _orders_soon(found: Sequence[Token], place: int) -> bool:
    """Whether a verb follows, of an order or of what is to come first: "but renew it", "before you reboot it"."""
    said = [token for token in found[place : place + 4] if not token.is_filler][:1]
    return bool(said and said[0].actions)


def _follows_what_comes_first(found: Sequence[Token], place: int) -> bool:
    """Whether an order follows what is said to come later, without a comma: "before you reboot it | make a copy"."""
    before = found[max(0, place - SUBJECT_REACH) : place]
    start = max((at + 1 for at, token in enumerate(before) if token.raw in SENTENCE_ENDS), default=0)
    turns = len(before) > start + 2 and before[start].lower in TURNING
    return turns and len(before) in imperatives([*before, found[place]])


def _next_is_that(found: Sequence[Token], place: int) -> bool:
    return place + 1 < len(found) and found[place + 1].lower in ("that", "this", "which")


def _sentences(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    sentences: list[list[_Piece]] = [[]]
    for piece in pieces:
        sentences[-1].append(piece)
        if piece.ends_sentence:
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _best_cut(text: str, found: Sequence[Token], pieces: Sequence[_Piece], strength: Strength) -> list[Clause]:
    """Dynamic programming over the cut points: best[end] is the best score of cutting everything before `end`."""
    best: list[tuple[float, list[Clause]]] = [(0.0, [])]
    for end in range(1, len(pieces) + 1):
        ways = [
            (best[start][0] + _score(clause, strength, second_reader, first=start == 0), [*best[start][1], clause])
            for start in range(max(0, end - SPAN), end)
            if not _mixes(found, pieces[start:end])
            for second_reader in [_second_orders(found, pieces[start + 1 : end])]
            for clause in _clauses(text, found, pieces, start, end)
        ]
        best.append(max(ways, key=lambda way: way[0], default=best[-1]))  # no way: the piece holds nothing but joints
    return best[-1][1]


def _mixes(found: Sequence[Token], pieces: Sequence[_Piece]) -> bool:
    """Whether an order and its reason would become one clause."""
    parts = [found[slice(*_stripped(found, each.start, each.end)[:2])] for each in pieces]
    return any(map(tells, parts)) and any(map(orders, parts))


def _second_orders(found: Sequence[Token], inner: Sequence[_Piece]) -> int:
    """How many pieces put into one clause begin with an order of their own."""
    bare = [[token for token in found[each.start : each.end] if not token.is_filler] for each in inner]
    return sum(bool(piece) and 0 in imperatives(piece) and len(piece) > 1 for piece in bare)


def _score(clause: Clause, strength: Strength, second_orders: int, *, first: bool) -> float:
    content = sum(token.kind != "mark" and not token.is_filler for token in clause.tokens)
    cost = 0.0 if first else BORROWED_VERB_COST if clause.borrowed else NEW_CLAUSE_COST
    strong = strength(clause.tokens)
    if strong < 1:  # an example's very words may hold two orders
        cost += SECOND_ORDER_COST * second_orders
    return max(1, content) * math.log(max(WEAKEST, strong)) - cost


def _clauses(text: str, found: Sequence[Token], pieces: Sequence[_Piece], first: int, end: int) -> list[Clause]:
    """Put pieces together to a clause: as it stands, or with what it leaves to its neighbour to say."""
    start, stop, then = _stripped(found, pieces[first].start, pieces[end - 1].end)
    own = tuple(found[start:stop])
    if not own:
        return []
    words = text[own[0].start : own[-1].end]
    verb = _verb_before(found, pieces[0].start, start)
    repeated = _repeated(found, pieces[first].start, verb, own)
    if repeated:
        return [Clause(repeated, words, then, borrowed=True)]
    if end < len(pieces) and _is_bare_verb(own):
        return [Clause((*own, *_object_of(found, pieces[end])), words, then)]
    if verb is None or any(token.actions for token in own) or not _is_object(own) or tells(own):
        return [Clause(own, words, then)]
    return [Clause(own, words, then), Clause((verb, *own), words, then, borrowed=True)]


def _stripped(found: Sequence[Token], start: int, stop: int) -> tuple[int, int, bool]:
    """Leave out what only joins clauses; say whether it joins them in time."""
    then = False
    while start < stop and (found[start].lower in CONNECTIVES or found[start].kind == "mark" or _joins(found, start)):
        then = then or found[start].lower in SEQUENCE
        start += 2 if _joins(found, start) else 1
    while stop > start and (found[stop - 1].kind == "mark" or found[stop - 1].lower in CONNECTIVES - {"next"}):
        stop -= 1
    return start, stop, then


def _joins(found: Sequence[Token], place: int) -> bool:
    return found[place].lower == "after" and _next_is_that(found, place)


def _verb_before(found: Sequence[Token], start: int, place: int) -> Token | None:
    """The verb a part without one takes over: the last that was said in this sentence."""
    before = [token for token in found[start:place] if token.actions]
    return before[-1] if before else None


def _repeated(found: Sequence[Token], start: int, verb: Token | None, own: tuple[Token, ...]) -> tuple[Token, ...]:
    """A value alone repeats what was said of one like it: "check the memory on web-1, web-2 and web-3"."""
    if verb is None or len(own) != 1:
        return ()
    since = [token for token in found[:start] if verb.start <= token.start]
    if not own[0].is_value:
        return _repeated_name(since, own[0])
    like = next((place for place, token in enumerate(since) if token.kind == own[0].kind), None)
    return (*since[:like], *own) if like is not None else ()


def _repeated_name(since: Sequence[Token], name: Token) -> tuple[Token, ...]:
    """The same for names that no word of English looks like: "pause the dags load_users and load_orders"."""
    before = [token for token in since if token.kind != "mark" and token.lower not in CONNECTIVES]
    if not before or not (_is_made_up(name) and _is_made_up(before[-1])):
        return ()
    like = next(place for place, token in enumerate(since) if _is_made_up(token))
    return (*since[:like], name)


def _is_made_up(token: Token) -> bool:
    return token.kind == "word" and len(token.stems) > 1


def _is_object(own: Sequence[Token]) -> bool:
    """Whether a part without a verb can be the object of another's: "postgres", not "on web-1" or "thanks"."""
    return own[0].lower not in PLACES and any(not token.is_filler and token.kind != "mark" for token in own)


def _is_bare_verb(own: Sequence[Token]) -> bool:
    rest = [token for token in own if not token.actions and token.kind not in ("mark", "particle")]
    return main_verb(own) is not None and not rest


def _object_of(found: Sequence[Token], piece: _Piece) -> tuple[Token, ...]:
    following = tuple(token for token in found[piece.start : piece.end] if token.lower not in CONNECTIVES)
    verb = main_verb(following)
    return tuple(token for place, token in enumerate(following) if place != verb and token.kind != "mark")
