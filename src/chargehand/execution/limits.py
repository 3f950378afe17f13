"""How long an attempt may take, and how long its lease lives. Pure."""

from __future__ import annotations

from chargehand.domain.plans import WorkTask
from chargehand.domain.records import Limits
from chargehand.routing.performance import allowed_seconds


def limits_of(spec: WorkTask, usual: Limits, p90_ms: float | None = None) -> Limits:
    """Return a task's own limits where it has some, else the usual ones; nothing runs longer than `usual.run`.

    On an agent that takes nearly as long as the task declares, it may run for longer than that: `p90_ms` is in what
    time nine in ten of the agent's runs succeed.
    """
    own = spec.deadlines
    declared = min(own.run_seconds or usual.run, usual.run)
    run = allowed_seconds(declared, p90_ms, usual.run)
    why = f"declared {declared:g} s; nine in ten take up to {(p90_ms or 0) / 1000:.1f} s" if run > declared else ""
    return Limits(own.heartbeat_seconds or usual.lease, own.start_seconds or usual.start, run, why)
