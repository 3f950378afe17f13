"""What people made of readings: approved, changed or rejected, subtask by subtask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

from chargehand.understanding.calibration import Fit, Sample, fit, log_odds_before

Row = Mapping[str, Any]


How = Literal["approved", "changed", "rejected"]


WEIGHTS: Mapping[How, float] = {"approved": 1.0, "changed": 1.0, "rejected": 0.5}
"""The weight of each judgement in a fit. `approved`: the plan as it was read. `changed`: another reading of it was
approved, after an answer or other words; what stands in both was right. `rejected`, without a word: the plan may have
been wrong, or no longer wanted."""


class Judgement(NamedTuple):
    """One subtask that was judged. `claimed` is what the model said; None where that is not stored."""

    tier: str
    model: str
    confidence: float
    claimed: float | None
    right: bool
    how: How
    sample: Sample


def judgements(readings: Sequence[Row], plans: Sequence[Row]) -> list[Judgement]:
    """Judge stored decompositions by what became of their plans.

    A plan has `request_id`, `created_at`, `intents`, `action` of its ruling and the set `decisions` of its approvals.
    """
    found: list[Judgement] = []
    by_request = {request: list(some) for request, some in groupby(_by_time(plans), lambda row: row["request_id"])}
    for request, some in groupby(_by_time(readings), lambda row: row["request_id"]):
        found += _of_request(list(some), by_request.get(request, []))
    return found


def _by_time(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (str(row["request_id"]), row["created_at"]))


def _of_request(readings: Sequence[Row], plans: Sequence[Row]) -> list[Judgement]:
    found: list[Judgement] = []
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


def _judged(reading: Row, accepted: Counter[str], how: How) -> list[Judgement]:
    found = []
    for task in reading["value"]["subtasks"]:
        right = accepted[task["intent"]] > 0
        accepted[task["intent"]] -= 1
        sample = Sample(log_odds_before(task.get("terms") or {}), right, WEIGHTS[how])
        claimed = task.get("claimed_confidence")
        found.append(Judgement(reading["tier"], reading["model"], task["confidence"], claimed, right, how, sample))
    return found


def fits(found: Sequence[Judgement]) -> dict[tuple[str, str], Fit]:
    """Return what outcomes say about each tier and model."""
    return {key: fit([each.sample for each in some]) for key, some in _by_model(found)}


def _by_model(found: Iterable[Judgement]) -> list[tuple[tuple[str, str], list[Judgement]]]:
    ordered = sorted(found, key=lambda each: (each.tier, each.model))
    return [(key, list(some)) for key, some in groupby(ordered, lambda each: (each.tier, each.model))]
