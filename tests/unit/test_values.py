"""Values of parameters: which a request gives, and which a model only made up."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.domain.errors import BadDecomposition
from chargehand.domain.llm import Extracted, Reply
from chargehand.understanding.questions import Wanted
from chargehand.understanding.values import Given, is_said, joined, read_values, wanted
from tests.builders import make_catalog, make_spec

TEXT = "Move the wiki to 192.168.178.20 on port 8080 in 30s, keep version 2.1.0, tell ops-team and use secret:wiki_key"
MOVE = make_spec(
    "move_wiki",
    parameters={
        "type": "object",
        "properties": {
            "host": {"type": "string"},
            "port": {"type": "integer", "maximum": 9000},
            "key": {"type": "string", "format": "secret"},
        },
        "required": ["host"],
    },
)


@pytest.mark.parametrize(
    "value",
    ["192.168.178.20", 8080, 30, "2.1.0", "ops-team", "OPS-TEAM", "the wiki", "port 8080", ["wiki", "ops-team"], True],
)
def test_what_stands_in_the_request_whole_is_said(value: Any) -> None:
    assert is_said(value, TEXT, {})


@pytest.mark.parametrize(
    "value",
    [
        "192.168.17",
        "192.168.178.2",
        "168.178.20",
        80,
        808,
        8,
        "2.1",
        "ops",
        "team",
        "wik",
        "",
        None,
        ["wiki", "db"],
        "?!",
    ],
)
def test_part_of_a_word_and_what_is_made_up_are_not_said(value: Any) -> None:
    assert not is_said(value, TEXT, {})


def test_a_secret_is_said_by_its_name_only() -> None:
    schema = {"format": "secret"}
    assert is_said({"secret": "wiki_key"}, TEXT, schema)
    assert not is_said({"secret": "wiki"}, TEXT, schema)
    assert not is_said("wiki_key", TEXT, schema)


def read(answer: Any) -> Given:
    asked = [Wanted(1, MOVE, "Move the wiki")]
    return read_values(Reply(tier="local", model="m", value=answer), asked, TEXT)[1]


def test_values_that_are_said_and_fit_are_taken() -> None:
    found = read({"1": {"Host": "192.168.178.20", "port": "8080", "key": {"secret": "wiki_key"}, "made_up": 1}})
    assert found == Given({"host": "192.168.178.20", "port": 8080, "key": {"secret": "wiki_key"}})


def test_what_is_made_up_or_does_not_fit_is_left_open_and_told() -> None:
    found = read({"1": {"host": "10.0.0.1", "port": 8080}})
    assert found.values == {"port": 8080}
    assert found.flags == ("host is left open: “10.0.0.1” does not stand in the request",)
    high = read_values(
        Reply(tier="local", model="m", value={"1": {"port": 9999}}), [Wanted(1, MOVE, "")], "to port 9999"
    )
    assert high[1].values == {}
    assert "9000" in high[1].flags[0]


@pytest.mark.parametrize("answer", [None, {"1": "nginx"}, {"1": ["nginx"]}])
def test_an_answer_of_another_shape_is_refused(answer: Any) -> None:
    with pytest.raises(BadDecomposition):
        read(answer)


def test_what_the_answer_leaves_out_is_empty() -> None:
    assert read({}) == Given({})


class Part:
    order, words = 1, "Move the wiki"

    def __init__(self, intent: str) -> None:
        self.intent = intent


@pytest.mark.parametrize(
    ("intent", "found", "asked"),
    [
        ("move_wiki", Extracted({"host": "web-1"}, certain=True), False),
        ("move_wiki", Extracted({}, certain=True), True),  # the needed one is missing
        ("move_wiki", Extracted({"host": "web-1"}), True),  # a word is left that may be a value
        ("check_disk", Extracted(), False),  # there is nothing to fill in
    ],
)
def test_a_model_is_asked_only_for_what_code_is_not_certain_of(intent: str, found: Extracted, *, asked: bool) -> None:
    catalog = make_catalog(MOVE, "check_disk")
    assert bool(wanted([Part(intent)], [found], catalog)) is asked


def test_a_model_that_gives_no_values_leaves_those_of_code_with_a_flag() -> None:
    asked = [Wanted(1, MOVE, "")]
    code = {1: Given({"host": "web-1"})}
    assert joined(None, code, asked)[1].values == {"host": "web-1"}
    assert "look at the parameters" in joined(None, code, asked)[1].flags[0]
    assert joined({1: Given({"port": 1})}, code, asked) == {1: Given({"host": "web-1", "port": 1})}
