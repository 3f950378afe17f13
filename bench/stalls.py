"""How long an event loop was held up: by what ran on it, and not by a machine that had no processor free for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICK = 0.02  # seconds between two looks


@dataclass
class Stalls:
    """The longest delays so far, in seconds: as a clock shows them, and less what our threads waited for a processor.

    A call that blocks, and a long computation, count in both.
    """

    wall: float = 0.0
    own: float = 0.0


@asynccontextmanager
async def watched() -> AsyncIterator[Stalls]:
    """Yield the stalls of the running loop, kept up to date while the block lasts."""
    stalls = Stalls()
    task = asyncio.create_task(_watch(stalls))
    try:
        yield stalls
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watch(stalls: Stalls) -> None:
    while True:
        began, starved = time.perf_counter(), _starved()
        await asyncio.sleep(TICK)
        late = time.perf_counter() - began - TICK
        stalls.wall = max(stalls.wall, late)
        if late > stalls.own:
            now = _starved()
            longest = max((now[thread] - starved.get(thread, 0.0) for thread in now), default=0.0)
            stalls.own = max(stalls.own, late - longest)


def _starved() -> dict[str, float]:
    """Return how many seconds each thread of this process has waited for a processor; Linux counts it."""
    waited = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has ended
            waited[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return waited
