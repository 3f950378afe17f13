"""How right tiers and models were: what people made of their readings, against the confidence these had.

    verdicts(stored readings, stored plans) -> one for each subtask that somebody has judged
    fits(verdicts) -> what to add to the next confidences
    approved(stored readings, stored plans) -> words and intents that any reader must go on reading so
    reported(verdicts, readings) -> a report for each tier and model

Only people judge. A plan that ran because the operator lets all of its kind run says nothing, and neither does work
that failed: that is the agent's or the machine's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, NamedTuple

from chargehand.domain.reliability import BINS, Judged, brier, expected_calibration_error
from chargehand.routing.performance import Counts, estimate
from chargehand.understanding.calibration import Fit, Sample, fit, log_odds_before

Row = Mapping[str, Any]
How = Literal["approved", "changed", "rejected"]

WEIGHTS: Mapping[How, float] = {"approved": 1.0, "changed": 1.0, "rejected": 0.5}
"""What each verdict weighs in a fit. `approved`: the plan as it was read. `changed`: another reading of the request was
approved, after an answer or other words; what stands in both was right. `rejected`, without a word: the plan may have
been wrong, or no longer wanted."""

FEW = 30  # verdicts below which a figure is luck: at 30 a share is known to some 18 points either way
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)  # thresholds that the report tries, beside the one that is set


class Verdict(NamedTuple):
    """One subtask that was judged. `claimed` is what the model said; None where that is not stored."""

    tier: str
    model: str
    confidence: float
    claimed: float | None
    right: bool
    how: How
    sample: Sample


def verdicts(readings: Sequence[Row], plans: Sequence[Row]) -> list[Verdict]:
    """Judge stored decompositions by what became of their plans.

    A plan has `request_id`, `created_at`, `intents`, `action` of its ruling and the set `decisions` of its approvals.
    """
    found: list[Verdict] = []
    by_request = {request: list(some) for request, some in groupby(_by_time(plans), lambda row: row["request_id"])}
    for request, some in groupby(_by_time(readings), lambda row: row["request_id"]):
        found += _of_request(list(some), by_request.get(request, []))
    return found


def _by_time(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (str(row["request_id"]), row["created_at"]))


def _of_request(readings: Sequence[Row], plans: Sequence[Row]) -> list[Verdict]:
    found: list[Verdict] = []
    for reading, own in _with_plans(readings, plans):
        since = [plan for plan in plans if plan["created_at"] >= reading["created_at"]]
        accepted = next((plan for plan in since if _by_a_person(plan)), None)
        if accepted is not None:
            how: How = "approved" if accepted in own else "changed"
            found += _judged(reading, Counter(accepted["intents"]), how)
        elif any("rejected" in plan["decisions"] for plan in own):
            found += _judged(reading, Counter(), "rejected")
    return found


class Approved(NamedTuple):
    """The words of a request whose plan a person approved as it was read, and the intents of the plan."""

    words: str
    intents: tuple[str, ...]


def approved(readings: Sequence[Row], plans: Sequence[Row]) -> list[Approved]:
    """Return what people said and approved as it was read, the newest last. A plan that was edited says nothing."""
    found = []
    by_request = {request: list(some) for request, some in groupby(_by_time(plans), lambda row: row["request_id"])}
    for request, some in groupby(_by_time(readings), lambda row: row["request_id"]):
        for reading, own in _with_plans(list(some), by_request.get(request, [])):
            read = sorted(task["intent"] for task in reading["value"]["subtasks"])
            if any(_by_a_person(plan) and sorted(plan["intents"]) == read for plan in own):
                found.append((reading["created_at"], Approved(reading["wording"], tuple(read))))
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def _with_plans(readings: Sequence[Row], plans: Sequence[Row]) -> list[tuple[Row, list[Row]]]:
    """Return each reading of a request with the plans that came of it: those made before it was read again."""
    found = []
    for reading, after in zip(readings, [*readings[1:], None], strict=True):
        since = [plan for plan in plans if plan["created_at"] >= reading["created_at"]]
        found.append((reading, [p for p in since if after is None or p["created_at"] < after["created_at"]]))
    return found


def _by_a_person(plan: Row) -> bool:
    return plan["action"] != "run" and "approved" in plan["decisions"]


def _judged(reading: Row, accepted: Counter[str], how: How) -> list[Verdict]:
    found = []
    for task in reading["value"]["subtasks"]:
        right = accepted[task["intent"]] > 0
        accepted[task["intent"]] -= 1
        sample = Sample(log_odds_before(task.get("terms") or {}), right, WEIGHTS[how])
        claimed = task.get("claimed_confidence")
        found.append(Verdict(reading["tier"], reading["model"], task["confidence"], claimed, right, how, sample))
    return found


def fits(found: Sequence[Verdict]) -> dict[tuple[str, str], Fit]:
    """Return what outcomes say about each tier and model."""
    return {key: fit([each.sample for each in some]) for key, some in _by_model(found)}


def _by_model(found: Iterable[Verdict]) -> list[tuple[tuple[str, str], list[Verdict]]]:
    ordered = sorted(found, key=lambda each: (each.tier, each.model))
    return [(key, list(some)) for key, some in groupby(ordered, lambda each: (each.tier, each.model))]


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
    """How far the confidences of a tier and model can be trusted. Shares from 0 to 1; None without any verdict.

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


def reported(found: Sequence[Verdict], readings: Sequence[Row], thresholds: Mapping[str, float]) -> list[Report]:
    """Report on every tier and model that has read anything; `thresholds`: tier -> below what it asks or flags."""
    judged = dict(_by_model(found))
    counted = Counter((row["tier"], row["model"]) for row in readings)
    return [_report(key, counted[key], judged.get(key, []), thresholds.get(key[0], 0.0)) for key in sorted(counted)]


def _report(key: tuple[str, str], readings: int, some: Sequence[Verdict], threshold: float) -> Report:
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
        bins=bins(ours),
        levels=[_level(ours, level) for level in sorted({*LEVELS, threshold})] if some else [],
        fit=fitted,
        calibration=fitted.version,
    )


def _mean(judged: Sequence[Judged]) -> float | None:
    return sum(each.confidence for each in judged) / len(judged) if judged else None


def bins(judged: Sequence[Judged]) -> list[Bin]:
    """Return the reliability of confidences, a tenth each; tenths that hold none are left out."""
    found: dict[int, list[Judged]] = {}
    for each in judged:
        found.setdefault(min(BINS - 1, int(each.confidence * BINS)), []).append(each)
    return [
        Bin(len(some), sum(e.confidence for e in some) / len(some), sum(e.right for e in some) / len(some))
        for _, some in sorted(found.items())
    ]


def _level(judged: Sequence[Judged], threshold: float) -> Level:
    below = [each for each in judged if each.confidence < threshold]
    wrong = sum(not each.right for each in judged)
    asked_wrong = sum(not each.right for each in below)
    return Level(threshold, len(below), asked_wrong, wrong - asked_wrong)
