"""How right tiers and models were: what people made of their readings, against the confidence these had.

    judgements(stored readings, stored plans) -> one for each subtask that somebody has judged
    fits(judgements) -> what to add to the next confidences
    approved(stored readings, stored plans) -> words and intents that any reader must go on reading so
    reported(judgements, readings) -> a report for each tier and model

Only people judge. A plan that ran because the operator lets all of its kind run says nothing, and neither does work
that failed: that is the agent's or the machine's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chargehand.domain.reliability import Judged, bins, brier, expected_calibration_error
from chargehand.domain.tiers import named
from chargehand.routing.performance import Counts, estimate
from chargehand.understanding.calibration import Fit, fit
from chargehand.understanding.judgements import WEIGHTS, Judgement, Row, _by_model

FEW = 30  # judgements below which a figure is luck: at 30 a share is known to some 18 points either way
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)  # thresholds that the report tries, beside the one that is set


# --- the report ------------------------------------------------------------------------------------------------------


class Bin(NamedTuple):
    """Subtasks of about the same confidence: how many, how sure on average, and the share that was right."""

    subtasks: int
    confidence: float
    right: float


class Level(NamedTuple):
    """What a threshold would have asked about: how many subtasks, how many of them wrong, how many wrong ones not."""

    threshold: float
    asked: int
    asked_wrong: int
    missed_wrong: int


@dataclass(frozen=True, slots=True)
class Report:
    """How far the confidences of a tier and model can be trusted. Shares from 0 to 1; None without any judgement.

    `low` and `high` are the 95 % interval of the share that was right. `brier` and `ece` are 0 at best; `claimed_*`
    are those of what the model said itself. `few`: too little to go by.
    """

    tier: str
    model: str
    readings: int
    subtasks: int
    by_verdict: Mapping[str, int]
    few: bool
    confidence: float | None
    claimed: float | None
    right: float | None
    low: float | None
    high: float | None
    brier: float | None
    ece: float | None
    claimed_brier: float | None
    claimed_ece: float | None
    threshold: float
    bins: Sequence[Bin]
    levels: Sequence[Level]
    fit: Fit
    calibration: str


def reported(found: Sequence[Judgement], readings: Sequence[Row], thresholds: Mapping[str, float]) -> list[Report]:
    """Report on every tier and model that has read anything; `thresholds`: tier -> below what it asks or flags.

    Raises `UnknownTier` for readings of a tier that has no row.
    """
    judged = dict(_by_model(found))
    counted = Counter((row["tier"], row["model"]) for row in readings)
    below = {tier: thresholds.get(named(tier).name, 0.0) for tier, _ in counted}
    return [_report(key, counted[key], judged.get(key, []), below[key[0]]) for key in sorted(counted)]


def _report(key: tuple[str, str], readings: int, some: Sequence[Judgement], threshold: float) -> Report:
    ours = [Judged(each.confidence, each.right) for each in some]
    claims = [Judged(each.claimed, each.right) for each in some if each.claimed is not None]
    known = estimate(Counts(sum(each.right for each in some), sum(not each.right for each in some)))
    fitted = fit([each.sample for each in some])
    return Report(
        tier=key[0],
        model=key[1],
        readings=readings,
        subtasks=len(some),
        by_verdict={how: sum(each.how == how for each in some) for how in WEIGHTS},
        few=len(some) < FEW,
        confidence=_mean(ours),
        claimed=_mean(claims),
        right=known.success_rate if some else None,
        low=known.low if some else None,
        high=known.high if some else None,
        brier=brier(ours),
        ece=expected_calibration_error(ours),
        claimed_brier=brier(claims),
        claimed_ece=expected_calibration_error(claims),
        threshold=threshold,
        bins=[Bin(*each) for each in bins(ours)],
        levels=[_level(ours, level) for level in sorted({*LEVELS, threshold})] if some else [],
        fit=fitted,
        calibration=fitted.version,
    )


def _mean(judged: Sequence[Judged]) -> float | None:
    return sum(each.confidence for each in judged) / len(judged) if judged else None


def _level(judged: Sequence[Judged], threshold: float) -> Level:
    below = [each for each in judged if each.confidence < threshold]
    wrong = sum(not each.right for each in judged)
    asked_wrong = sum(not each.right for each in below)
    return Level(threshold, len(below), asked_wrong, wrong - asked_wrong)
