"""The regular sign of life. It renews the leases, and everything unanswered is said again with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from chargehand.agent.runtime.attempts import Attempts
from chargehand.agent.runtime.machine import Gauges
from chargehand.agent.runtime.reports import Reports
from chargehand.domain.envelopes import MessageType
from chargehand.domain.messages import Heartbeat
from chargehand.domain.ports import HEARTBEATS_QUEUE

log = logging.getLogger("chargehand.agent")


class Pulse:
    """Beats every `seconds` until stopped; what goes wrong in one beat is logged and the next one comes."""

    def __init__(
        self,
        seconds: float,
        reports: Reports,
        attempts: Attempts,
        identity: tuple[str, str],
        also: Callable[[], Awaitable[None]],
        *,
        gauges: Gauges,
    ) -> None:
        self._seconds, self._reports, self._attempts, self._also = seconds, reports, attempts, also
        self._gauges = gauges
        self._agent_id, self._incarnation = identity
        self.draining = False
        self.confirmed_at: float | None = None  # when the last one that was confirmed was sent
        self._beats: asyncio.Task[None] | None = None
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._beats = asyncio.create_task(self.beat(), name="heartbeat")
        self._beats.add_done_callback(self._plan_next)

    async def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
        if self._beats is not None and not self._beats.done():
            self._beats.remove_done_callback(self._plan_next)
            self._beats.cancel()
            await asyncio.wait({self._beats})

    async def beat(self) -> None:
        """Send one heartbeat; when it is confirmed, the leases it names count as renewed from before it was sent."""
        sent_at = asyncio.get_running_loop().time()
        named = self._attempts.open
        heartbeat = Heartbeat(
            agent_id=self._agent_id,
            incarnation=self._incarnation,
            running=named,
            free=self._gauges.free(),
            load=self._gauges.load(),
            draining=self.draining,
        )
        if await self._reports.send(MessageType.HEARTBEAT, heartbeat, queue=HEARTBEATS_QUEUE):
            self.confirmed_at = sent_at
            self._attempts.renewed(named, sent_at)
        await self._also()
        await self._attempts.repeat()

    def _plan_next(self, beat: asyncio.Task[None]) -> None:
        if not beat.cancelled() and (error := beat.exception()) is not None:
            log.error("a heartbeat failed: %s", type(error).__name__, exc_info=error)
        self._next = asyncio.get_running_loop().call_later(self._seconds, self.start)
