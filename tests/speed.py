"""How slow this machine is just now, for tests that hold a time: budgets are for a machine at rest."""

from __future__ import annotations

import time

AT_REST = 0.30
"""Seconds that the loop takes on two cores of the machines that the budgets were set on."""


def slowness() -> float:
    """Return how many times longer a fixed piece of work takes than on a machine at rest."""
    began = time.perf_counter()
    sum(number * number for number in range(5_000_000))
    return (time.perf_counter() - began) / AT_REST
