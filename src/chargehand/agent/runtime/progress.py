"""Passes on what running work says, without ever making the work wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pydantic import JsonValue

INTERVAL = 0.05
"""Seconds before the first message of one attempt and between two: faster than anybody can read them.

Work that is over by then does not say that it has begun; its result does.
"""
LINES = 10
"""Lines that one message holds at most, the latest ones: quick steps are all told, a flood is not."""
LAST_WORDS = 1.0
"""Seconds that sending the last message may take before the result goes out without it."""


@dataclass
class Said:
    """What the next message will hold: the latest lines, and everything in their data since the last one."""

    message: str = ""
    data: dict[str, JsonValue] = field(default_factory=dict)
    started: bool = False
    merged: int = 1

    @property
    def only_begun(self) -> bool:
        """Whether nothing was said but that the work has begun."""
        return self.started and self.merged == 1

    def then(self, later: Said) -> Said:
        data = {**self.data, **later.data, "merged": self.merged + 1}
        # That it has begun goes without saying once there is something else to say.
        lines = [line for said in (self, later) if not said.only_begun for line in said.message.splitlines()]
        return Said("\n".join(lines[-LINES:]), data, self.started or later.started, self.merged + 1)


class Feed:
    """The progress of one attempt. One message at a time is on its way; what is said meanwhile is merged."""

    def __init__(self, send: Callable[[Said], Awaitable[object]]) -> None:
        self._send = send
        self._pending: Said | None = None
        self._sender: asyncio.Task[None] | None = None
        self._next_at: float | None = None
        self._closing = asyncio.Event()

    def say(self, said: Said) -> None:
        if self._closing.is_set():
            return  # a straggler of the work: its result is already on its way
        self._pending = said if self._pending is None else self._pending.then(said)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._run(), name="progress")

    async def close(self) -> None:
        """Send what waits, at once, and take no more."""
        self._closing.set()
        if self._sender is None:
            return
        _, late = await asyncio.wait({self._sender}, timeout=LAST_WORDS)
        for sender in late:
            sender.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending is not None:
            await self._pause(INTERVAL if self._next_at is None else self._next_at - loop.time())
            said, self._pending = self._pending, None
            self._next_at = loop.time() + INTERVAL
            if not (self._closing.is_set() and said.only_begun):
                await self._send(said)

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0 or self._closing.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
