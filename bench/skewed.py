"""`python -m bench.skewed ...`: the `chargehand` command under a wall clock that is wrong.

The seam is the interpreter's, not the product's: `time.time` and `datetime.now` are replaced before anything of the
product is imported. Monotonic clocks are left alone, as an operator's mistake or a step of NTP leaves them.
"""

from __future__ import annotations

import datetime
import os
import runpy
import time
import warnings
from collections.abc import Callable
from typing import Any

SKEW = "BENCH_SKEW"
"""The environment variable that says by how many seconds the clock is ahead."""


TRUE_DATETIME = datetime.datetime


class _AnyDatetime(type):
    """A value made by C code is a datetime, too, whatever the name means now."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, TRUE_DATETIME)


def skew(seconds: float) -> None:
    """Set this process's wall clock so many seconds ahead, or behind when negative."""
    true_time, true_time_ns = time.time, time.time_ns
    by = datetime.timedelta(seconds=seconds)

    def now(tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return TRUE_DATETIME.now(tz) + by

    # A class statement would be read by type checkers as a second `datetime`; this one is only for `now`.
    members: dict[str, Callable[..., Any] | staticmethod[..., Any]] = {
        "now": staticmethod(now),
        "utcnow": staticmethod(lambda: TRUE_DATETIME.now(datetime.UTC).replace(tzinfo=None) + by),
    }
    skewed = _AnyDatetime("datetime", (TRUE_DATETIME,), members)
    setattr(datetime, "datetime", skewed)  # noqa: B010 - mypy would not have the plain assignment
    setattr(time, "time", lambda: true_time() + seconds)  # noqa: B010
    setattr(time, "time_ns", lambda: true_time_ns() + round(seconds * 1e9))  # noqa: B010


def main() -> None:
    """Skew the clock, then be the command."""
    skew(float(os.environ.get(SKEW, "0")))
    # Whoever seeded a run wants its figures, not a remark on the size of a replaced class.
    warnings.filterwarnings("ignore", message="datetime.datetime size changed")
    runpy.run_module("chargehand", run_name="__main__")


if __name__ == "__main__":
    main()
