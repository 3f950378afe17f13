"""No value of a secret survives in a text, whatever stands around it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_redactor import knowing

PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")  # a filter finds too few of them


@settings(max_examples=20, deadline=None)
@given(
    st.text(PRINTABLE, min_size=4, max_size=30).filter(lambda v: len(v.strip()) >= 4 and v.isprintable()),
    st.text(max_size=20),
)
def test_no_value_survives_and_hiding_twice_is_hiding_once(value: str, around: str) -> None:
    hidden = knowing(value)
    once = hidden.text(f"{around}{value}{around}")
    assert value not in once.replace("[secret s0]", "")
    if value not in "[secret s0]":
        assert hidden.text(once) == once
