"""Diffs for the record: who reads them sees what changed, but never the value of a secret. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from chargehand.domain.patterns import replaced

HIDDEN = "***"
CONTEXT = 3  # lines around a change
_HUNK = re.compile(r"([-+])(\d+)")
_SECRET_NAME = r"[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|credential)[\w.-]*"
_SECRET = rf"""(?im)^(?P<name>.*?["']?\b{_SECRET_NAME}["']?\s*[:=]\s*)(?P<value>[^\s,}}\]].*)$"""
_IN_URL = r"(\w+://[^\s:/@]*:)[^\s@/]+@"
_PEM = r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----)"
MOST_LINES = 1_000
"""That are compared with each other; comparing takes up to the square of it. Above, a change is shown as a whole."""


def unified(before: str, after: str, name: str) -> str:
    """Return the unified diff of two texts without secrets; says so when only secrets differ."""
    hidden_before, hidden_after = redact(before), redact(after)
    text = "\n".join(_compared(hidden_before.splitlines(), hidden_after.splitlines(), name))
    return text or ("" if before == after else f"--- {name}: only values of secrets (or line ends) differ")


def _compared(old: list[str], new: list[str], name: str) -> Iterator[str]:
    first = _alike(old, new)
    last = _alike(old[first:][::-1], new[first:][::-1])
    if max(len(old), len(new)) - first - last <= MOST_LINES:
        yield from _in_place(old, new, (max(first - CONTEXT, 0), max(last - CONTEXT, 0)), name)
        return
    yield from (f"--- {name} (before)", f"+++ {name} (after)")
    yield f"@@ -{first + 1},{len(old) - first - last} +{first + 1},{len(new) - first - last} @@"
    yield from (f"-{line}" for line in old[first : len(old) - last])
    yield from (f"+{line}" for line in new[first : len(new) - last])


def _in_place(old: list[str], new: list[str], left_out: tuple[int, int], name: str) -> Iterator[str]:
    """Compare what is between the lines that both begin and end with; the numbers are those of the whole texts."""
    first, last = left_out
    lines = difflib.unified_diff(
        old[first : len(old) - last], new[first : len(new) - last], f"{name} (before)", f"{name} (after)", lineterm=""
    )
    for line in lines:
        yield _HUNK.sub(lambda number: f"{number[1]}{int(number[2]) + first}", line) if line.startswith("@@") else line


def _alike(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many lines both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))


def redact(text: str) -> str:
    """Return the text with the values of keys that look like secrets, keys in PEM and passwords in URLs hidden."""
    text = replaced(_PEM, rf"\1 {HIDDEN} \2", text)
    text = replaced(_IN_URL, rf"\1{HIDDEN}@", text)
    return replaced(_SECRET, rf"\g<name>{HIDDEN}", text)


def one_line(text: str) -> str:
    """Return the lines of a text as one, for messages of which only one line is shown."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())


def clip(text: str, limit: int) -> str:
    """Return at most `limit` characters, saying how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text) - limit:,} more characters)"
