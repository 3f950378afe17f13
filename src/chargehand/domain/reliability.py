"""How far a confidence can be trusted: what was claimed against what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

BINS = 10  # of equal width, as the expected calibration error is usually given


class Judged(NamedTuple):
    """A confidence from 0 to 1, and whether what it was about proved right."""

    confidence: float
    right: bool


class Bin(NamedTuple):
    """Some of about the same confidence: how many, how sure on average, and the share that proved right."""

    size: int
    confidence: float
    right: float


def bins(judged: Sequence[Judged]) -> list[Bin]:
    """Return the reliability of confidences, a tenth each; tenths that hold none are left out."""
    return [Bin(len(some), fmean(e.confidence for e in some), fmean(e.right for e in some)) for some in _alike(judged)]


def brier(judged: Sequence[Judged]) -> float | None:
    """Return the mean squared distance between confidence and truth (0 is best); None without any."""
    return fmean((each.confidence - each.right) ** 2 for each in judged) if judged else None


def expected_calibration_error(judged: Sequence[Judged]) -> float | None:
    """Return how far, on average, confidence lies from the share that was right (0 is best); None without any."""
    gaps = (abs(sum(each.confidence - each.right for each in some)) for some in _alike(judged))
    return sum(gaps) / len(judged) if judged else None


def _alike(judged: Sequence[Judged]) -> list[list[Judged]]:
    found: dict[int, list[Judged]] = {}
    for each in judged:
        found.setdefault(min(BINS - 1, int(each.confidence * BINS)), []).append(each)
    return [some for _, some in sorted(found.items())]
