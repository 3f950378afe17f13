"""Lines from the terminal without a thread: one that sits in `input()` could not be left on Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import NamedTuple

MOST = 65_536  # bytes taken at once; a terminal gives a line at a time


async def read_line() -> str | None:
    """Return the next line of standard input as it was typed, or None at its end (Ctrl-D)."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    descriptor = sys.stdin.fileno()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    data = os.read(descriptor, MOST)
    return os.fsdecode(data).rstrip("\r\n") if data else None


class Decision(NamedTuple):
    """What somebody typed when asked about a plan. `words` are for a plan that should be another."""

    kind: str  # yes | no | words | why | unclear
    words: str = ""


LETTERS = {"y": "yes", "yes": "yes", "n": "no", "no": "no", "w": "words", "words": "words", "?": "why", "why": "why"}


def understood(typed: str) -> Decision:
    """Read an answer. `w restart it first` holds the words already; a sentence alone is not guessed at."""
    first, _, rest = typed.strip().partition(" ")
    kind = LETTERS.get(first.lower(), "unclear")
    if rest and kind != "words":
        return Decision("unclear")
    return Decision(kind, rest.strip())
