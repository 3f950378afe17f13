"""How a program is timed that does plans by itself: it warms up, says so, waits for the word, says how long it took.

Nothing but the standard library: programs in environments without Chargehand's dependencies use it, too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

READY = "ready"


async def contest(plan: Callable[[], Awaitable[object]], plans: int, in_flight: int) -> None:
    """Run `in_flight` plans at a time: some to warm up, then, on a line from stdin, the ones that are timed.

    Prints `READY`, and after the plans one JSON object: the seconds that all took, and each.
    """
    await _run(plan, max(plans // 5, in_flight), in_flight)
    print(READY, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    seconds = await _run(plan, plans, in_flight)
    print(json.dumps({"wall": time.perf_counter() - began, "seconds": seconds}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # so that what it has started is counted before it ends


async def _run(plan: Callable[[], Awaitable[object]], plans: int, in_flight: int) -> list[float]:
    seconds: list[float] = []
    left = iter(range(plans))

    async def runner() -> None:
        for _ in left:
            began = time.perf_counter()
            await plan()
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(runner() for _ in range(in_flight)))
    return seconds
