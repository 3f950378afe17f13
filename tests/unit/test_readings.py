"""Two readings of the same words put together."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.domain.llm import Opinion, Seen, View
from chargehand.domain.plans import DecomposedRequest, Subtask
from chargehand.understanding.readings import HELD, LIFTED, is_sure, together, why_unsure
from tests.builders import make_id


def reading(*subtasks: tuple[str, str], tier: str = "local", **fields: Any) -> DecomposedRequest:
    steps = tuple(
        Subtask(order=n, name=words, intent=intent, confidence=0.9, words=words)
        for n, (intent, words) in enumerate(subtasks, start=1)
    )
    return DecomposedRequest(request_id=make_id("r"), subtasks=steps, tier=tier, **fields)


def sees(*likely: dict[str, float], **fields: Any) -> Opinion:
    return Opinion([View(each) for each in likely], **fields)


STOP, DISK = ("stop_wiki", "stop the wiki"), ("check_disk", "check the disk")


def test_the_match_is_sure_of_a_plan_that_it_asks_and_doubts_nothing_of() -> None:
    assert is_sure(reading(STOP))
    assert not is_sure(reading())
    assert not is_sure(reading(STOP, ambiguities=("Which?",)))
    assert not is_sure(reading(STOP, out_of_scope=("a pizza",)))
    doubted = reading(STOP)
    flagged = doubted.subtasks[0].model_copy(update={"flags": ("its words are not quite those of the examples",)})
    assert not is_sure(doubted.model_copy(update={"subtasks": (flagged,)}))


def test_why_a_model_is_asked_is_told() -> None:
    assert why_unsure(reading(ambiguities=("Which?",))) == "the catalogue match asks: Which?"
    assert "finds nothing here for “a pizza”" in why_unsure(reading(STOP, out_of_scope=("a pizza",)))
    assert why_unsure(reading()) == "the catalogue match reads nothing in it"


def test_without_a_second_reading_the_models_stands() -> None:
    assert together(reading(STOP), None, None) == reading(STOP)


def test_where_they_agree_the_models_plan_is_used() -> None:
    got = together(
        reading(STOP), reading(STOP, tier="embedded", ambiguities=("Is it meant?",)), sees({"stop_wiki": 0.9})
    )
    assert (got.ambiguities, got.choices, got.subtasks[0].flags) == ((), (), ())


def test_where_they_differ_a_person_picks_one_of_both_by_its_number() -> None:
    match = reading(("start_wiki", "stop the wiki"), tier="embedded")
    got = together(reading(STOP), match, sees({"start_wiki": 0.9}))
    assert got.ambiguities == (
        "Which is meant? 1: stop_wiki (“stop the wiki”). 2: start_wiki (“stop the wiki”). Answer with the number.",
    )
    assert [[task.intent for task in each] for each in got.choices] == [["stop_wiki"], ["start_wiki"]]


@pytest.mark.parametrize("guard", sorted(HELD - LIFTED))
def test_a_guard_of_the_match_holds_what_a_model_would_plan(guard: str) -> None:
    opinion = sees({"stop_wiki": 0.9}, guarded=[(guard, "It says more. Please say only what should be done now.")])
    got = together(reading(STOP), reading(STOP, tier="embedded"), opinion)
    assert len(got.ambiguities) == 1


@pytest.mark.parametrize("guard", sorted(LIFTED))
def test_grammar_that_both_read_alike_is_a_flag_and_otherwise_a_question(guard: str) -> None:
    opinion = sees({"stop_wiki": 0.9}, guarded=[(guard, "“but now” limits. Please say only what should be done now.")])
    agreed = together(reading(STOP), reading(STOP, tier="embedded"), opinion)
    assert (agreed.ambiguities, agreed.subtasks[0].flags) == ((), ("“but now” limits",))
    assert together(reading(STOP), reading(STOP, DISK, tier="embedded"), opinion).ambiguities


def test_an_order_between_two_parts_is_no_reason_to_ask() -> None:
    opinion = sees({"stop_wiki": 0.9}, {"check_disk": 0.9}, guarded=[("order", "tells an order")])
    assert together(reading(STOP, DISK), reading(STOP, tier="embedded"), opinion).ambiguities == ()
    assert together(reading(STOP), reading(STOP, tier="embedded"), opinion).ambiguities == ("tells an order",)


def test_where_the_match_knows_the_request_what_it_finds_nothing_for_is_left_out() -> None:
    opinion = sees({"stop_wiki": 0.9}, {}, seen=[Seen("stop the wiki", "stop_wiki", 0.9)], foreign=["order me a taxi"])
    model = reading(STOP, ("order_supplies", "order me a taxi"))
    got = together(model, reading(STOP, tier="embedded", out_of_scope=("order me a taxi",)), opinion)
    assert ([task.intent for task in got.subtasks], got.out_of_scope) == (["stop_wiki"], ("order me a taxi",))


def test_what_another_part_waits_for_is_not_left_out() -> None:
    opinion = sees({}, {"stop_wiki": 0.9}, seen=[Seen("stop the wiki", "stop_wiki", 0.9)], foreign=["order me a taxi"])
    first, second = reading(("order_supplies", "order me a taxi"), STOP).subtasks
    model = reading(STOP).model_copy(update={"subtasks": (first, second.model_copy(update={"depends_on": (1,)}))})
    got = together(model, reading(STOP, tier="embedded"), opinion)
    assert [task.intent for task in got.subtasks] == ["order_supplies", "stop_wiki"]
    assert "finds nothing here" in got.subtasks[0].flags[0]


def test_a_doubt_of_the_match_is_a_choice_where_it_asks_by_itself() -> None:
    match = reading(("start_wiki", "stop the wiki"), tier="embedded", ambiguities=("Did you mean start?",))
    assert together(reading(STOP), match, sees({"start_wiki": 0.3, "stop_wiki": 0.1})).choices
    assert not together(reading(STOP), match.model_copy(update={"ambiguities": ()}), sees({"start_wiki": 0.3})).choices


def test_what_the_match_finds_nothing_for_is_flagged_where_the_model_reads_something() -> None:
    opinion = sees({}, foreign=["stop the wiki", "order a pizza"])
    got = together(reading(STOP), reading(tier="embedded", out_of_scope=("stop the wiki",)), opinion)
    assert got.subtasks[0].flags == ("the catalogue match finds nothing here for “stop the wiki”",)
    assert got.out_of_scope == ("order a pizza",)


def test_where_a_model_finds_nothing_the_matchs_reading_is_used() -> None:
    match = reading(STOP, tier="embedded", ambiguities=("Is it meant?",), notice="plain commands only")
    got = together(reading(out_of_scope=("the wiki",)), match, sees())
    assert (got.subtasks, got.ambiguities, got.tier, got.notice) == (match.subtasks, match.ambiguities, "embedded", "")
