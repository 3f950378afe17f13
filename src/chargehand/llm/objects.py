"""The one JSON object in what a model wrote: bare, fenced, in prose, behind a thought. None of it is trusted.

Models put all kinds of text around their answer. What counts is that there is exactly one answer: where two that differ
are found, nothing says which one was meant, and the first is often a draft that the model took back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from pydantic import JsonValue

LONGEST = 200_000  # characters; an answer of 4,096 tokens has some 16,000
MOST_TRIES = 64  # braces at which an object may begin; prose with more of them is no answer

END_TOKENS = re.compile(r"<\|(?:im_end|end|eot_id|eom_id|return|endoftext)\|>|<end_of_turn>|</s>")
"""Tokens with which chat formats end; some servers leave them in the text."""

FINAL = "<|channel|>final<|message|>"  # OpenAI's open models write their thoughts into another channel
THOUGHT, THOUGHT_ENDS = "<think>", "</think>"
MARK = "\ufeff"  # a byte order mark
LONGEST_NUMBER = 100  # digits; Python refuses to read more than 4,300, and nothing here needs more than 19
EXACT = 2**53  # integers above it are not all floats


class NotOneObject(ValueError):
    """There is no JSON object in a text, or there are two that differ."""


def only_object(text: str, keys: Collection[str] = ()) -> dict[str, JsonValue]:
    """Return the JSON object in a text. `keys`: an object that has one of them is an answer, others are examples.

    Raises `NotOneObject`.
    """
    if len(text) > LONGEST:
        raise NotOneObject(f"the answer is longer than {LONGEST} characters")
    found = list(_objects(_answer(text)))
    answers = [each for each in found if not keys or not each.keys().isdisjoint(keys)] or found
    if not answers:
        raise NotOneObject("the answer is not a JSON object")
    if any(each != answers[0] for each in answers):
        raise NotOneObject("the answer holds two JSON objects that differ")
    return answers[0]


def _answer(text: str) -> str:
    """What stands behind the thoughts."""
    text = END_TOKENS.sub("", text.rpartition(FINAL)[2].replace(MARK, ""))
    _, ended, answer = text.rpartition(THOUGHT_ENDS)
    unended = not ended and text.lstrip().startswith(THOUGHT)  # it never came to an end of its thoughts
    return "" if unended else answer


def _objects(text: str) -> Iterator[dict[str, JsonValue]]:
    """Yield the outermost JSON objects, in order."""
    place = 0
    for _ in range(MOST_TRIES):
        place = text.find("{", place)
        if place < 0:
            return
        try:
            found, place = DECODER.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError):  # a brace in prose, or nested without end
            place += 1
            continue
        yield _storable(found)


def _storable(found: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return an object if it can be written as JSON again: half a character or a number beyond all can not."""
    try:
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise NotOneObject("the answer holds what is no text or no number") from error
    return found


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotOneObject("a name stands twice in one object of the answer")
    return found


def _number(text: str) -> int | float:
    """Read 1.0 as 1: JSON does not tell them apart, and many models write whole numbers so."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < EXACT else value


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise NotOneObject(f"a number of the answer has more than {LONGEST_NUMBER} digits")
    return int(text)


def _refused(name: str) -> NoReturn:
    raise NotOneObject(f"the answer is not JSON: it has {name}")


DECODER = json.JSONDecoder(
    object_pairs_hook=_without_twins, parse_float=_number, parse_int=_integer, parse_constant=_refused
)
