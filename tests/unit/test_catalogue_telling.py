"""Which clauses are orders, and which only tell something."""

from __future__ import annotations

import pytest

from chargehand.llm.catalogue_match.telling import orders, tells
from chargehand.llm.catalogue_match.words import tokens


@pytest.mark.parametrize(
    "clause",
    ["it is slow again", "it's the wrong branch", "the disks are full", "Marta left the company", "we have no room"],
)
def test_statements_tell(clause: str) -> None:
    assert tells(tokens(clause))
    assert not orders(tokens(clause))


@pytest.mark.parametrize(
    "clause",
    [
        "restart the wiki",
        "check that the page is up",
        "please restart the wiki",
        "it should be restarted",
        "we need the wiki restarted",
        "the wiki needs a restart",
        "is the disk full",
        "how full is the disk",
        "can you restart the wiki",
        "",
    ],
)
def test_orders_wishes_and_questions_do_not(clause: str) -> None:
    assert not tells(tokens(clause))


def test_a_word_no_table_knows_can_be_an_order() -> None:
    assert orders(tokens("defragment the disk"))
    assert not orders(tokens("on the third floor"))
