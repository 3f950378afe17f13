"""Thousands of small plans in a storm, and then the accounts: what was promised, what happened, what is written.

Two servers and four agents, each a program of its own, on a private PostgreSQL and a private RabbitMQ. See
docs/reliability.md for the method and for what each figure means.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--seconds", type=float, help="how long the storm lasts; starting and draining come on top")
    parser.add_argument("--seed", type=int, help="of the schedule; drawn and printed when none is given")
    parser.add_argument("--keep", metavar="DIR", help="leave logs and lists here, and histories of what went wrong")


def run(**options: Any) -> Mapping[str, Any]:
    """Return the figures; see `course.run`, which is imported late: the agents import this package, too."""
    from bench.chaos import course

    return course.run(**options)
