"""What is shown of how rightly models read requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chargehand.app.reports import FEW, Report
from chargehand.cli.terminal.lines import Line, columns, count


def report_lines(found: Sequence[Report]) -> list[Line]:
    """Return a paragraph and two tables for each tier and model."""
    if not found:
        return [Line("No request was read yet.")]
    return [line for each in found for line in _one(each)]


def _one(each: Report) -> Iterator[Line]:
    yield Line(f"{each.model} ({each.tier}): {count(each.readings, 'reading')}", "title")
    if each.right is None or each.low is None or each.high is None or each.confidence is None:
        yield Line("Nobody has approved or changed any of its plans yet: nothing is known.", "", 2)
        return
    told = ", ".join(f"{n} {how}" for how, n in each.by_verdict.items() if n)
    yield Line(f"{count(each.subtasks, 'subtask')} judged by people: {told}", "", 2)
    if each.few:
        yield Line(f"fewer than {FEW}: what follows is mostly luck", "warn", 2)
    yield Line(f"right: {each.right:.0%} (95 % interval {each.low:.0%} to {each.high:.0%})", "", 2)
    yield Line(f"confidence: {_figures(each.confidence, each.brier, each.ece)}", "", 2)
    if each.claimed is not None:
        yield Line(f"claimed: {_figures(each.claimed, each.claimed_brier, each.claimed_ece)}", "dim", 2)
    yield Line(f"calibration {each.calibration}: shift {each.fit.shift:+.2f}, slope {each.fit.slope:.2f}", "dim", 2)
    yield from columns(
        [(f"{b.confidence:.2f}", f"{b.right:.2f}", str(b.subtasks)) for b in each.bins],
        ("confidence", "right", "subtasks"),
    )
    yield from columns(
        [
            (f"{a.threshold:.2f}", str(a.asked), str(a.asked_wrong), str(a.missed_wrong), _set(a.threshold, each))
            for a in each.levels
        ],
        ("threshold", "looked at twice", "of them wrong", "wrong and missed", ""),
    )


def _figures(mean: float, brier: float | None, ece: float | None) -> str:
    return f"{mean:.2f} on average, Brier score {brier or 0:.3f}, off by {ece or 0:.3f} (ECE)"


def _set(threshold: float, each: Report) -> str:
    return "as set" if threshold == each.threshold else ""
