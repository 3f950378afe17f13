"""What fails by itself is counted; what keeps failing goes to a person instead of being tried for ever."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from chargehand.domain.errors import ChargehandError
from chargehand.domain.records import RequestMove, RequestRecord, Review, ReviewKind, TaskMove
from chargehand.domain.states import RequestStatus, TaskStatus
from chargehand.engine.recorder import Recorder
from chargehand.engine.tier_chain import Understood
from chargehand.engine.transactions import Store

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction

log = logging.getLogger("chargehand.engine.quarantine")


class Quarantine:
    """One item's trouble, not its transaction's. `limit` is how often an item may fail before a person has it."""

    def __init__(self, store: Store, recorder: Recorder, limit: int) -> None:
        self._store, self._recorder, self._limit = store, recorder, limit

    async def of_reading(self, reading: Understood, error: Exception) -> None:
        """Count that it failed to go on from what was read of a request."""
        await self.of_request(reading.request.request_id, error)

    async def of_request(self, request_id: UUID, error: Exception) -> None:
        """Count that a step before the plan failed on a request."""
        about = {"request_id": request_id}
        log.warning("request %s: %s", request_id, error, exc_info=not isinstance(error, ChargehandError), extra=about)
        async with self._store.transaction() as tx:
            request = await tx.lock_request(request_id)
            times, _ = await tx.count_request_failure(request_id)
            if request.status is RequestStatus.DECOMPOSING and times >= self._limit:
                await to_review(tx, request, "quarantine", f"failed {times} times: {_first_line(error)}", {})
            elif request.status is RequestStatus.DECOMPOSING:
                reason, new = f"again after: {_first_line(error)}", RequestStatus.ACCEPTED
                await tx.move_requests([RequestMove(request_id, request.status, new, reason)])

    async def of_task(self, task_id: UUID, error: Exception) -> None:
        """Count that a task could not be handed out."""
        about = {"task_id": task_id}
        log.warning("task %s: %s", task_id, error, exc_info=not isinstance(error, ChargehandError), extra=about)
        async with self._store.transaction() as tx:
            times, status, request_id = await tx.count_task_failure(task_id)
            if status is not TaskStatus.READY or times < self._limit:
                return
            await tx.lock_requests([request_id])
            reason = f"failed {times} times before it could be handed out: {_first_line(error)}"
            await tx.move_tasks([TaskMove(task_id, request_id, status, TaskStatus.IN_REVIEW, reason)])
            await tx.add_review(Review(request_id, "quarantine", reason, {}, task_id))
            await self._recorder.settle(tx, [request_id])


async def to_review(
    tx: Transaction, request: RequestRecord, kind: ReviewKind, reason: str, context: Mapping[str, object]
) -> None:
    """Hand a request to a person, with its words."""
    await tx.add_review(Review(request.request_id, kind, reason, {"wording": request.wording, **context}))
    await tx.move_requests([RequestMove(request.request_id, request.status, RequestStatus.IN_REVIEW, reason)])


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
