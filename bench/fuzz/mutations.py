"""What chance makes of a text: pieces cut, doubled, repeated many times, nested, and put together with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

MOST_ROUNDS = 6  # mutations of one case
REPEATS = (2, 3, 10, 70, 300, 3_000)
ODD = ("\0", "\x85", "\u2028", "\ufeff", "\ud800", "\U0001f600", "\r", "\t", "\\", '"', "'", "9" * 30, "9" * 5_000)


def mutated(chance: Random, seeds: Sequence[str], words: Sequence[str], longest: int) -> str:
    """Return a text made of the seeds; `words` are those of the format."""
    text = chance.choice(seeds)
    for _ in range(chance.randint(1, MOST_ROUNDS)):
        text = chance.choice(_WAYS)(chance, text, seeds, words)[: longest * 2]
    return text[:longest]


def _piece(chance: Random, text: str) -> tuple[int, int]:
    start = chance.randrange(len(text) + 1)
    return start, min(len(text), start + chance.choice((1, 1, 3, 10, 40, 200)))


def _cut(chance: Random, text: str, seeds: Sequence[str], words: Sequence[str]) -> str:
    start, end = _piece(chance, text)
    return text[:start] + text[end:]


def _repeat(chance: Random, text: str, seeds: Sequence[str], words: Sequence[str]) -> str:
    start, end = _piece(chance, text)
    return text[:start] + text[start:end] * chance.choice(REPEATS) + text[end:]


def _word(chance: Random, text: str, seeds: Sequence[str], words: Sequence[str]) -> str:
    start, end = _piece(chance, text)
    end = chance.choice((start, end))
    return text[:start] + chance.choice(words) * chance.choice((1, 1, 1, *REPEATS)) + text[end:]


def _odd(chance: Random, text: str, seeds: Sequence[str], words: Sequence[str]) -> str:
    start, _ = _piece(chance, text)
    return text[:start] + chance.choice(ODD) * chance.choice((1, 1, 5, 300)) + text[start:]


def _move(chance: Random, text: str, seeds: Sequence[str], words: Sequence[str]) -> str:
    start, end = _piece(chance, text)
    rest = text[:start] + text[end:]
    at = chance.randrange(len(rest) + 1)
    return rest[:at] + text[start:end] + rest[at:]


def _join(chance: Random, text: str, seeds: Sequence[str], words: Sequence[str]) -> str:
    other = chance.choice(seeds)
    return text[: chance.randrange(len(text) + 1)] + other[chance.randrange(len(other) + 1) :]


_WAYS: tuple[Callable[[Random, str, Sequence[str], Sequence[str]], str], ...] = (
    _cut,
    _repeat,
    _word,
    _word,
    _odd,
    _move,
    _join,
)
