"""JSON of strangers: what is over a limit is an error with a message, whatever it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.domain.bounded_json import DEEPEST, is_deeper, loads
from chargehand.domain.errors import UnreadableText


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 5_000,
        "9" * 5_000,
        "NaN",
        "[-Infinity]",
        "{",
        "",
        b"\xff",
        b"[" * 200,
        '"' + "a" * 1_000_001,
    ],
)
def test_what_cannot_be_read_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(UnreadableText):
        loads(text)


def test_depth_is_counted_outside_of_texts() -> None:
    assert loads("[" * DEEPEST + "]" * DEEPEST)
    assert loads('"' + "[{" * 500 + '"') == "[{" * 500
    assert is_deeper('["\\"' + "[" * 10 + '"' + ",[[" * 40, 64)
    assert not is_deeper("[[],{}]" * 500, 2)


def test_the_line_of_a_mistake_is_told() -> None:
    with pytest.raises(UnreadableText) as broken:
        loads('{\n"a": 1,\n}')
    assert broken.value.line == 3


@given(st.text(alphabet='[]{}",:\\ au1.-e\n', max_size=200))
def test_nothing_else_is_raised(text: str) -> None:
    try:
        loads(text, deepest=5)
    except UnreadableText:
        return
