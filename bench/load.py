"""Submits plans and waits for their ends, so many at a time; the work is done by whoever does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from chargehand.engine.engine import Engine
from chargehand.engine.loops import Wake
from chargehand.store.postgres import PostgresStore

BOUND = 600.0  # seconds after which a benchmark gives up
WRONG = frozenset({"failed", "in_review", "refused", "asking", "awaiting_approval", "cancelled"})


@dataclass(frozen=True, slots=True)
class Load:
    """Where plans are submitted and watched."""

    engine: Engine
    store: PostgresStore
    wake: Wake

    async def run(self, words: str, plans: int, in_flight: int) -> list[float]:
        """Submit the same words so often; return how many seconds each plan took from its submission to its end."""
        return await self.keep(lambda: self.engine.submit(words, requester="bench"), plans, in_flight)

    async def keep(self, submit: Callable[[], Awaitable[UUID]], plans: int, in_flight: int) -> list[float]:
        """As `run`, with another way to submit."""
        began_at: dict[UUID, float] = {}
        seconds: list[float] = []
        left = plans
        async with asyncio.timeout(BOUND):
            while left or began_at:
                while left and len(began_at) < in_flight:
                    left -= 1
                    now = time.perf_counter()
                    began_at[await submit()] = now
                ended = await self.ended(list(began_at))
                seconds += [time.perf_counter() - began_at.pop(request_id) for request_id in ended]
        return seconds

    async def ended(self, open_ids: Sequence[UUID]) -> list[UUID]:
        """Wait until some of these requests are completed and return them."""
        woken = self.wake.subscribe()
        try:
            while True:
                woken.clear()
                async with self.store.transaction() as tx:
                    rows = await tx.fetch("statuses", open_ids)
                if any(row["status"] in WRONG for row in rows):
                    raise RuntimeError(f"a benchmark's plan went wrong: {[dict(row) for row in rows]}")
                ended = [row["request_id"] for row in rows if row["status"] == "completed"]
                if ended:
                    return ended
                await woken.wait()
        finally:
            self.wake.unsubscribe(woken)
