"""JSON of strangers, read within limits: of bytes, depth and kinds of numbers. Pure.

Brackets are counted before anything is built, so that depth costs one look over the text and not a deep call.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from chargehand.domain.errors import UnreadableText

MOST_BYTES = 1_000_000
"""What one message may hold (`envelopes.MAX_BYTES`); nothing that people write as JSON comes near it."""
DEEPEST = 64
"""Levels. Configuration, results and plans have some ten; Python's own limit is about a thousand calls."""

MOST_DIGITS = 300
"""Of a number: the largest fraction has 309, and an envelope takes none of more (`envelopes`). What is read here and
then sent must not be refused over there."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+\\?(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)  # a text is passed over, whatever is in it

Pairs = Callable[[list[tuple[str, Any]]], Any]


def loads(text: str | bytes, *, most: int = MOST_BYTES, deepest: int = DEEPEST, pairs: Pairs | None = None) -> Any:
    """Return the value of a JSON text. Raises `UnreadableText` saying what is wrong with it, and in which line.

    `pairs` makes an object of its keys and values, as `object_pairs_hook` does.
    """
    if len(text) > most:
        raise UnreadableText(f"it has more than {most:,} bytes")
    try:
        plain = text.decode() if isinstance(text, bytes | bytearray) else text
        if is_deeper(plain, deepest):
            raise UnreadableText(f"it is nested more than {deepest} levels deep")
        return json.loads(
            plain, parse_constant=_no_number, parse_int=_integer, parse_float=_fraction, object_pairs_hook=pairs
        )
    except json.JSONDecodeError as error:
        raise UnreadableText(f"it is not JSON: {error.msg}", line=error.lineno) from error
    except UnicodeDecodeError as error:
        raise UnreadableText("it is not text in UTF-8") from error
    except ValueError as error:  # a number of more than 4,300 digits
        raise UnreadableText("it holds a number that is too long") from error


def is_deeper(text: str, deepest: int = DEEPEST) -> bool:
    """Return whether a JSON text opens more brackets inside of each other than that."""
    if text.count("[") + text.count("{") <= deepest:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        depth += (first in "[{") - (first in "]}")
        if depth > deepest:
            return True
    return False


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise UnreadableText(f"it holds a number of more than {MOST_DIGITS} digits")
    return int(digits)


def _fraction(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise UnreadableText("it holds a number that is too large")
    return value


def _no_number(word: str) -> NoReturn:
    raise UnreadableText(f"{word} is not a number in JSON")
