"""How a configuration file that cannot be read is reported. Pure."""

from __future__ import annotations

from chargehand.domain.errors import TaskFailed


def broken(name: str, line: int, problem: object) -> TaskFailed:
    """Return the error for a file whose text is broken at a line (from 1)."""
    return TaskFailed(f"{name} line {line}: {problem}", hint="Repair the file; nothing was written.")
