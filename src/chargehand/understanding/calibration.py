"""What a model claims of a subtask, made a confidence that means something: terms in log-odds that are added up.

    weigh(what is known about a subtask) -> its confidence, and what each term gave
    fit(confidences so far, and whether they proved right) -> the last term, for one tier and model

No model's own word is trusted: claims of 0.95 on everything were measured. A claim is one term among several, and none
of the others is text that a model or a request can write.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chargehand.domain.tiers import MODEL, Tier
from chargehand.understanding.cross_check import Agreement

SHIPPED = "2"
"""The version of the numbers below and of the priors of tiers; it is stored with each decomposition. Another number is
another version."""

MOST, LEAST = 0.97, 0.03  # what reads right can still be meant otherwise, and the other way round

USUAL_CLAIM = 0.9  # what models claim whether they are right or not; so much says nothing
CLAIM_ABOVE, CLAIM_BELOW = (
    0.3,
    1.0,
)  # weight of a claim above that, and below: admitting a doubt costs a model something
SUREST_CLAIM = 0.98  # 1.0 says no more

AGREEING: Mapping[Agreement, float] = {"agrees": 2.0, "leans": 1.0, "silent": 0.0, "doubts": -1.0, "differs": -3.0}
"""Measured on 258 parts of requests in six catalogs: of the right intent the match said these, from left to right, in
86, 5, 3, 3 and 3 %, of a wrong one in 0.4, 0.3, 3, 7 and 90 %. A model takes a wrong one that is near, and errs where
the match errs, too; so about half of these log-odds count (two thirds of those against it)."""

REPAIRED = -0.5  # the first answer could not be used; alone it flags nothing
ELSEWHERE = -0.7  # the words it says it read do not stand in the request
INVENTED = -0.5  # for each text given to a parameter that does not stand there
FLAGGED = -0.5  # for each flag it sets itself
ASKING = -0.4  # it also asks something about the request
MOST_COUNTED = 3  # flags, invented values: more say nothing new


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one subtask of an answer. `claimed` is from 0 to 1."""

    tier: Tier
    claimed: float
    model: str = ""
    agreement: Agreement = "silent"
    repaired: bool = False
    elsewhere: bool = False
    invented: int = 0
    flags: int = 0
    asking: bool = False


class Fit(NamedTuple):
    """What outcomes say about a tier and model: its log-odds are `slope` times ours plus `shift`."""

    shift: float = 0.0
    slope: float = 1.0
    outcomes: float = 0.0  # the sum of their weights

    @property
    def version(self) -> str:
        """Return a name for exactly this fit."""
        if not self.outcomes:
            return SHIPPED
        digest = hashlib.sha256(json.dumps([round(self.shift, 6), round(self.slope, 6)]).encode()).hexdigest()[:8]
        return f"{SHIPPED}+{self.outcomes:g}:{digest}"


UNFITTED = Fit()


class Calibrated(NamedTuple):
    """A confidence from 0 to 1, and what each term gave to it, in log-odds."""

    confidence: float
    terms: Mapping[str, float]


class Term(NamedTuple):
    """One reason to be surer or less sure, and its log-odds for what is known."""

    name: str
    worth: Callable[[Evidence], float]


def _claim(known: Evidence) -> float:
    """Return what the claim is worth. The catalogue match's is its confidence: it is measured on its own."""
    if known.tier.kind is not MODEL:
        return _log_odds(known.claimed)
    above = _log_odds(min(known.claimed, SUREST_CLAIM)) - _log_odds(USUAL_CLAIM)
    return above * (CLAIM_ABOVE if above > 0 else CLAIM_BELOW)


BILLIONS = re.compile(r"(?<![\d.])(\d{1,4}(?:\.\d{1,2})?)b(?![a-z0-9])", re.IGNORECASE)
"""How models say their size in their names: qwen2.5:7b-instruct, qwen2.5-coder-1.5b, llama-3.3-70b."""

SIZES = ((3.0, 0.60), (15.0, 0.75), (1e4, 0.85))
"""Below so many billions of parameters, the share of subtasks that are right before anything is known of them. Measured
for 1.5 billion (docs/models.md); the larger ones are guesses. Outcomes correct all of them."""


def prior_of(tier: Tier, model: str) -> float | None:
    """Return the share of a model's subtasks that are right: by the size its name tells, else by its tier."""
    told = BILLIONS.search(model)
    if tier.prior is None or told is None:
        return tier.prior
    return next((prior for below, prior in SIZES if float(told[1]) < below), tier.prior)


def _prior(known: Evidence) -> float:
    prior = prior_of(known.tier, known.model)
    return 0.0 if prior is None else _log_odds(prior)


TERMS = (
    Term("tier", _prior),
    Term("claim", _claim),
    Term("catalogue match", lambda known: AGREEING[known.agreement]),
    Term("repaired", lambda known: REPAIRED * known.repaired),
    Term("words not in the request", lambda known: ELSEWHERE * known.elsewhere),
    Term("values not in the request", lambda known: INVENTED * min(known.invented, MOST_COUNTED)),
    Term("its own flags", lambda known: FLAGGED * min(known.flags, MOST_COUNTED)),
    Term("it asks", lambda known: ASKING * known.asking),
)


def calibrate(known: Evidence, fit: Fit = UNFITTED) -> Calibrated:
    """Return the confidence in a subtask and its terms; those that say nothing are left out."""
    given = {term.name: term.worth(known) for term in TERMS}
    shipped = sum(given.values())
    given["outcomes"] = fit.shift + (fit.slope - 1) * shipped
    said = {name: round(worth, 3) for name, worth in given.items() if abs(worth) >= 0.0005}
    return Calibrated(round(min(MOST, max(LEAST, _share(sum(given.values())))), 3), said)


# --- from outcomes ---------------------------------------------------------------------------------------------------

SHIFT_SPREAD, SLOPE_SPREAD = 0.5, 0.2
"""How far, in log-odds, a tier and model is expected to be from the shipped numbers: ten outcomes, all wrong, shift a
confidence of 0.8 to 0.6; three shift it to 0.7."""

LEAST_SLOPE, MOST_SLOPE = 0.2, 2.0  # never turned round: surer stays surer
ROUNDS = 25  # of Newton's method; it settles in five


class Sample(NamedTuple):
    """One subtask whose outcome is known: its log-odds before any outcome counted, and how much the outcome weighs."""

    log_odds: float
    right: bool
    weight: float = 1.0


def fit(samples: Sequence[Sample]) -> Fit:
    """Return the likeliest shift and slope, from none on (Platt's scaling with a prior). Order does not matter."""
    if not samples:
        return UNFITTED
    shift, slope = 0.0, 1.0
    for _ in range(ROUNDS):
        step = _newton_step(sorted(samples), shift, slope)
        shift, slope = shift + step[0], min(MOST_SLOPE, max(LEAST_SLOPE, slope + step[1]))
    return Fit(shift, slope, sum(each.weight for each in samples))


def _newton_step(samples: Sequence[Sample], shift: float, slope: float) -> tuple[float, float]:
    by_shift, by_slope = -shift / SHIFT_SPREAD**2, (1 - slope) / SLOPE_SPREAD**2  # the gradient, of the prior
    a, b, c = 1 / SHIFT_SPREAD**2, 0.0, 1 / SLOPE_SPREAD**2  # the curvature
    for z, right, weight in samples:
        share = _share(shift + slope * z)
        by_shift += weight * (right - share)
        by_slope += weight * (right - share) * z
        steep = weight * share * (1 - share)
        a, b, c = a + steep, b + steep * z, c + steep * z * z
    determinant = a * c - b * b
    return (c * by_shift - b * by_slope) / determinant, (a * by_slope - b * by_shift) / determinant


def log_odds_before(terms: Mapping[str, float]) -> float:
    """Return the log-odds of stored terms as they were before outcomes counted: what a fit starts from."""
    return sum(worth for name, worth in terms.items() if name != "outcomes")


def _log_odds(share: float) -> float:
    kept = min(1 - 1e-3, max(1e-3, share))
    return math.log(kept / (1 - kept))


def _share(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, log_odds))))
