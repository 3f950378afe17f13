"""What time does: leases that ran out, agents gone silent, plans nobody approved, wake-ups that were lost.

The sweep is what makes everything else safe to lose. It looks at rows, never at memory, so any process may run it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from chargehand.domain.errors import BrokerUnreachable
from chargehand.domain.ports import HEARTBEATS_QUEUE
from chargehand.domain.records import PlanMove, RequestMove
from chargehand.domain.seals import EMPTY, Head
from chargehand.domain.states import ATTEMPT_OPEN, PlanStatus, RequestStatus
from chargehand.engine.batching import batch_or_singly
from chargehand.engine.engine import Engine
from chargehand.engine.request_control import RequestControl
from chargehand.execution.outcomes import Ending, lost_result, repeatable

log = logging.getLogger("chargehand.engine.sweep")

MISSED_HEARTBEATS = 3
"""One or two may be lost on a busy network; three mean that the agent is gone."""

PROMPT = 2.0
"""Seconds: a broker that is merely busy answers within one."""

LATE = {
    "silent": "its agent has not been heard of since its lease ran out",
    "not started": "its agent had it and did not begin in time",
    "too long": "it took longer than it may",
}


MOST_BATCHES = 10
"""Of seals in one pass: more than any load makes in the seconds between two, and soon enough back to the leases."""


class HeadKeeper(Protocol):
    """Keeps the newest head of the chain of seals outside of the database."""

    def last(self) -> Head:
        """Return what was kept last; `EMPTY` when there is nothing."""

    def keep(self, head: Head) -> None:
        """Keep this one from now on."""


class NoHeads:
    """Keeps none: for tests, and where nothing but the database is there."""

    def last(self) -> Head:
        """Return that nothing was kept."""
        return EMPTY

    def keep(self, head: Head) -> None:
        """Forget it."""


class Sweep:
    """One pass over everything that is late.

    For the first `patience` seconds no lease is declared lost: while no orchestrator ran, none could be renewed, and
    an agent that has lived through that must be heard first. The same holds for `patience` seconds after the broker was
    out of reach: agents whose heartbeats it confirms go on working, though nobody here can read them. `clock` is any
    monotonic one. `heads` keeps the head of the chain of seals.
    """

    def __init__(
        self,
        engine: Engine,
        control: RequestControl,
        *,
        patience: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        heads: HeadKeeper | None = None,
    ) -> None:
        self._engine = engine
        self._control = control
        self._settings = engine.settings
        self._patience, self._clock = patience, clock
        self._patient_until = clock() + patience
        self._heads = heads or NoHeads()
        self._disagreed: Head | None = None  # a head that the chain does not hold, once it was said

    async def sweep(self) -> None:
        """Do all of it once. Each part is a transaction of its own."""
        if self._clock() >= self._patient_until:
            await self.mark_offline()
            await self.end_lapsed()
        await self.expire_plans()
        await self.settle_idle()
        await self.cancel_again()
        await self.chain_seals()

    async def mark_offline(self) -> None:
        """Agents that missed their heartbeats get no more work."""
        async with self._engine.store.transaction() as tx:
            names = await tx.mark_offline(MISSED_HEARTBEATS * self._settings.heartbeat_seconds)
        for name in names:
            log.warning("agent %s has missed %d heartbeats", name, MISSED_HEARTBEATS)

    async def end_lapsed(self) -> int:
        """End attempts whose lease and grace are over: repeat what is safe to repeat, give the rest to a person."""
        async with self._engine.store.transaction() as tx:
            late = await tx.lapsed_attempts(1, self._settings.lease_grace)
        if not late or not await self._hears():
            return 0
        return await batch_or_singly(self._end_lapsed, self._log_failure)

    async def _hears(self) -> bool:
        """Return whether the broker answers, and promptly: what waits behind a slow answer may be heartbeats."""
        asked = self._clock()
        try:
            await self._engine.broker.declare(HEARTBEATS_QUEUE)
        except BrokerUnreachable as error:
            log.warning("no lease is declared lost while the broker is away: %s", error)
        else:
            if self._clock() - asked < PROMPT:
                return True
        self._patient_until = self._clock() + self._patience
        return False

    async def _end_lapsed(self, seen: list[UUID], only: UUID | None) -> None:
        grace = self._settings.lease_grace
        async with self._engine.store.transaction() as tx:
            lapsed = await tx.lapsed_attempts(self._settings.batch_size, grace)
            wanted = {attempt: found for attempt, found in lapsed.items() if only in (None, attempt)}
            seen.extend(wanted)
            requests = await tx.lock_requests(request for request, _ in wanted.values())
            attempts = await tx.attempts(wanted)
            tasks = {t.task_id: t for ts in (await tx.tasks_of(requests)).values() for t in ts}
            endings = []
            for attempt in attempts.values():
                request, task = requests[attempt.request_id], tasks[attempt.task_id]
                if attempt.status not in ATTEMPT_OPEN:
                    continue  # its result came while we waited for the lock
                said = LATE[wanted[attempt.attempt_id][1]]
                result = lost_result(attempt, repeatable=repeatable(task, request), said=said)
                endings.append(Ending(request, task, attempt, result, reported=False))
            for request in {e.request.request_id: e.request for e in endings}.values():
                await self._control.tell_agents(tx, request, [e.attempt for e in endings])
            await self._engine.recorder.end(tx, endings)

    async def expire_plans(self) -> None:
        """Plans that nobody approved in time are dropped, with their request."""
        async with self._engine.store.transaction() as tx:
            late = await tx.expired_plans(self._settings.batch_size)
            for request in (await tx.lock_requests(late)).values():
                plan = await tx.latest_plan(request.request_id)
                if plan and plan.status is PlanStatus.PENDING_APPROVAL and plan.expired:
                    await tx.move_plans([PlanMove(plan.plan_id, request.request_id, plan.status, PlanStatus.EXPIRED)])
                    if request.status is RequestStatus.AWAITING_APPROVAL:
                        reason = "nobody approved the plan in time"
                        await tx.move_requests(
                            [RequestMove(request.request_id, request.status, RequestStatus.EXPIRED, reason)]
                        )

    async def settle_idle(self) -> None:
        """Look again at requests in progress of which nothing is on its way."""
        async with self._engine.store.transaction() as tx:
            await self._engine.recorder.settle(tx, await tx.idle_requests(self._settings.batch_size))

    async def cancel_again(self) -> None:
        """Tell agents that have not been told that their request is being cancelled."""
        async with self._engine.store.transaction() as tx:
            ids = await tx.unsettled_cancels(self._settings.batch_size)
            for request in (await tx.lock_requests(ids)).values():
                await self._control.tell_agents(tx, request)

    async def chain_seals(self) -> None:
        """Put the seals that were made since the last time into their chain, and keep its new head.

        A head that the chain does not hold is kept as it is: `audit verify` shows it until a person has looked.
        """
        for _ in range(MOST_BATCHES):
            known = self._heads.last()
            async with self._engine.store.transaction() as tx:
                extended = await tx.extend_chain(known)
            if extended is None:
                return
            if extended.agrees:
                self._heads.keep(extended.head)
            elif known != self._disagreed:
                self._disagreed = known
                log.warning("the chain of seals is not the one that was here before: run `chargehand audit verify`")
            if not extended.more:
                return

    async def _log_failure(self, attempt_id: UUID, error: Exception) -> None:
        log.warning("attempt %s could not be ended: %s", attempt_id, error, extra={"attempt_id": attempt_id})
