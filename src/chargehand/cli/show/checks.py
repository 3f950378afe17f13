"""What `doctor` found: a line each, and what to do about what is not well."""

from __future__ import annotations

from collections.abc import Sequence

from chargehand.app.doctor import Check
from chargehand.cli.terminal.lines import Line

STYLE = {"ok": "good", "warn": "warn", "fail": "bad"}


def check_lines(checks: Sequence[Check]) -> list[Line]:
    """Return the checks and, under those that are not well, the remedy."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(Line(f"{check.state:<4}  {check.name:<{width}}  {check.found}", STYLE[check.state]))
        if check.remedy and check.state != "ok":
            lines.append(Line(check.remedy, "", 6))
    return lines
