"""Everything one agent answers for: what waits, what runs, and results that nobody has recorded yet."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable
from uuid import UUID, uuid4

from chargehand.agent.processes import orphans
from chargehand.agent.runtime.attempt import Attempt, Surroundings
from chargehand.agent.runtime.control_messages import Cancel, StartGrant
from chargehand.agent.runtime.journal import Accepted, Entry, Finished, Forgotten
from chargehand.agent.runtime.reports import Trace
from chargehand.agent.runtime.results import Ending, ended, unknown
from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import DiskFull
from chargehand.domain.messages import Failure, WorkOrder, WorkResult

log = logging.getLogger("chargehand.agent")

WAITING_PER_SLOT = 4
"""Orders that may wait per slot: the orchestrator counts slots, so more than a few means that it has lost count."""
CANCELS_REMEMBERED = 1_000  # of orders that have not come; some never will
SILENCE = 8
"""Heartbeats after which what has had no answer is repeated for good; before, with the first, the second, the fourth.
An orchestrator that is slow must not be made slower: repeating everything with every heartbeat kept a busy one busy."""
RESENT_AT_ONCE = 100
"""Results repeated with one heartbeat, so that a long outage does not end in a flood."""


class Attempts:
    """The attempts of one incarnation of an agent."""

    def __init__(self, around: Surroundings) -> None:
        self._around, self._journal = around, around.journal
        self.held: dict[UUID, Attempt] = {}
        self._unwritten: dict[UUID, WorkResult] = {}  # results the journal could not take
        self._traces: dict[UUID, Trace] = {}  # of unrecorded results
        self._cancelled_early: dict[UUID, Cancel] = {}  # the control queue may overtake the orders
        self._recovering: dict[UUID, asyncio.Task[None]] = {}
        self._unanswered: dict[UUID, int] = {}  # heartbeats since it was said and arrived
        self._sweeping: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> tuple[UUID, ...]:
        """Attempts whose lease this agent needs."""
        return (*self.held, *self._recovering)

    async def take(self, order: WorkOrder, trace: Trace) -> None:
        """Accept an order, or answer one that came before. When this returns, it may be acknowledged.

        Raises `DiskFull` or OSError when the journal cannot take it: then it is not accepted.
        """
        key = order.attempt_id
        if key in self.held or key in self._recovering or self._journal.is_forgotten(key):
            return
        if (result := self._result_of(key)) is not None:
            await self._send(result)
            return
        full = self._is_full()
        attempt = self.held[key] = Attempt(order, trace, self._around, self._done)
        try:
            await self._journal.write(Accepted(order=order, trace_id=trace.trace_id, request_id=trace.request_id))
        except (DiskFull, OSError, asyncio.CancelledError):
            del self.held[key]
            raise
        if (refusal := self._refusal(order, full=full)) is not None:
            attempt.refuse(refusal)
        else:
            attempt.begin()

    def recover(self) -> None:
        """Go on with what an earlier life left: start it, ask again, or say that its outcome is unknown."""
        for entry in tuple(self._journal.entries.values()):
            if entry.result is not None:
                self._traces[entry.attempt_id] = _trace_of(entry)
            elif entry.started is not None:
                task = asyncio.create_task(self._report_unknown(entry), name=f"recover {entry.attempt_id}")
                self._recovering[entry.attempt_id] = task
            elif entry.accepted is not None:
                order = entry.accepted.order
                attempt = self.held[order.attempt_id] = Attempt(order, _trace_of(entry), self._around, self._done)
                attempt.begin()

    def grant(self, grant: StartGrant) -> None:
        if (attempt := self.held.get(grant.attempt_id)) is not None:
            attempt.grant(grant)

    def cancel(self, cancel: Cancel) -> None:
        attempt = self.held.get(cancel.attempt_id)
        if attempt is None:
            self._cancelled_early[cancel.attempt_id] = cancel
            if len(self._cancelled_early) > CANCELS_REMEMBERED:
                del self._cancelled_early[next(iter(self._cancelled_early))]
        elif attempt.order.lease_token == cancel.lease_token:
            attempt.end("cancel", cancel.reason)

    def recorded(self, attempt_ids: Iterable[UUID]) -> None:
        """Forget results that are in the database, and the directories they were made in."""
        known = tuple(key for key in attempt_ids if self._result_of(key) is not None)
        if known:
            self._journal.note(Forgotten(attempt_ids=known))
        for key in known:
            self._unwritten.pop(key, None)
            self._unanswered.pop(key, None)
            self._traces.pop(key, None)
            self._sweep(key)

    def renewed(self, attempt_ids: Iterable[UUID], sent_at: float) -> None:
        """Note a confirmed heartbeat that named these attempts."""
        for key in attempt_ids:
            if (attempt := self.held.get(key)) is not None:
                attempt.renewed(sent_at)

    async def repeat(self) -> None:
        """Say again what has had no answer: results that are not recorded, questions for leave to start."""
        for attempt in tuple(self.held.values()):
            if attempt.phase == "asking" and self._is_due(attempt.order.attempt_id):
                await attempt.ask()
        for result in tuple(self._unwritten.values()):
            await self._write(result)
        unrecorded = {key: entry.result for key, entry in self._journal.entries.items() if entry.result is not None}
        sent = 0
        for key, result in {**unrecorded, **self._unwritten}.items():
            if sent < RESENT_AT_ONCE and self._is_due(key):
                sent += 1
                await self._send(result)

    async def end(self, why: Ending, *, only_unstarted: bool = False) -> None:
        """End every attempt (or only those that have not started), and wait until all are over."""
        for attempt in tuple(self.held.values()):
            if not (only_unstarted and attempt.phase == "running"):
                attempt.end(why)
        if why == "stop":  # the next life waits for the leftovers instead
            for recovery in self._recovering.values():
                recovery.cancel()
        over = {attempt.task for attempt in self.held.values() if attempt.task} | set(self._recovering.values())
        if over:
            await asyncio.wait(over)
        if self._sweeping:
            await asyncio.wait(set(self._sweeping))

    async def _report_unknown(self, entry: Entry) -> None:
        folder = self._around.folder / str(entry.attempt_id)
        settled = await orphans.settle(folder)
        words = "the agent died while it ran" + ("" if settled else "; something it started may still be running")
        started = entry.started
        assert started is not None
        result = WorkResult(
            attempt_id=entry.attempt_id,
            lease_token=started.lease_token,
            ok=False,
            summary=words,
            failure=unknown(words),
            difficulty="failed",
        )
        self._traces[entry.attempt_id] = _trace_of(entry)
        await self._write(result)
        del self._recovering[entry.attempt_id]
        await self._send(result)

    async def _done(self, attempt: Attempt, result: WorkResult) -> None:
        self._traces[attempt.order.attempt_id] = attempt.trace
        await self._write(result)
        del self.held[attempt.order.attempt_id]
        self._unanswered.pop(attempt.order.attempt_id, None)  # that was its question
        await self._send(result)

    async def _write(self, result: WorkResult) -> None:
        """Put a result into the journal; if that fails keep it in memory, and try again with the next heartbeat."""
        try:
            await self._journal.write(Finished(result=result))
            self._unwritten.pop(result.attempt_id, None)
        except (DiskFull, OSError) as error:
            log.error("a result is kept in memory only: %s", error)
            self._unwritten[result.attempt_id] = result

    async def _send(self, result: WorkResult) -> None:
        arrived = await self._around.reports.send(MessageType.WORK_RESULT, result, self._traces.get(result.attempt_id))
        if not arrived:
            self._unanswered.pop(result.attempt_id, None)  # nobody can have answered: again with the next heartbeat

    def _is_due(self, key: UUID) -> bool:
        """Count a heartbeat without an answer, and return whether to say it again with this one."""
        beats = self._unanswered[key] = self._unanswered.get(key, 0) + 1
        return beats in (1, 2, 4) or beats % SILENCE == 0

    def _result_of(self, key: UUID) -> WorkResult | None:
        entry = self._journal.entries.get(key)
        return self._unwritten.get(key) or (entry.result if entry is not None else None)

    def _refusal(self, order: WorkOrder, *, full: bool) -> Failure | None:
        cancel = self._cancelled_early.pop(order.attempt_id, None)
        if cancel is not None and cancel.lease_token == order.lease_token:
            return ended("cancel", started=False, words=cancel.reason)
        if full:
            words = f"agent {self._around.agent.name} has too many orders waiting; nothing was started"
            return Failure(kind="retryable", message=words, details={"started": False})
        return None

    def _is_full(self) -> bool:
        waiting = sum(attempt.phase == "waiting" for attempt in self.held.values())
        return waiting >= WAITING_PER_SLOT * self._around.agent.slots

    def _sweep(self, key: UUID) -> None:
        folder = self._around.folder / str(key)
        if folder.exists():
            task = asyncio.create_task(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
            self._sweeping.add(task)
            task.add_done_callback(self._sweeping.discard)


def _trace_of(entry: Entry) -> Trace:
    if entry.accepted is None:  # its line was torn; the result still finds its attempt
        return Trace(uuid4())
    return Trace(entry.accepted.trace_id, entry.accepted.request_id)
