"""What is shown of how agents were chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chargehand.cli.terminal.lines import Line, columns, count, short
from chargehand.routing.replay import Replay
from chargehand.routing.report import Appraisal, Comparison

DIFFERENCES = 20  # more are counted, not listed


def appraisal_lines(found: Appraisal) -> list[Line]:
    """Return what came of decisions: over all, by policy, by agent, and against what was predicted."""
    if not found.decisions:
        return [Line("No task was handed out yet.")]
    nobody = f"; {found.found_nobody} found nobody" if found.found_nobody else ""
    nobody += f"; {found.chose_to_wait} to wait for a better agent" if found.chose_to_wait else ""
    lines = [Line(f"{count(found.decisions, 'decision')}, {found.ended} with an outcome{nobody}", "title")]
    if found.success_rate is not None and found.low is not None and found.high is not None:
        between = f"95 % interval {found.low:.0%} to {found.high:.0%}"
        lines.append(Line(f"succeeded: {found.success_rate:.1%} ({between})", "", 2))
    if found.brier is not None and found.ece is not None:
        text = (
            f"predicted chances: Brier score {found.brier:.3f} (0.250 says nothing), off by {found.ece:.3f} on average"
        )
        lines.append(Line(text, "", 2))
    if found.duration_ratio is not None:
        lines.append(Line(f"durations: {found.duration_ratio:.2f} times what was predicted, in the median", "", 2))
    if found.load_jain is not None:
        lines.append(Line(f"spread over the agents used: {found.load_jain:.2f} (1.00: evenly)", "", 2))
    lines += _table("agent", found.by_agent) + _table("policy", found.by_policy)
    bins = [(f"{b.predicted:.2f}", f"{b.succeeded:.2f}", str(b.decisions)) for b in found.calibration]
    return lines + (columns(bins, ("predicted", "came", "decisions")) if bins else [])


def _table(title: str, rows: Mapping[str, tuple[int, int]]) -> list[Line]:
    cells = [(name, str(runs), f"{good / runs:.0%}") for name, (runs, good) in rows.items()]
    return columns(cells, (title, "ended", "succeeded")) if cells else []


def comparison_lines(
    found: Comparison, pairs: Sequence[tuple[Mapping[str, Any], Replay | None]], policy: str | None
) -> list[Line]:
    """Return how decisions taken again compare with the stored ones."""
    again = found.decisions - found.unreadable
    by = f"by {policy}" if policy else "each by the policy it was taken by"
    lines = [Line(f"{count(again, 'decision')} taken again, {by}", "title")]
    if policy is None:
        style = "good" if found.exact + found.older == again else "bad"
        lines.append(Line(f"{found.exact} of {again} came out the same in every detail", style, 2))
        if found.older:
            text = f"{found.older} came out otherwise, as they were taken by another version of the scorer"
            lines.append(Line(text, "warn", 2))
    else:
        lines.append(Line(f"{found.same} of {again} chose the same agent", "", 2))
        if found.partial:
            text = f"{found.partial} are partial: it might have looked at agents whose facts were not stored"
            lines.append(Line(text, "warn", 2))
    if found.unreadable:
        lines.append(Line(f"{found.unreadable} looked at no agent, or were stored in another form", "dim", 2))
    return [*lines, *list(_differences(pairs, policy))[:DIFFERENCES]]


def _differences(pairs: Sequence[tuple[Mapping[str, Any], Replay | None]], policy: str | None) -> Iterator[Line]:
    for row, replay in pairs:
        if replay is None:
            continue
        if replay.decision.selected != row["decision"]["selected"] or (policy is None and not replay.same):
            partial = " (partial)" if replay.partial else " (another version)" if replay.older else ""
            text = f"task {short(row['task_id'])}: {replay.decision.reason}{partial}; it was {row['reason']}"
            yield Line(text, "", 4)
