"""How long an attempt may take, and how long its lease lives. Pure."""

from __future__ import annotations

from chargehand.domain.plans import WorkTask
from chargehand.domain.records import Limits
from chargehand.domain.routing import NO_FIGURES, Figures
from chargehand.routing.performance import allowed_seconds


def limits_of(spec: WorkTask, usual: Limits, seen: Figures = NO_FIGURES) -> Limits:
    """Return a task's own limits where it has some, else the usual ones; nothing runs longer than `usual.run`.

    On an agent that takes nearly as long as the task declares, or now and then far longer than usual, it may run for
    longer than that: `seen` is what the agent's runs came to.
    """
    own = spec.deadlines
    declared = min(own.run_seconds or usual.run, usual.run)
    run = allowed_seconds(declared, seen, usual.run)
    why = f"declared {declared:g} s; {_runs(seen)}" if run > declared else ""
    return Limits(own.heartbeat_seconds or usual.lease, own.start_seconds or usual.start, run, why)


def _runs(seen: Figures) -> str:
    spread = f", give or take {seen.deviation_ms / 1000:.1f} s" if seen.deviation_ms else ""
    return f"nine in ten take up to {(seen.p90_ms or 0) / 1000:.1f} s{spread}"
