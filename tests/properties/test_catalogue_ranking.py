"""Weights of the catalogue match: a fit finds what choices were made by."""

from __future__ import annotations

from random import Random

import pytest

from bench import logit
from bench.logit import Choice
from chargehand.llm.catalogue_match.ranking import Traits, Weights, shares
from tests.unit.test_catalogue_ranking import CLEAR, PLAIN


def test_a_fit_finds_what_choices_were_made_by() -> None:
    """The weights that people chose by are found again, in sign and order."""
    chance = Random(7)
    choices = []
    for _ in range(400):
        each = tuple(CLEAR._replace(said=chance.random(), recall=chance.random()) for _ in range(4))
        found, none = shares(each, PLAIN, Weights((0, 0, 0, 0, 6.0, 0, 2.0), (3.0, 0, 0, 0, 0, 0)))
        place = chance.choices(range(5), [*found, none])[0]
        choices.append(Choice(each, PLAIN, frozenset({place} - {4}), none=place == 4))
    fitted = logit.fit([choices])
    weights = dict(zip(Traits._fields, fitted.traits, strict=True))
    assert weights["said"] == pytest.approx(6.0, abs=1.5)
    assert weights["recall"] == pytest.approx(2.0, abs=1.5)
