"""Which intent a clause means: shares that add up, and weights that a fit finds again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.llm.catalogue_match.ranking import BY_MEANING, BY_WORDS, Setting, Traits, Weights, shares

PLAIN = Setting(always=1.0, stranger=-3.0, likeness=0.2, aside=0.1, unknown=0.0, choice=2.5)
NOTHING = Traits(share=-6.9, nearest=0.0, overall=0.0, apart=0.0, said=0.0, agreement=0.25, recall=0.0)
CLEAR = Traits(share=-0.05, nearest=0.8, overall=0.7, apart=0.3, said=1.0, agreement=1.0, recall=1.0)

unit = st.floats(0, 1)
traits = st.builds(Traits, st.floats(-6.9, 0), unit, unit, st.floats(-1, 1), unit, unit, unit)


@given(st.lists(traits, max_size=8))
def test_shares_and_none_add_up(each: list[Traits]) -> None:
    for weights in (BY_WORDS, BY_MEANING):
        found, none = shares(each, PLAIN, weights)
        assert sum(found) + none == pytest.approx(1.0)
        assert all(0 <= share <= 1 for share in [*found, none])


@pytest.mark.parametrize("weights", [BY_WORDS, BY_MEANING], ids=("by words", "by meaning"))
def test_what_everything_speaks_for_is_likely_and_what_nothing_does_is_not(weights: Weights) -> None:
    (clear, poor), none = shares([CLEAR, NOTHING], PLAIN, weights)
    assert clear > 0.9
    assert poor < 0.05
    assert none < 0.1
    (alone,), nobodys = shares([NOTHING], PLAIN, weights)
    assert nobodys > 0.9
    assert alone < 0.1


@pytest.mark.parametrize("name", ["said", "agreement", "share", "recall"])
def test_more_that_speaks_for_an_intent_never_makes_it_less_likely(name: str) -> None:
    middle = Traits(share=-1.0, nearest=0.4, overall=0.4, apart=0.0, said=0.5, agreement=0.6, recall=0.5)
    more = middle._replace(**{name: getattr(middle, name) + 0.3})
    for weights in (BY_WORDS, BY_MEANING):
        assert shares([more, middle], PLAIN, weights)[0][0] > shares([middle, middle], PLAIN, weights)[0][0]
