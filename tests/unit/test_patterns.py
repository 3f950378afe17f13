"""Patterns of strangers run in linear time, and `$` is the end."""

import time

import pytest

from chargehand.domain.patterns import LONGEST, BadPattern, compiled, found_in, replaced


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^(a+)+$", "a" * 100_000 + "!"),
        ("(x*)*y", "x" * 100_000),
        ("^(a|a)*$", "a" * 100_000 + "b"),
        (r"(.*)*z", "." * 99_999),
    ],
)
def test_what_takes_for_ever_by_trying_takes_no_time(pattern: str, text: str) -> None:
    started = time.process_time()
    assert not found_in(pattern, text)
    assert time.process_time() - started < 1.0


def test_a_line_break_at_the_end_is_not_the_end() -> None:
    assert found_in("^[a-z]+$", "abc")
    assert not found_in("^[a-z]+$", "abc\n")


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", "(?!a)b", r"(a)\1", "(?<=a)b", "(", "a{2000}", "(a{999}){999}", "x" * (LONGEST + 1)]
)
def test_what_cannot_run_in_linear_time_is_refused_and_not_run(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compiled(pattern)


def test_other_languages_are_understood() -> None:
    assert found_in("^\\u00e4\\Z", "ä")
    assert found_in(r"^https?://[^\s]+$", "http://a/")
    assert not found_in("a", "\ud800"), "half a character is no reason to fall"


def test_groups_are_kept_where_a_match_is_replaced() -> None:
    assert replaced(r"(?P<name>\w+)=(\S+)", r"\g<name>=***", "a=1 b=2") == "a=*** b=***"
