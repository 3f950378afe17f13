"""Clauses that tell something instead of asking for it: "it is slow again", "Marta left the company".

Beside an order they are its reason, and a reason is no second order, whatever words it shares with the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence

from chargehand.llm.catalogue_match.lexicon import DETERMINERS, FINITE, STATING, WISHING
from chargehand.llm.catalogue_match.words import Token, imperatives

SUBJECT = 6  # words before the verb of a statement: "the people on the second floor have ..."


def tells(clause: Sequence[Token]) -> bool:
    """Return whether a clause is a statement by its form: a subject, then a verb in a form that is no order.

    "The wiki needs a restart" and "it should be restarted" wish for something: they are orders, politely.
    """
    said = [token for token in clause if token.kind != "mark"]
    if not said or any(token.lower in WISHING | NEEDING for token in said):
        return False
    if said[0].lower.split("'")[0].split("’")[0] in PERSONS:
        return len(said) > 1
    if 0 in imperatives(said):
        return False
    if begins_with_a_past(said):
        return True
    if said[0].lower in ASKING:
        return False
    return any(_is_finite(token) for token in said[1 : SUBJECT + 1])


def begins_with_a_past(clause: Sequence[Token]) -> bool:
    """Whether it begins with what was done, also after an "fyi": "restarted it this morning"."""
    said = [token for token in clause if token.kind != "mark"]
    first = next((token for token in said[:2] if not token.is_filler), None)
    return first is not None and bool(first.actions) and first.lower.endswith("ed")


def orders(clause: Sequence[Token]) -> bool:
    """Return whether a clause can be an order: it begins with a verb, or with a word that may be one no table knows."""
    said = [token for token in clause if token.kind != "mark"]
    bare = [token for token in said if token.actions or not token.is_filler]
    if not bare or tells(clause):
        return False
    return bool(bare[0].actions) or (said[0] is bare[0] and said[0].kind == "word" and len(bare) > 1)


def _is_finite(token: Token) -> bool:
    lower = token.lower
    return lower in FINITE or lower.endswith(("n't", "n’t")) or (lower.endswith(("'s", "’s")) and lower[:-2] in STATING)


PERSONS = STATING - DETERMINERS - frozenset({"there", "people", "everyone", "everybody", "users"})
NEEDING = frozenset({"need", "needs", "needed", "wants", "wish", "let", "lets", "let's"})
ASKING = frozenset(
    "is are was were do does did can could would will shall may has have had what which who where when why how".split()  # noqa: SIM905
)
