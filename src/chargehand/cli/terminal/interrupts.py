"""Ctrl-C once leaves gently, twice at once; SIGTERM and a closed terminal are like the second."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """Somebody wants to leave."""


class Interrupts:
    """What has been asked of this process by signals."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def listen(self) -> None:
        """Take the signals over from Python, for the rest of the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._take, number)

    async def unless_asked(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does, or end it and raise `Interrupted` when somebody wants to leave."""
        task, leave = asyncio.ensure_future(work), asyncio.ensure_future(self.asked.wait())
        try:
            await asyncio.wait({task, leave}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leave.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            raise Interrupted
        return task.result()

    def _take(self, number: int) -> None:
        if number != signal.SIGINT or self.asked.is_set():
            self.insisted.set()
        self.asked.set()
