"""Words that state an order, and words that only look as if they did."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.understanding.order_words import stated_order

STOP, MIGRATE, START = "stop the shop", "migrate the database", "start the shop"


def pairs(text: str, *words: str) -> set[tuple[int, int]]:
    return {(first, second) for first, second, _ in stated_order(text, words)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stop the shop, then migrate the database", {(0, 1)}),
        ("Stop the shop and then migrate the database.", {(0, 1)}),
        ("stop the shop. After that, migrate the database", {(0, 1)}),
        ("stop the shop; once that is done migrate the database", {(0, 1)}),
        ("stop the shop, finally migrate the database", {(0, 1)}),
        ("after you stop the shop, migrate the database", {(0, 1)}),
        ("once you have: stop the shop, migrate the database", set()),  # no grammar that we know
        ("migrate the database after you stop the shop", {(0, 1)}),
        ("stop the shop before you migrate the database", {(0, 1)}),
        ("before you migrate the database, stop the shop", {(0, 1)}),
        ("as soon as we stop the shop migrate the database", {(0, 1)}),
        ("1. stop the shop\n2. migrate the database", {(0, 1)}),
        ("1) stop the shop 2) migrate the database", {(0, 1)}),
        ("stop the shop and migrate the database", set()),
        ("stop the shop, migrate the database", set()),
        ("- stop the shop\n- migrate the database", set()),
        ("stop the shop. migrate the database as well", set()),
        ("stop the shop on node 4. migrate the database", set()),
    ],
)
def test_two_parts(text: str, expected: set[tuple[int, int]]) -> None:
    assert pairs(text, STOP, MIGRATE) == expected
    assert pairs(text, MIGRATE, STOP) == {(1 - first, 1 - second) for first, second in expected}


def test_all_of_a_stage_comes_before_all_of_the_next() -> None:
    text = "stop the shop and announce it, then migrate the database and tidy up, finally start the shop"
    parts = (STOP, "announce it", MIGRATE, "tidy up", START)
    assert pairs(text, *parts) == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 4), (3, 4)}


def test_a_numbered_list_is_a_chain() -> None:
    text = "Please:\n1. stop the shop\n2. migrate the database\n3. start the shop"
    assert pairs(text, STOP, MIGRATE, START) == {(0, 1), (1, 2)}


def test_the_connective_may_be_in_the_quotation() -> None:
    text = "stop the shop, then migrate the database, after that start the shop"
    assert pairs(text, STOP, "then migrate the database", "after that start the shop") == {(0, 1), (1, 2)}
    assert pairs("migrate the database after you stop the shop", MIGRATE, "after you stop the shop") == {(1, 0)}


def test_white_space_and_case_do_not_matter() -> None:
    assert pairs("STOP  the\tshop, Then migrate the DATABASE", STOP, MIGRATE) == {(0, 1)}


def test_what_is_not_quoted_word_for_word_says_nothing() -> None:
    assert pairs("stop the shop, then migrate the database", "halt the shop", MIGRATE) == set()
    assert pairs("restart the shop", "restart the shop", "restart the shop") == set()
    assert pairs("", "", "") == set()


def test_the_words_that_say_so_are_told() -> None:
    assert [each.because for each in stated_order("stop the shop and then migrate the database", [STOP, MIGRATE])] == [
        "and then"
    ]
    (numbered,) = stated_order("1. stop the shop 2. migrate the database", [STOP, MIGRATE])
    assert numbered.because == "2."


@given(st.text(max_size=300), st.lists(st.text(max_size=20), max_size=6))
def test_any_text_gives_an_order_without_a_circle_of_two(text: str, words: list[str]) -> None:
    for first, second, because in stated_order(text, words):
        assert first != second
        assert because
