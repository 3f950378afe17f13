"""Cutting a request into clauses, scored by a stand-in that knows a few phrases."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.llm.catalogue_match.clauses import Clause, cut
from chargehand.llm.catalogue_match.words import Token, tokens

KNOWN = {
    "deploy kuma",
    "restart nginx",
    "restart redis",
    "add portals to config",
    "add portals and services to config",
    "check page is up and running",
    "stop and start kuma",
    "check page",
    "check memory on web-1",
    "check memory on web-2",
    "restart page",
}


def strength(clause: tuple[Token, ...]) -> float:
    return 0.9 if " ".join(token.raw for token in clause if token.raw not in ("the", "our", ",")) in KNOWN else 0.1


def clauses(text: str) -> list[Clause]:
    found = cut(text, tokens(text), strength)
    assert found is not None
    return found


def words(text: str) -> list[str]:
    return [" ".join(token.raw for token in clause.tokens) for clause in clauses(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deploy kuma and add portals to config", ["deploy kuma", "add portals to config"]),
        ("deploy kuma, then restart nginx", ["deploy kuma", "restart nginx"]),
        ("deploy kuma. restart nginx!", ["deploy kuma", "restart nginx"]),
        ("add portals and services to config", ["add portals and services to config"]),
        ("check page is up and running", ["check page is up and running"]),
        ("restart nginx and redis", ["restart nginx", "restart redis"]),
        ("restart and check page", ["restart page", "check page"]),
        ("check memory on web-1, web-2", ["check memory on web-1", "check memory on web-2"]),
    ],
)
def test_the_cut_that_the_catalog_explains_best_wins(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_joints_in_time_are_remembered() -> None:
    assert [clause.then for clause in clauses("deploy kuma, then restart nginx and restart redis")] == [
        False,
        True,
        False,
    ]
    assert clauses("deploy kuma. After that restart nginx")[1].then


def test_a_wall_of_text_is_no_command() -> None:
    text = "and so on, " * 80
    assert cut(text, tokens(text), strength) is None


PARTS = ("deploy", "kuma", "and", "then", ",", ".", "add", "portals", "to", "config", "redis", "web-1", "it", "'x", ";")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=14))
def test_no_word_is_lost(parts: list[str]) -> None:
    text = " ".join(parts)
    found = tokens(text)
    kept = {place for clause in clauses(text) for token in clause.tokens for place in range(token.start, token.end)}
    joints = {"and", "then", ",", ".", ";", "also", "'"}
    assert all(token.start in kept for token in found if token.lower not in joints)
