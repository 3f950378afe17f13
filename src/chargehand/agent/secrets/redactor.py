"""Hides the values of secrets, however they are spelt, in everything that leaves the agent.

A value becomes `[secret NAME]`. It is recognised as it is, line by line, and in the spellings of programs that print
it: JSON, Python, YAML, shells, URLs, HTML, hexadecimal, Base64, Base32 (also inside of something longer), in upper and
lower case. A value that goes on in the next line is found, too, and hexadecimal with something between its digits.
Texts that may have been cut off in the middle of a value are searched for its rest as well.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import shlex
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, quote_plus

from pydantic import JsonValue

SHORTEST = 4
"""Characters. What is shorter stands in too many texts by chance, and is guessed in no time: it is no secret."""
SHORTEST_HALF = 6
"""Characters of a part of a value that is hidden at the end of a line: fewer stand there by chance."""
MAY_BE_CUT = 1000
"""Characters: whatever cuts texts (Ansible's callback, a program's tail, messages) leaves at least as many."""
BASE64_LINES = (76, 64)  # where `base64` and PEM break lines


class Redactor:
    """Knows the values that an agent has looked up. It forgets none: an old value may still be printed."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}  # spelling -> name; replaced whole, so that threads may read it
        self._digits: dict[str, str] = {}  # the same, for hexadecimal alone

    def learn(self, name: str, value: str) -> None:
        """Hide this value from now on."""
        self._forms = {**dict.fromkeys(map(_folded, spellings(value)), name), **self._forms}
        self._digits = {value.encode(errors="surrogateescape").hex(): name, **self._digits}

    def text(self, text: str) -> str:
        """Return the text with every known value hidden."""
        shown, end = [], 0
        for start, stop, name in sorted(self._found(text), key=lambda found: (found[0], -found[1])):
            if start >= end:
                shown += [text[end:start], mask(name)]
            end = max(end, stop)
        return "".join([*shown, text[end:]]) if shown else text

    def line(self, line: str) -> str:
        """Return one line of several with every known value hidden, also the larger part of one that is split there.

        Lines leave one by one, so the other part is never seen together with this one; what is shown of a value is
        less than half of it.
        """
        shown = self.text(line)
        for form, name in self._forms.items():
            plain = _folded(shown)
            end, start = _half_at_end(plain, form), _half_at_start(plain, form)
            shown = shown if end is None else shown[:end] + mask(name)
            shown = shown if start is None else mask(name) + shown[start:]
        return shown

    def value(self, value: JsonValue) -> JsonValue:
        """Return JSON with every known value hidden, in keys and numbers too."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self.mapping(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            name = self._forms.get(_folded(json.dumps(value)))
            return value if name is None else mask(name)
        return value

    def mapping(self, values: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Return a JSON object with every known value hidden."""
        return {self.text(key): self.value(item) for key, item in values.items()}

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        if not self._forms:
            return
        plain = _folded(text)
        for form, name in self._forms.items():
            yield from ((start, end, name) for start, end in _places(plain, form))
            if len(text) >= MAY_BE_CUT:
                yield from ((start, end, name) for start, end in _rests(plain, form))
        for between, forms in ((LINE_END, self._forms), (BETWEEN_DIGITS, self._digits)):
            if between.search(plain):
                yield from _found_without(between, forms, plain)


LINE_END = re.compile(r"(?:\r?\n|(?:\\r)?\\n)[ \t]*")
"""The end of a line, also as JSON writes it, and the spaces that the next one is set in by."""
BETWEEN_DIGITS = re.compile(r"(?:0x|\\x|[\s:,._|-])+")
"""What stands between the digits of `de:ad:be:ef`, `0xde, 0xad` or `dead beef`."""


def _folded(text: str) -> str:
    """Return text in lower case, character by character: places in it must be those of the text."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _places(text: str, form: str) -> Iterator[tuple[int, int]]:
    """Yield where a form stands; places that overlap are one."""
    start = text.find(form)
    while start >= 0:
        end = start + len(form)
        while (more := text.find(form, end - len(form) + 1, end + len(form))) >= 0:
            end = more + len(form)
        yield start, end
        start = text.find(form, end)


def _found_without(between: re.Pattern[str], forms: Mapping[str, str], text: str) -> Iterator[tuple[int, int, str]]:
    """Yield what stands in a text when what matches `between` is left out, at its places in the whole text."""
    rest = between.sub("", text)
    found = [(*place, name) for form, name in forms.items() for place in _places(rest, form)]
    if not found:
        return
    kept, starts, at, length = [], [], 0, 0  # where each piece begins: in the text, and in the rest
    for gap in (*((each.start(), each.end()) for each in between.finditer(text)), (len(text), len(text))):
        kept.append(at)
        starts.append(length)
        length += gap[0] - at
        at = gap[1]
    for start, end, name in found:
        first, last = bisect_right(starts, start) - 1, bisect_right(starts, end - 1) - 1
        yield kept[first] + start - starts[first], kept[last] + end - starts[last], name


def mask(name: str) -> str:
    """Return what is shown in the place of a secret's value."""
    return f"[secret {name}]"


def spellings(value: str) -> set[str]:
    """Return the forms in which a program may print a value, or a line of it."""
    lines = [line for line in value.splitlines() if not line.startswith("-----")]  # PEM's frame is in every key
    parts = {part for each in (value, *lines) for part in (each, each.strip()) if len(part) >= SHORTEST}
    return {form for part in parts for spell in SPELLINGS for form in spell(part) if len(form) >= SHORTEST}


def _plain(value: str) -> Iterator[str]:
    yield value


def _in_programs(value: str) -> Iterator[str]:
    """JSON, JSON inside of JSON, Python, YAML, and the form in which parameters are given to Ansible."""
    as_json = json.dumps(value)[1:-1]
    yield from (as_json, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(as_json)[1:-1])
    yield from (repr(value)[1:-1], value.replace("'", "''"))
    yield "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08X}" for c in value)


def _in_shells(value: str) -> Iterator[str]:
    yield shlex.quote(value).removeprefix("'").removesuffix("'")
    yield re.sub(r"([^\w.,:/@%+=-])", r"\\\1", value)
    yield re.sub(r'(["\\$`])', r"\\\1", value)


def _in_addresses(value: str) -> Iterator[str]:
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), quoted)
    yield html.escape(value)


def _as_bytes(value: str) -> Iterator[str]:
    raw = value.encode()
    yield raw.hex()
    for shift in range(5):  # as Base64 below, with groups of five bytes
        padded = bytes(shift) + raw
        yield base64.b32encode(padded).decode()[-(-shift * 8 // 5) : len(padded) * 8 // 5]
    for shift in range(3):  # a value inside of something longer may begin at any of three places of a group
        padded = bytes(shift) + raw
        whole = base64.b64encode(padded).decode()[-(-shift * 8 // 6) : len(padded) * 8 // 6]
        yield from (whole, whole.translate(URL_SAFE))
        if shift == 0:
            yield from (whole[at : at + width] for width in BASE64_LINES for at in range(0, len(whole), width))


URL_SAFE = str.maketrans("+/", "-_")
SPELLINGS: tuple[Callable[[str], Iterator[str]], ...] = (_plain, _in_programs, _in_shells, _in_addresses, _as_bytes)


def _rests(text: str, form: str) -> Iterator[tuple[int, int]]:
    """Yield where the text ends with the beginning of a form, or begins with its end."""
    last, head = text[-(len(form) - 1) :], form[:SHORTEST]
    at = last.find(head)
    while at >= 0:
        if form.startswith(last[at:]):
            yield len(text) - len(last) + at, len(text)
            break
        at = last.find(head, at + 1)
    lost = len(text) - len(text.lstrip("\ufffd"))  # half a character, where bytes were cut
    first, tail = text[lost : lost + len(form) - 1], form[-SHORTEST:]
    at = first.rfind(tail)
    while at >= 0:
        if form.endswith(first[: at + SHORTEST]):
            yield 0, lost + at + SHORTEST
            break
        at = first.rfind(tail, 0, at + SHORTEST - 1)


def _half_at_end(line: str, form: str) -> int | None:
    """Return where a line's last part begins when that is the first half of a form, or more of it."""
    bare = line.rstrip()
    for length in range(min(len(form) - 1, len(bare)), _least(form) - 1, -1):
        if bare.endswith(form[:length]):
            return len(bare) - length
    return None


def _half_at_start(line: str, form: str) -> int | None:
    """Return where a line's first part ends when that is the second half of a form, or more of it."""
    bare = line.lstrip()
    for length in range(min(len(form) - 1, len(bare)), _least(form) - 1, -1):
        if bare.startswith(form[-length:]):
            return len(line) - len(bare) + length
    return None


def _least(form: str) -> int:
    return max(SHORTEST_HALF, (len(form) + 1) // 2)


class LogFilter(logging.Filter):
    """Hides secrets in log records, tracebacks included. For handlers: those of loggers do not see their children's."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def attach(self) -> None:
        """Filter all that is logged in this process from now on."""
        for handler in _handlers():
            handler.addFilter(self)

    def detach(self) -> None:
        """Filter nothing any more."""
        for handler in _handlers():
            handler.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        hide = self._redactor.text
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit; they would be printed to say so
            message, record.args = str(record.msg), ()
        if hide(message) != message:
            record.msg, record.args = hide(message), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = PLAIN.formatException(record.exc_info)
        if record.exc_text and hide(record.exc_text) != record.exc_text:
            # Without the exception no other formatter can print it anew.
            record.exc_text, record.exc_info = hide(record.exc_text), None
        if record.stack_info:
            record.stack_info = hide(record.stack_info)
        return True


def _handlers() -> list[logging.Handler]:
    """Return what writes: the root's handlers, and the one that Python uses where there are none."""
    return [*logging.getLogger().handlers, *filter(None, [logging.lastResort])]


PLAIN = logging.Formatter()
