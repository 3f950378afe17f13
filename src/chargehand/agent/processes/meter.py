"""Measures what work uses: the process trees of its programs, and what the agent's own process does meanwhile. psutil.

One look at the machine's processes serves all programs of an agent. It is imported when first asked: an agent that
does no work need not load it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MIB = 1024 * 1024
FIRST_LOOK, EVERY = 0.1, 1.0
"""Seconds until a program is first looked at, twice as long until each next look, and at most between two looks: one
takes some ms, so that it costs below one per cent of a core."""


@dataclass(slots=True)
class Usage:
    """What one attempt has used: the most memory at a time, and processor time. MiB and seconds."""

    began: float
    own_cpu: float
    own_memory: float
    sharing: int = 1  # attempts that have run side by side in the agent's process, at most
    peak_mb: float = 0.0
    cpu_seconds: dict[int, float] = field(default_factory=dict)  # by program (its keeper's process id)


class Meter:
    """Measures the attempts of one agent, each between `begin` and `end`."""

    def __init__(self) -> None:
        self._open: list[Usage] = []
        self._programs: dict[int, Usage] = {}
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> Usage:
        """Start to measure one attempt."""
        cpu, memory = _self()
        usage = Usage(time.monotonic(), cpu, memory)
        self._open.append(usage)
        for other in self._open:
            other.sharing = max(other.sharing, len(self._open))
        return usage

    def end(self, usage: Usage) -> dict[str, float]:
        """Return what the attempt used: `memory_mb` at the peak, `cpu_seconds`, and `cpu_cores` busy on average.

        What runs in the agent's own process cannot be told apart there: attempts side by side share it evenly.
        """
        self._open.remove(usage)
        cpu, memory = _self()
        seconds = sum(usage.cpu_seconds.values()) + max(0.0, cpu - usage.own_cpu) / usage.sharing
        grown = max(0.0, memory - usage.own_memory) / usage.sharing
        took = max(time.monotonic() - usage.began, 0.001)
        used = {"memory_mb": usage.peak_mb + grown, "cpu_seconds": seconds, "cpu_cores": seconds / took}
        return {name: round(value, 3) for name, value in used.items()}

    def watch(self, program: int, usage: Usage) -> None:
        """Measure a program as well, with all that it starts; `program` is the process id of its keeper."""
        self._programs[program] = usage
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.create_task(self._look_again(), name="meter")  # it may be over before the next look

    async def leave(self, program: int) -> None:
        """Take a last look at a program that has ended and is not collected yet, and watch it no more."""
        if program in self._programs:
            await self._look([program])
            del self._programs[program]
        if not self._programs and self._looking is not None:
            self._looking.cancel()

    async def _look_again(self) -> None:
        pause = FIRST_LOOK
        while self._programs:
            await asyncio.sleep(pause)
            pause = min(EVERY, 2 * pause)
            await self._look(list(self._programs))

    async def _look(self, programs: list[int]) -> None:
        seen = await asyncio.to_thread(measured, programs)
        peaks: dict[int, tuple[Usage, float]] = {}
        for program, (memory, cpu) in seen.items():
            usage = self._programs.get(program)
            if usage is None:
                continue  # it has ended meanwhile
            usage.cpu_seconds[program] = max(cpu, usage.cpu_seconds.get(program, 0.0))
            peaks[id(usage)] = usage, peaks.get(id(usage), (usage, 0.0))[1] + memory
        for usage, memory in peaks.values():
            usage.peak_mb = max(usage.peak_mb, memory)


def measured(programs: list[int]) -> dict[int, tuple[float, float]]:
    """Return memory (MiB) and processor time (seconds) of each program and its descendants, those that ended included.

    Blocks. A process that belongs to somebody else, or ends while it is looked at, counts for nothing.
    """
    import psutil

    processes = {process.pid: process for process in psutil.process_iter()}
    children: dict[int, list[int]] = {}
    for process in processes.values():
        with contextlib.suppress(psutil.Error):
            children.setdefault(process.ppid(), []).append(process.pid)
    found = {}
    for program in programs:
        tree, ahead = [], [program]
        while ahead:
            pid = ahead.pop()
            tree.append(pid)
            ahead.extend(children.get(pid, ()))
        parts = [_of(processes[pid]) for pid in tree if pid in processes]
        found[program] = sum(memory for memory, _ in parts), sum(cpu for _, cpu in parts)
    return found


def _of(process: psutil.Process) -> tuple[float, float]:
    import psutil

    memory = cpu = 0.0
    with contextlib.suppress(psutil.Error):
        # Its own, and that of children it has collected; until then they are in the tree.
        cpu = sum(process.cpu_times()[:4])
        memory = _memory(process)
    return memory, cpu


def _memory(process: psutil.Process) -> float:
    """Return its memory in MiB, where the system tells of shares only its share of what it shares with others."""
    try:
        full = process.memory_full_info()
    except PermissionError:
        return float(process.memory_info().rss) / MIB
    return float(getattr(full, "pss", 0) or full.uss) / MIB


def _self() -> tuple[float, float]:
    """Return processor time and memory of the agent's own process."""
    import psutil

    times = os.times()
    return times.user + times.system, psutil.Process().memory_info().rss / MIB
