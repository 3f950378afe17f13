"""Looking back at routing decisions: whether they went as was predicted, and what another policy would have done.

appraised(stored decisions) -> Appraisal; compared(replays) -> Comparison
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chargehand.domain import reliability
from chargehand.domain.reliability import Judged
from chargehand.routing.performance import Counts, estimate
from chargehand.routing.replay import Replay


@dataclass(frozen=True, slots=True)
class Bin:
    """Decisions that were predicted alike: what was predicted and what came of it, on average."""

    decisions: int
    predicted: float
    succeeded: float


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What came of decisions. Figures are None where there is nothing to take them from.

    `brier` is the mean squared error of predicted chances (0 is perfect, 0.25 says nothing), `ece` the mean distance
    between predicted and observed over the bins, `duration_ratio` the median of actual over predicted durations,
    `load_jain` how evenly work was spread over the agents that got some (1: evenly).
    """

    decisions: int
    found_nobody: int
    chose_to_wait: int  # for an agent that is better than who was free
    ended: int
    success_rate: float | None
    low: float | None
    high: float | None
    brier: float | None
    ece: float | None
    duration_ratio: float | None
    load_jain: float | None
    by_agent: Mapping[str, tuple[int, int]]  # name -> ended, succeeded
    by_policy: Mapping[str, tuple[int, int]]
    calibration: Sequence[Bin]


def appraised(rows: Sequence[Mapping[str, Any]]) -> Appraisal:
    """Appraise rows of `routing_decisions`."""
    placed = [row for row in rows if row["selected_agent_id"] is not None]
    waiting = [row for row in rows if row["decision"].get("waits_for")]
    ended = [row for row in placed if row["succeeded"] is not None]
    known = estimate(Counts(sum(row["succeeded"] for row in ended), sum(not row["succeeded"] for row in ended)))
    told = [Judged(row["predicted_success"], row["succeeded"]) for row in ended if row["predicted_success"] is not None]
    return Appraisal(
        decisions=len(rows),
        found_nobody=len(rows) - len(placed) - len(waiting),
        chose_to_wait=len(waiting),
        ended=len(ended),
        success_rate=known.success_rate if ended else None,
        low=known.low if ended else None,
        high=known.high if ended else None,
        brier=reliability.brier(told),
        ece=reliability.expected_calibration_error(told),
        duration_ratio=_duration_ratio(ended),
        load_jain=_jain([n for n, _ in _counted(placed, _agent).values()]),
        by_agent=_counted(ended, _agent),
        by_policy=_counted(ended, lambda row: str(row["decision"]["policy"])),
        calibration=[Bin(*each) for each in reliability.bins(told)],
    )


def _agent(row: Mapping[str, Any]) -> str:
    chosen = row["decision"]["selected"]
    return next((str(c["name"]) for c in row["decision"]["candidates"] if c["agent_id"] == chosen), str(chosen))


def _counted(rows: Sequence[Mapping[str, Any]], key: Any) -> dict[str, tuple[int, int]]:
    runs, good = Counter(map(key, rows)), Counter(key(row) for row in rows if row["succeeded"])
    return {name: (runs[name], good[name]) for name in sorted(runs)}


def _duration_ratio(ended: Sequence[Mapping[str, Any]]) -> float | None:
    ratios = sorted(
        row["duration_ms"] / row["predicted_ms"] for row in ended if row["predicted_ms"] and row["succeeded"]
    )
    return ratios[len(ratios) // 2] if ratios else None


def _jain(loads: Sequence[int]) -> float | None:
    return sum(loads) ** 2 / (len(loads) * sum(load**2 for load in loads)) if loads else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Decisions taken again. `same` chose the same agent; `exact` came out the same in every stored detail.

    `partial` ones might have looked at agents whose facts were not stored. `older` ones were taken by another version
    of the scorer and came out otherwise. `unreadable` were stored without facts, in another form, or looked at nobody.
    """

    decisions: int
    same: int
    exact: int
    partial: int
    unreadable: int
    older: int = 0


def compared(pairs: Sequence[tuple[Mapping[str, Any], Replay | None]]) -> Comparison:
    """Compare stored decisions (rows) with the same ones taken again."""
    again = [(row, replay) for row, replay in pairs if replay is not None]
    return Comparison(
        decisions=len(pairs),
        same=sum(replay.decision.selected == row["decision"]["selected"] for row, replay in again),
        exact=sum(replay.same for _, replay in again),
        partial=sum(replay.partial for _, replay in again),
        unreadable=len(pairs) - len(again),
        older=sum(replay.older and not replay.same for _, replay in again),
    )
