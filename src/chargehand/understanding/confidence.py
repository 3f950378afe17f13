"""The subtasks of an answer with confidences that mean something, and flags where somebody should look twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import JsonValue

from chargehand.domain.llm import Opinion
from chargehand.domain.plans import Subtask
from chargehand.domain.tiers import Tier
from chargehand.understanding import cross_check
from chargehand.understanding.calibration import UNFITTED, Evidence, Fit, calibrate
from chargehand.understanding.cross_check import Planned

SHORTEST = 4  # characters of a value that is looked for in the request: "on", "80" stand anywhere


@dataclass(frozen=True)
class Beside:
    """What is known of an answer that does not stand in it.

    `opinion` is the catalogue match's, None where there is none; `repaired`: the answer before could not be used;
    `fits`: (tier, model) -> what its outcomes so far say.
    """

    opinion: Opinion | None = None
    repaired: bool = False
    fits: Mapping[tuple[str, str], Fit] = field(default_factory=dict)


NOTHING = Beside()


class Source(NamedTuple):
    """Who answered, on which words, and whether it asks something."""

    tier: Tier
    model: str
    text: str
    asking: bool


def fit_of(source: Source, beside: Beside) -> Fit:
    """Return what outcomes say about who answered."""
    return beside.fits.get((source.tier.name, source.model), UNFITTED)


def calibrated(subtasks: Sequence[Subtask], source: Source, beside: Beside, flag: float) -> list[Subtask]:
    """Return the subtasks with calibrated confidences and their terms; below `flag` they are flagged.

    Where the catalogue match disagrees the confidence ends below `flag`, whatever all else says.
    """
    flags = _disagreements(subtasks, source, beside.opinion)
    queries = beside.opinion.queries if flags and beside.opinion else [None] * len(subtasks)
    if not source.tier.kind.weighed:
        return list(subtasks)
    fit = fit_of(source, beside)
    return [
        _calibrated(task, _evidence(task, cross_check.compare(task.intent, view), source, beside), said, fit, flag)
        for task, view, said in zip(subtasks, queries, flags or [[]] * len(subtasks), strict=True)
    ]


def _disagreements(subtasks: Sequence[Subtask], source: Source, opinion: Opinion | None) -> list[list[str]]:
    if opinion is None or not source.tier.kind.cross_checked or len(opinion.queries) != len(subtasks) or not subtasks:
        return []
    return cross_check.disagreements([Planned(task.intent, task.words) for task in subtasks], opinion)


def _calibrated(task: Subtask, known: Evidence, said: Sequence[str], fit: Fit, flag: float) -> Subtask:
    found = calibrate(known, fit)
    confidence = min(found.confidence, max(0.0, round(flag - 0.01, 3))) if said else found.confidence
    flags = [*task.flags, *said, *_unsure(confidence, task.confidence, flag)]
    return task.model_copy(
        update={
            "confidence": confidence,
            "claimed_confidence": task.confidence,
            "terms": dict(found.terms),
            "flags": tuple(dict.fromkeys(flags)),
        }
    )


def _unsure(confidence: float, claimed: float, flag: float) -> list[str]:
    if confidence < flag:
        return [f"confidence {confidence:.2f} is below {flag:.2f}"]
    return [f"confidence {confidence:.2f}, but it says {claimed:.2f} itself"] if claimed < flag else []


def _evidence(task: Subtask, agreement: cross_check.Agreement, source: Source, beside: Beside) -> Evidence:
    if not source.tier.kind.cross_checked:
        return Evidence(source.tier, task.confidence)
    return Evidence(
        tier=source.tier,
        claimed=task.confidence,
        model=source.model,
        agreement=agreement,
        repaired=beside.repaired,
        elsewhere=not stands_in(task.words, source.text),
        invented=sum(not stands_in(value, source.text) for value in _texts(task.parameters.values())),
        flags=len(task.flags),
        asking=source.asking,
    )


def _texts(values: Iterable[JsonValue]) -> list[str]:
    """Texts given to parameters that a request must have said. Words of a list of choices may be said otherwise."""
    return [value for value in values if isinstance(value, str) and len(value) >= SHORTEST and not value.isalpha()]


def stands_in(words: str, text: str) -> bool:
    """Whether words are those of a text, in order; small and large letters are the same, and so are all spaces."""
    return _plain(words) in _plain(text)


def _plain(words: str) -> str:
    return " ".join(words.casefold().split())
