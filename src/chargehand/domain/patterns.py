"""Patterns over the text of strangers, in linear time. Pure.

Python's `re` tries alternatives one after the other, so that a pattern of ten characters and a text of forty can keep a
process busy for hours. RE2 reads a text once. It has no look-ahead and no back-references; a pattern with one is
refused with a message, and not run in another way. `$` means the end of the text, also where a line break precedes it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

import re2

from chargehand.domain.errors import BadConfiguration

LONGEST = 1_000
"""Characters of a pattern: a hundred times what people write for a name or an address."""
MOST_MEMORY = 1 << 20
"""Bytes that a compiled pattern may take: an address of the internet needs some ten thousand."""

_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)


class Pattern(Protocol):
    """What is used of a compiled pattern of RE2; the same names as in `re`."""

    def search(self, text: str) -> object | None: ...

    def sub(self, repl: str, text: str) -> str: ...


class BadPattern(BadConfiguration):
    """A pattern is broken, or cannot be run in linear time."""

    code = "bad-pattern"


@lru_cache(maxsize=2_000)  # compiling takes some 50 microseconds, matching one
def compiled(pattern: str) -> Pattern:
    """Return a pattern of a JSON schema or of ours, ready to be run. Raises `BadPattern`."""
    if len(pattern) > LONGEST:
        raise BadPattern(f"a pattern of {len(pattern):,} characters is over the limit of {LONGEST:,}")
    options = re2.Options()
    options.max_mem = MOST_MEMORY
    options.log_errors = False
    try:
        found: Pattern = re2.compile(_ESCAPE.sub(_as_re2, pattern), options)
    except (re2.error, UnicodeEncodeError) as error:
        raise BadPattern(
            f"the pattern {pattern[:80]!r} cannot be run: {_said(error)}",
            hint="Patterns run in linear time: without look-ahead, look-behind, back-references or more than 1,000"
            " repetitions.",
        ) from error
    return found


def found_in(pattern: str, text: str) -> bool:
    """Return whether a pattern matches anywhere in a text. Raises `BadPattern`."""
    return compiled(pattern).search(_encodable(text)) is not None


def replaced(pattern: str, by: str, text: str) -> str:
    r"""Return a text with every match replaced; `\1` and `\g<name>` in `by` stand for groups. Raises `BadPattern`."""
    return compiled(pattern).sub(by, _encodable(text))


def _as_re2(escape: re.Match[str]) -> str:
    """JSON schemas come from several languages: `\\u00e4` and Python's `\\Z` have other names in RE2."""
    if escape[1]:
        return f"\\x{{{escape[1]}}}"
    return "\\z" if escape[2] == "Z" else escape[0]


def _encodable(text: str) -> str:
    """Half a character, as JSON can hold one, is no character: RE2 reads UTF-8."""
    return text.encode("utf-8", "replace").decode() if any("\ud800" <= c <= "\udfff" for c in text) else text


def _said(error: Exception) -> str:
    words = error.args[0] if error.args else ""
    return words.decode(errors="replace") if isinstance(words, bytes) else str(error)
