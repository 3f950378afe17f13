"""Submits plans and keeps its own list of what was accepted: an idempotency key and a request id a line.

Whoever hears nothing, or an error, says the same again under the same key, as a careful caller does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from uuid import UUID

from bench.chaos.jobs import JOBS
from chargehand.domain.errors import TransientError
from chargehand.domain.intents import Otherwise
from chargehand.engine.engine import Engine

CALLERS = 6
PLANS_PER_SECOND = 9.0  # in all, while everything works
MOST_OPEN = 200  # plans under way: more would only wait for each other
ANSWER_SECONDS = 5.0
MAY_WAIT: tuple[Otherwise, ...] = ("wait",)  # all agents may be away when a plan is made: that is the point
SAID_TWICE = 0.05  # of accepted plans are submitted again, with the answer in hand


class Submitters:
    """The callers. `attempted` are keys, `doubled` those that were answered with two different ids."""

    def __init__(self, engine: Engine, accepted: Path, random: Random) -> None:
        self._engine, self._accepted, self._random = engine, accepted, random
        self.attempted = 0
        self.said_again = 0
        self.doubled: list[str] = []
        self.open = 0  # plans under way, as somebody last counted them

    async def run(self, seconds: float) -> None:
        """Submit for so long; every plan that was begun with is brought to its acceptance."""
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(self._call(until) for _ in range(CALLERS)))

    async def _call(self, until: float) -> None:
        now = asyncio.get_running_loop().time
        while now() < until:
            await asyncio.sleep(self._random.expovariate(PLANS_PER_SECOND / CALLERS))
            if self.open < MOST_OPEN and now() < until:
                await self._submit()

    async def _submit(self) -> None:
        self.attempted += 1
        key, words = f"chaos-{self.attempted}", sentence(self._random)
        request_id = await self._until_heard(key, words)
        with self._accepted.open("a") as accepted:
            accepted.write(f"{key} {request_id}\n")
        if self._random.random() < SAID_TWICE and await self._until_heard(key, words) != request_id:
            self.doubled.append(key)

    async def _until_heard(self, key: str, words: str) -> UUID:
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await self._engine.submit(words, requester="chaos", key=key, otherwise=MAY_WAIT)
            except (TransientError, TimeoutError):
                self.said_again += 1
                await asyncio.sleep(self._random.uniform(0.1, 1.0))


def sentence(random: Random) -> str:
    """Return a request of one to three different jobs. The gate is locked seldom: that is done one at a time."""
    weights = {name: 1 if job.exclusive else 5 for name, job in JOBS.items()}
    drawn = random.choices(list(weights), list(weights.values()), k=random.choice((1, 1, 1, 1, 2, 3)))
    return ", then ".join(JOBS[name].examples[0] for name in dict.fromkeys(drawn))
