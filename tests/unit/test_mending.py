"""What code puts right in a model's answer: form, never meaning."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.understanding.mending import mend, mend_parameters
from tests.builders import make_catalog, make_spec

RESTART = make_spec(
    "restart_service",
    parameters={
        "type": "object",
        "properties": {
            "service": {"type": "string"},
            "port": {"type": "integer"},
            "mode": {"type": "string", "enum": ["soft", "hard"]},
            "hosts": {"type": "array", "items": {"type": "string"}},
        },
    },
)
CATALOG = make_catalog(RESTART, "check_disk")
TEXT = "Restart  nginx on web-1, then check the disk and order a pizza"


def mended(*subtasks: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return mend({"subtasks": list(subtasks), **rest}, TEXT, CATALOG)


def step(**fields: Any) -> dict[str, Any]:
    return {"intent": "check_disk", "words": "check the disk", "confidence": 0.9, **fields}


def test_what_is_left_out_is_filled_in_by_its_place_and_words() -> None:
    (first, second) = mended(step(), {"intent": "restart_service", "words": "restart nginx on web-1"})["subtasks"]
    assert (first["order"], second["order"]) == (1, 2)
    assert (second["name"], second["confidence"]) == ("Restart  nginx on web-1", 0.5)


@pytest.mark.parametrize("written", ["Check_Disk", "check-disk", "CHECK DISK", "checkDisk"])
def test_an_intent_in_other_letters_is_that_intent(written: str) -> None:
    assert mended(step(intent=written))["subtasks"][0]["intent"] == "check_disk"


def test_an_intent_that_is_not_there_stays_as_it_is_for_the_reader_to_refuse() -> None:
    assert mended(step(intent="check_disks_now"))["subtasks"][0]["intent"] == "check_disks_now"


@pytest.mark.parametrize(
    ("said", "read"), [("0.8", 0.8), ("80%", 0.8), (80, 0.8), (0.8, 0.8), ("sure", "sure"), (-1, -1), (True, True)]
)
def test_a_confidence_may_be_a_text_or_a_share(said: object, read: object) -> None:
    assert mended(step(confidence=said))["subtasks"][0]["confidence"] == read


def test_a_quotation_that_differs_in_white_space_and_capitals_is_the_requests() -> None:
    assert mended(step(words="restart nginx ON web-1"))["subtasks"][0]["words"] == "Restart  nginx on web-1"
    assert mended(step(words="stop nginx"))["subtasks"][0]["words"] == "stop nginx"


def test_a_step_that_is_said_twice_is_one_and_what_waited_for_it_waits_for_the_first() -> None:
    other = {"intent": "restart_service", "words": "Restart  nginx on web-1", "confidence": 0.9}
    kept = mended(step(order=1), step(order=2), {**other, "order": 3, "depends_on": [2]})["subtasks"]
    assert [each["order"] for each in kept] == [1, 3]
    assert kept[1]["depends_on"] == [1]


def test_the_same_intent_with_other_words_or_values_stays() -> None:
    assert len(mended(step(), step(words="the disk"))["subtasks"]) == 2
    nginx, redis = (
        {"intent": "restart_service", "words": "it", "parameters": {"service": n}} for n in ("nginx", "redis")
    )
    assert len(mended(nginx, redis)["subtasks"]) == 2


def test_parameters_that_the_intent_does_not_take_are_dropped_and_told() -> None:
    kept, told = mend_parameters({"service": "nginx", "run_as": "root", "mode": None}, RESTART)
    assert kept == {"service": "nginx"}
    assert told == ["“run_as” is left out: restart_service takes no such parameter"]


def test_values_are_read_in_the_type_of_their_schema() -> None:
    kept, _ = mend_parameters({"Service": 8, "port": "8080", "mode": "Soft", "hosts": "web-1"}, RESTART)
    assert kept == {"service": "8", "port": 8080, "mode": "soft", "hosts": ["web-1"]}
    assert mend_parameters({"port": "eighty", "mode": "gentle"}, RESTART)[0] == {"port": "eighty", "mode": "gentle"}


def test_a_part_that_is_not_of_the_request_or_that_a_step_stands_for_is_not_left_out() -> None:
    lines = ["order a pizza", "book a flight", "check the disk"]
    assert mended(step(), out_of_scope=lines)["out_of_scope"] == ["order a pizza"]


@pytest.mark.parametrize(
    "echo",
    [
        "What exactly should be done, and to what?",
        "Restart nginx on web-1, then check the disk?",
        "Do not pick an intent that only sounds alike.",
        " ",
    ],
)
def test_a_question_that_repeats_our_words_or_the_request_is_dropped(echo: str) -> None:
    assert mended(step(), ambiguities=[echo, "Should web-1 be drained beforehand, gracefully?"])["ambiguities"] == [
        "Should web-1 be drained beforehand, gracefully?"
    ]


@pytest.mark.parametrize("value", [{}, {"subtasks": "none"}, {"subtasks": [1]}, {"answer": 1}])
def test_what_has_another_shape_is_left_to_the_reader(value: dict[str, Any]) -> None:
    assert mend(value, TEXT, CATALOG) == value
