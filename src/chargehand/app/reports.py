"""Looking back: how the choices of agents turned out, and how rightly requests were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chargehand.domain.plans import WorkTask
from chargehand.domain.tiers import TIERS
from chargehand.engine.engine import thresholds
from chargehand.routing.replay import Replay, replayed
from chargehand.routing.report import Appraisal, Comparison, compared
from chargehand.routing.router import policy_named
from chargehand.settings import Settings
from chargehand.understanding.feedback import FEW, Report, reported
from chargehand.understanding.judgements import judgements

__all__ = ["FEW", "Appraisal", "Comparison", "Difference", "Replayed", "Report", "read_replay", "read_report"]


@dataclass(frozen=True)
class Difference:
    """A decision that came out otherwise when it was taken again. `partial` and `older` are the replay's."""

    task_id: UUID
    now: str
    then: str
    partial: bool
    older: bool


@dataclass(frozen=True)
class Replayed:
    """Stored decisions taken again, by `policy` or each by its own (None)."""

    comparison: Comparison
    differences: Sequence[Difference]
    policy: str | None

    @property
    def again(self) -> int:
        """How many could be taken again."""
        return self.comparison.decisions - self.comparison.unreadable

    @property
    def holds(self) -> bool:
        """Whether each came out as it was stored, where it must."""
        found = self.comparison
        return self.policy is not None or found.exact + found.older + found.unreadable >= found.decisions


def read_replay(rows: Sequence[Mapping[str, Any]], policy: str | None, minimum_runs: int) -> Replayed:
    """Take stored routing decisions again. Raises `BadConfiguration` for a policy that nobody knows."""
    other = policy_named(policy, {}, minimum_runs) if policy else None
    pairs = [(row, replayed(WorkTask.model_validate(row["spec"]), row, other)) for row in rows]
    differences = [_difference(row, replay) for row, replay in pairs if replay and _differs(row, replay, policy)]
    return Replayed(compared(pairs), differences, policy)


def _differs(row: Mapping[str, Any], replay: Replay, policy: str | None) -> bool:
    another = replay.decision.selected != row["decision"]["selected"]
    return another or (policy is None and not replay.same)


def _difference(row: Mapping[str, Any], replay: Replay) -> Difference:
    return Difference(row["task_id"], replay.decision.reason, row["reason"], replay.partial, replay.older)


def read_report(
    readings: Sequence[Mapping[str, Any]], plans: Sequence[Mapping[str, Any]], settings: Settings
) -> list[Report]:
    """Return, for each tier and model, how far its confidences can be trusted."""
    set_now = thresholds(settings)
    by_tier = {tier.name: set_now.below(tier) for tier in TIERS.values()}
    return reported(judgements(readings, plans), readings, by_tier)
