"""What is shown of how agents were chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chargehand.app.reports import Appraisal, Comparison, Difference, Replayed
from chargehand.cli.terminal.lines import Line, columns, count, short

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


def comparison_lines(replayed: Replayed) -> list[Line]:
    """Return how decisions taken again compare with the stored ones."""
    found, policy, again = replayed.comparison, replayed.policy, replayed.again
    by = f"by {policy}" if policy else "each by the policy it was taken by"
    lines = [Line(f"{count(again, 'decision')} taken again, {by}", "title")]
    lines += _by_their_own(found, again) if policy is None else _by_another(found, again)
    if found.unreadable:
        lines.append(Line(f"{found.unreadable} looked at no agent, or were stored in another form", "dim", 2))
    return [*lines, *map(_difference, replayed.differences[:DIFFERENCES])]


def _by_their_own(found: Comparison, again: int) -> Iterator[Line]:
    style = "good" if found.exact + found.older == again else "bad"
    yield Line(f"{found.exact} of {again} came out the same in every detail", style, 2)
    if found.older:
        text = f"{found.older} came out otherwise, as they were taken by another version of the scorer"
        yield Line(text, "warn", 2)


def _by_another(found: Comparison, again: int) -> Iterator[Line]:
    yield Line(f"{found.same} of {again} chose the same agent", "", 2)
    if found.partial:
        text = f"{found.partial} are partial: it might have looked at agents whose facts were not stored"
        yield Line(text, "warn", 2)


def _difference(one: Difference) -> Line:
    how = " (partial)" if one.partial else " (another version)" if one.older else ""
    return Line(f"task {short(one.task_id)}: {one.now}{how}; it was {one.then}", "", 4)
