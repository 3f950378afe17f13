"""How sure to be of a guess: what the words and the classifier say, against how often that proved right.

Few numbers, so that they carry over to catalogs nobody has seen. `./run bench calibrate` fits them anew, and shows what
they are worth on each catalog when they were fitted to the others only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

LEAST, MOST = 0.01, 0.99  # shares beyond these say nothing more


class Evidence(NamedTuple):
    """What a guess rests on, both from 0 to 1: the uncalibrated confidence, and how far the verb agrees."""

    raw: float
    agreement: float


class Weights(NamedTuple):
    """The terms of a logistic curve over the evidence; the raw confidence counts by its log odds."""

    constant: float
    raw: float
    agreement: float


# What `./run bench calibrate` fits to the sets in tests/decompose; a test fits them again.
FITTED = Weights(constant=0.744, raw=0.781, agreement=0.676)

SURE, CERTAIN = 0.75, 0.90
"""Below the first nothing is planned, below the second with a flag: what `./run bench calibrate` chooses."""


def terms(evidence: Evidence) -> tuple[float, float]:
    """Return the evidence as the curve takes it, in the order of `Weights` after the constant."""
    raw = min(MOST, max(LEAST, evidence.raw))
    return math.log(raw / (1 - raw)), evidence.agreement


def calibrated(evidence: Evidence, weights: Weights = FITTED) -> float:
    """Return the probability that a guess on such evidence is right."""
    score = weights.constant + sum(w * term for w, term in zip(weights[1:], terms(evidence), strict=True))
    return 1 / (1 + math.exp(-score))
