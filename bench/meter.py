"""Measures what a benchmark costs: CPU over processes, from /proc, and latencies."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from chargehand.private_postgres import PrivatePostgres

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(roots: Sequence[int]) -> float:
    """Return user and system CPU seconds of these processes and all their descendants, ended children included.

    /proc counts in ticks (10 ms), so measure over seconds.
    """
    parents, used = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = sum(map(int, fields[11:15])) / TICK
    return sum(seconds for pid, seconds in used.items() if _below(pid, parents, set(roots)))


def _below(pid: int, parents: dict[int, int], roots: set[int]) -> bool:
    while pid and pid not in roots:
        pid = parents.get(pid, 0)
    return pid != 0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the sorted values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def counted(groups: Mapping[str, Sequence[int]], units: int) -> Iterator[dict[str, float]]:
    """Yield a mapping that holds, after the block, the CPU milliseconds per unit of each group and of all of them.

    A group is what `cpu_seconds` takes; this process itself counts as `submitting`, without those it has started.
    """
    spent: dict[str, float] = {}
    own, before = time.process_time(), {name: cpu_seconds(pids) for name, pids in groups.items()}
    yield spent
    used = {name: cpu_seconds(pids) - before[name] for name, pids in groups.items()}
    used["submitting"] = time.process_time() - own
    spent.update({name: round(1000 * seconds / units, 2) for name, seconds in used.items()})
    spent["in_all"] = round(1000 * sum(used.values()) / units, 2)


@contextmanager
def private_home() -> Iterator[Path]:
    """Yield a home of its own; its server is stopped and everything removed afterwards."""
    base = Path(tempfile.mkdtemp(prefix="chargehand-bench-", dir="/tmp"))
    base.chmod(0o711)  # PostgreSQL's user must be able to walk through when this is root's
    try:
        yield base / "home"
    finally:
        PrivatePostgres(base / "home").stop(mode="immediate")
        shutil.rmtree(base, ignore_errors=True)
