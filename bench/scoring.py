"""How a decomposition compares with what a case expects: the definitions behind `bench decompose`.

Each figure counts one thing, so that none can be bought with another: asking about everything costs `asked_pct`,
guessing costs `wrong_unflagged_pct`, refusing costs `exact_pct`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.meter import percentile
from chargehand.domain.plans import DecomposedRequest
from chargehand.domain.reliability import Judged, brier, expected_calibration_error


@dataclass(frozen=True)
class Case:
    """A request and what should become of it.

    `intents` are expected in this order; each list of `accept` would do as well. `ambiguous`: a question is due.
    `out_of_scope`: a part of it (all of it, when there are no intents) is no work of this catalog.
    `parameters` are those of each intent, where a case says so.
    """

    request: str
    intents: tuple[str, ...] = ()
    accept: tuple[tuple[str, ...], ...] = ()
    ambiguous: bool = False
    out_of_scope: bool = False
    parameters: tuple[Mapping[str, object], ...] | None = None

    @property
    def ways(self) -> tuple[tuple[str, ...], ...]:
        """All lists of intents that are right."""
        return (self.intents, *self.accept)


@dataclass(frozen=True)
class Outcome:
    """One case and what became of it; `got` is None when no tier could read it, so that a person has to."""

    case: Case
    got: DecomposedRequest | None
    seconds: float

    @property
    def intents(self) -> tuple[str, ...]:
        """The intents of the subtasks, those that a question is asked about included."""
        return tuple(task.intent for task in self.got.subtasks) if self.got else ()

    @property
    def asked(self) -> bool:
        """A person must answer before anything is planned."""
        return self.got is None or bool(self.got.ambiguities)

    @property
    def flagged(self) -> bool:
        """Something makes a person look twice: a question, or a flag on a subtask."""
        return self.got is None or self.asked or any(task.flags for task in self.got.subtasks)

    @property
    def refused(self) -> bool:
        """A part was said to be nothing that any agent here can do."""
        return bool(self.got and self.got.out_of_scope)

    @property
    def same_intents(self) -> bool:
        return any(Counter(self.intents) == Counter(way) for way in self.case.ways)

    @property
    def same_order(self) -> bool:
        return self.intents in self.case.ways

    @property
    def exact(self) -> bool:
        """The very intents that were asked for, and a question or a refusal exactly of what calls for one.

        Where a question is due, asking is right. Where everything is out of scope, no intent may be left. Asking
        about the right intents counts as right: how often it asks is `asked`.
        """
        if self.case.ambiguous:
            return self.asked or (self.refused and not self.intents)
        return self.same_intents and (self.refused == self.case.out_of_scope)

    @property
    def exact_unasked(self) -> bool:
        """As `exact`, and without a question where none is due."""
        return self.exact and (self.case.ambiguous or not self.asked)

    @property
    def wrong_unflagged(self) -> bool:
        """Work would be planned that nobody asked for, and nothing makes a person look twice."""
        if self.flagged or not self.intents:
            return False
        return not self.same_order or (self.case.ambiguous and not self.refused)

    @property
    def overlap(self) -> tuple[int, int, int]:
        """Intents that are right, that were given, and that were expected, for the list that fits best."""
        ways = [(sum((Counter(self.intents) & Counter(way)).values()), len(way)) for way in self.case.ways]
        common, wanted = max(ways, key=lambda way: (way[0], -way[1]))
        return common, len(self.intents), wanted

    @property
    def judged(self) -> list[Judged]:
        """Each subtask's confidence, and whether its intent was asked for."""
        return self._judge([task.confidence for task in self.got.subtasks] if self.got else [])

    @property
    def judged_claims(self) -> list[Judged]:
        """As `judged`, of what the tier itself claims."""
        tasks = self.got.subtasks if self.got else ()
        return self._judge([task.confidence if (c := task.claimed_confidence) is None else c for task in tasks])

    def _judge(self, confidences: Sequence[float]) -> list[Judged]:
        got = Counter(self.intents)
        left = max((Counter(way) for way in self.case.ways), key=lambda way: sum((way & got).values()))
        judged = []
        for intent, confidence in zip(self.intents, confidences, strict=True):
            judged.append(Judged(confidence, left[intent] > 0))
            left[intent] -= 1
        return judged


def values(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Return how many of the expected values were found, and how many were given that nobody said, unflagged."""
    expected = right = invented = 0
    for outcome in outcomes:
        if outcome.case.parameters is None or outcome.got is None or outcome.intents != outcome.case.intents:
            continue
        for task, wanted in zip(outcome.got.subtasks, outcome.case.parameters, strict=False):
            expected += len(wanted)
            right += sum(task.parameters.get(name) == value for name, value in wanted.items())
            made_up = [name for name in task.parameters if name not in wanted]
            invented += len(made_up) if not (task.flags or outcome.asked) else 0
    return {
        "values": expected,
        "values_right_pct": round(100 * right / expected, 2) if expected else None,
        "values_beside_unflagged": invented,
    }


def figures(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Return the figures of a run; None where no case says anything about one."""
    judged = [each for outcome in outcomes for each in outcome.judged]
    claims = [each for outcome in outcomes for each in outcome.judged_claims]
    milliseconds = [1000 * outcome.seconds for outcome in outcomes]
    planned = [o for o in outcomes if o.case.intents and not o.case.ambiguous]
    return {
        "n": len(outcomes),
        "intent_f1": _f1(outcomes),
        "exact_pct": _percent(o.exact for o in outcomes),
        "exact_unasked_pct": _percent(o.exact_unasked for o in outcomes),
        "order_pct": _percent(o.same_order for o in planned if o.same_intents),
        "refused_in_scope_pct": _percent(o.refused for o in planned if not o.case.out_of_scope),
        "oos_recall_pct": _percent(o.refused for o in outcomes if o.case.out_of_scope),
        "wrong_unflagged_pct": _percent(o.wrong_unflagged for o in outcomes),
        "asked_pct": _percent(o.asked for o in outcomes),
        "flagged_pct": _percent(o.flagged for o in outcomes),
        "asked_needlessly_pct": _percent(o.asked for o in outcomes if not o.case.ambiguous),
        "brier": _rounded(brier(judged)),
        "ece": _rounded(expected_calibration_error(judged)),
        "claimed_brier": _rounded(brier(claims)),
        "claimed_ece": _rounded(expected_calibration_error(claims)),
        "judged": len(judged),
        "p50_ms": round(percentile(milliseconds, 0.50), 2),
        "p95_ms": round(percentile(milliseconds, 0.95), 2),
    }


def _f1(outcomes: Iterable[Outcome]) -> float | None:
    """F1 over all intents of all cases together (micro-averaged)."""
    sums = [sum(column) for column in zip(*(outcome.overlap for outcome in outcomes), strict=True)]
    return round(2 * sums[0] / (sums[1] + sums[2]), 4) if sums and sums[1] + sums[2] else None


def _percent(flags: Iterable[bool]) -> float | None:
    counted = list(flags)
    return round(100 * fmean(counted), 2) if counted else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
