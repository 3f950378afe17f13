"""Who goes first when there is more work than agents: a priority is a head start in one queue.

A task's turn is when it could first have been started, less its head start; the earliest turn goes first. As the turn
never changes, waiting counts for everybody alike, and nothing starves: what comes later by more than the difference of
two head starts goes later, however important it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Priority = Literal["critical", "high", "normal", "low", "background"]

HEAD_STARTS: Mapping[Priority, float] = {  # seconds
    "critical": 86_400.0,  # before everything but what has waited for a day
    "high": 3_600.0,
    "normal": 0.0,
    "low": -3_600.0,
    "background": -86_400.0,  # when nothing else is left; after a day as if it were normal
}
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


def turn(since: float, priority: Priority) -> float:
    """Return a task's turn from when it could first have been started, both in seconds. The store keeps it likewise."""
    return since - HEAD_STARTS[priority]
