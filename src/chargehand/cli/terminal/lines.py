"""What is shown, before it is known where: lines with a style each, and small formats. Pure.

Whatever is shown passes `visible`, which is the one place that keeps other people's text from steering a terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple

Style = str
STYLES: dict[Style, str] = {  # as Rich names them
    "": "",
    "title": "bold",
    "good": "green",
    "warn": "yellow",
    "bad": "red",
    "dim": "dim",
}

SPACES = "\t\n\r\v\f\u00a0\u2028\u2029"
HARMLESS = "\u200c\u200d\u00ad"  # joiners and the soft hyphen: nothing is lost without them


AMBIGUOUS = (",", "=", ";", '"', "“", "”", "  ")  # in a text: what stands between values, and around them


class Line(NamedTuple):
    """One line: its words, how it looks where colours are, and how far in it stands."""

    text: str
    style: Style = ""
    indent: int = 0


BLANK = Line("")
GONE = str.maketrans({**dict.fromkeys(SPACES, " "), **dict.fromkeys(HARMLESS, "")})


def visible(text: str) -> str:
    """Return text as one line of what can be seen: no control characters, no marks that reorder or hide."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.translate(GONE))


COMMANDS = (
    "agent agents answer approve audit backup cancel catalog db doctor logs pause plan reject requests restore resume "
    "retry routing review reviews run server status version watch why"
)
_CALL = re.compile(rf"(?<![\w/.-])chargehand (?=(?:{'|'.join(COMMANDS.split())})\b)")


def as_called(text: str, name: str | None) -> str:
    """Return advice with our commands as they are called here: `./run why ID` where there is no `chargehand`."""
    return _CALL.sub(lambda _: f"{name} ", text) if name else text


def short(identifier: object) -> str:
    """Return the beginning of an id, which names it well enough for every command."""
    return str(identifier)[:8]


def cut(text: str, most: int) -> str:
    """Return at most that many characters, with a mark where some are missing."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def lasting(seconds: float) -> str:
    """Return a duration as people say it: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    parts = [f"{minutes} min"] if minutes else []
    return " ".join([*parts, f"{rest} s"] if rest or not minutes else parts)


def clock(at: datetime) -> str:
    """Return a time in the zone of whoever reads it."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def count(n: int, what: str) -> str:
    """Return `1 step`, `2 steps`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def said(value: Any, most: int | None = None) -> str:
    """Return a JSON value as people write it: texts bare, lists with commas, `secret:NAME`, the rest as JSON.

    A text that could be taken for something else (two values, a secret, nothing) is in quotes. What is longer than
    `most` characters is cut, and how long it is stands behind it.
    """
    text = _said(value)
    return text if most is None or len(text) <= most else f"{cut(text, most)} ({len(text):,} characters)"


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict) and value.keys() == {"secret"} and isinstance(value["secret"], str):
        return f"secret:{value['secret']}"
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(_said(item) for item in value)
    return json.dumps(value, ensure_ascii=False)


def _is_plain(text: str) -> bool:
    """Whether nobody can take a text for more or less than one value: `8421, host = db` looks like two."""
    odd = any(sign in text for sign in AMBIGUOUS) or text.startswith("secret:")
    return bool(text) and text == text.strip() and visible(text) == text and not odd


def columns(rows: Iterable[Sequence[str]], titles: Sequence[str]) -> list[Line]:
    """Return rows under their titles. The last column is as wide as it likes."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, cells)) for cells in zip_longest(titles, *shown, fillvalue="")][:-1]
    return [Line(_padded(titles, widths), "dim"), *(Line(_padded(row, widths)) for row in shown)]


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join([*(c.ljust(w) for c, w in zip(cells, widths, strict=False)), cells[-1]]).rstrip()
