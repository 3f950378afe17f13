"""The life of one attempt, from the order to the result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from chargehand.agent.offers import Agent, Call, Offer, Returned
from chargehand.agent.processes.meter import Meter
from chargehand.agent.runtime.control_messages import StartGrant
from chargehand.agent.runtime.journal import Journal, Started
from chargehand.agent.runtime.lease import Lease
from chargehand.agent.runtime.progress import Feed, Said
from chargehand.agent.runtime.reports import Reports, Trace
from chargehand.agent.runtime.results import Ending, ended, failed, failure_of, measured, redacted, succeeded, unknown
from chargehand.agent.secrets.lookup import Chain, Secrets
from chargehand.agent.work import Work
from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import ContentChanged, TaskFailed, TaskInterrupted
from chargehand.domain.messages import Acceptance, Failure, Progress, WorkOrder, WorkResult
from chargehand.domain.risks import RISKS

log = logging.getLogger("chargehand.agent")

STUBBORN = 12.0
"""Seconds that work may take to end when told to: its programs get 2, their killing 8, the rest is its own."""


@dataclass(frozen=True)
class Surroundings:
    """What all attempts of one agent share. `slots` is how many run at a time, `feed` passes on what they say."""

    agent: Agent
    journal: Journal
    reports: Reports
    incarnation: str
    folder: Path
    slots: asyncio.Semaphore
    feed: Callable[[Callable[[Said], Awaitable[object]]], Feed] = Feed
    secrets: Secrets = field(default_factory=lambda: Secrets(Chain()))
    meter: Meter = field(default_factory=Meter)


class Attempt:
    """One order while the agent answers for it. It always ends with a result, handed to `done`."""

    def __init__(
        self,
        order: WorkOrder,
        trace: Trace,
        around: Surroundings,
        done: Callable[[Attempt, WorkResult], Awaitable[None]],
    ) -> None:
        self.order, self.trace = order, trace
        self.phase: Literal["waiting", "asking", "running", "ended"] = "waiting"
        self._ids = {"attempt_id": order.attempt_id, "task_id": order.task_id, "trace_id": trace.trace_id}
        self._ids |= {"request_id": trace.request_id} if trace.request_id else {}
        self.error: BaseException | None = None  # what the work raised; its result has only the words
        self._around, self._done = around, done
        self._loop = asyncio.get_running_loop()
        self._lease = Lease(order.lease_seconds, self._loop.time())
        self._feed = around.feed(self._send_progress)
        self._work = Work(order, around.folder / str(order.attempt_id), self._feed, self._lease, around.secrets)
        self._granted: asyncio.Future[None] = self._loop.create_future()
        self._asked_at: float | None = None
        self._given_up: asyncio.Future[None] = self._loop.create_future()
        self._ending: tuple[Ending, str] | None = None
        self._started_at = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._steps: asyncio.Task[Returned] | None = None
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Go through the steps in the background."""
        self._steps = asyncio.create_task(self._go(), name=f"attempt {self.order.attempt_id}")
        self.task = asyncio.create_task(self._conclude(), name=f"result of {self.order.attempt_id}")
        self._watch_lease()

    def refuse(self, failure: Failure) -> None:
        """End it before it began."""
        self.task = asyncio.create_task(self._finish(failed(self.order, failure)))

    def grant(self, grant: StartGrant) -> None:
        """Let work that is not safe to repeat begin, if it asked, in this life, under this lease."""
        ours = grant.incarnation in (None, self._around.incarnation)
        if ours and self.phase == "asking" and grant.lease_token == self.order.lease_token:
            self._lease.seconds = grant.lease_seconds
            if not self._granted.done():
                self._granted.set_result(None)

    def end(self, why: Ending, words: str = "") -> None:
        """End it: its programs with all their descendants, then the function. The first reason counts."""
        if self._ending is not None or self.phase == "ended" or self._steps is None:
            return
        log.info("ending attempt %s: %s", self.order.attempt_id, why, extra=self._ids)
        self._ending = (why, words)
        self._work.end_programs()
        self._steps.cancel()
        self._after("stubborn", STUBBORN, self._give_up)

    def renewed(self, sent_at: float) -> None:
        """Note that a heartbeat sent at `sent_at` and naming this attempt was confirmed."""
        self._lease.renew(sent_at)
        self._work.renew_programs()

    async def ask(self) -> None:
        """Tell the orchestrator that the order is in the journal; with a slot in hand, ask for leave to start."""
        acceptance = Acceptance(
            attempt_id=self.order.attempt_id,
            lease_token=self.order.lease_token,
            incarnation=self._around.incarnation,
            needs_grant=self.phase == "asking",
        )
        await self._around.reports.send(MessageType.WORK_ACCEPTED, acceptance, self.trace)

    async def _go(self) -> Returned:
        offer, parameters = self._checked()
        if self._around.slots.locked():
            await self.ask()  # it will wait; otherwise its beginning, or its result, says as much
        async with self._around.slots:
            if not self.order.retry_safe:
                await self._leave_to_start()
            await self._check_content(offer)
            call = await self._bound(offer, parameters)
            await self._around.journal.write(
                Started(
                    attempt_id=self.order.attempt_id,
                    lease_token=self.order.lease_token,
                    incarnation=self._around.incarnation,
                )
            )
            return await self._run(call)

    def _checked(self) -> tuple[Offer, dict[str, JsonValue]]:
        offer = self._around.agent.find(self.order.intent)
        if offer is None:
            raise TaskFailed(f"agent {self._around.agent.name} does not offer {self.order.intent}")
        if offer.spec.unavailable is not None:
            raise TaskInterrupted(f"{self.order.intent} is unavailable here: {offer.spec.unavailable}")
        if self.order.dry_run and not offer.spec.dry_run and RISKS[offer.spec.risk].changes:
            raise TaskFailed(f"{self.order.intent} has no dry run, and running it would change something")
        return offer, offer.check(self.order.parameters)

    async def _bound(self, offer: Offer, parameters: dict[str, JsonValue]) -> Call:
        """Return what runs the work; from here on it has the values of its secrets."""
        if offer.takes_secrets:
            self._work.parameters = await self._around.secrets.filled_in(offer.spec.parameters, parameters)
            return offer.bind(self._work.parameters)
        return offer.bind(parameters)

    async def _leave_to_start(self) -> None:
        self.phase = "asking"
        self._asked_at = self._loop.time()
        # A lease's length: the orchestrator has had several heartbeats to answer, so it does not mean to.
        self._after("grant", self.order.lease_seconds, lambda: self.end("no_grant"))
        await self.ask()
        await self._granted
        self._timers.pop("grant").cancel()

    async def _check_content(self, offer: Offer) -> None:
        """Raise `ContentChanged` unless what would run is what was approved."""
        if not self.order.content_hash:
            return
        source = offer.spec.source or offer.spec.intent
        try:
            now = offer.bound_hash() if offer.content is None else await asyncio.to_thread(offer.bound_hash)
        except OSError as error:
            raise ContentChanged(f"{source} cannot be read any more: {error.strerror}") from error
        if now != self.order.content_hash:
            named = await asyncio.to_thread(offer.difference, self.order.content_hash) if offer.difference else ""
            what = f"{source} is not what was approved: {named}" if named else f"{source} was changed"
            raise ContentChanged(f"{what} after the plan was approved; nothing was run")

    async def _run(self, call: Call) -> Returned:
        self.phase = "running"
        self._work.measure(self._around.meter)
        self._started_at = self._loop.time()
        # Where leave was asked for, its time counts from then: the orchestrator counts from when it gave it, and must
        # not be first to think that it is over.
        waited = 0.0 if self._asked_at is None else self._started_at - self._asked_at
        self._after("deadline", max(0.0, self.order.deadline_seconds - waited), self._too_late)
        self._feed.say(Said(f"{self.order.name or self.order.intent}: started", started=True))
        try:
            return await call(self._work)
        except SystemExit as error:  # asyncio would take the whole agent down with it
            raise TaskFailed(f"the work called sys.exit({error.code!r})") from error

    def _give_up(self) -> None:
        if not self._given_up.done():
            self._given_up.set_result(None)

    def _too_late(self) -> None:
        self.end("deadline", f"{self.order.deadline_seconds:g} s")

    async def _conclude(self) -> None:
        assert self._steps is not None
        ends: set[asyncio.Future[Any]] = {self._steps, self._given_up}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await self._finish(self._result(self._steps))

    def _result(self, steps: asyncio.Task[Returned]) -> WorkResult:
        started = self.phase == "running"
        took = round((self._loop.time() - self._started_at) * 1000) if started else 0
        if not steps.done() or not self._work.all_ended:
            steps.add_done_callback(_look_at)
            return failed(self.order, unknown("it was told to end and did not; it may still be running"), took)
        error = self.error = None if steps.cancelled() else steps.exception()
        if self._ending is not None and (steps.cancelled() or error is not None):
            why, words = self._ending
            return failed(self.order, ended(why, started=started, words=words), took)
        if steps.cancelled():
            return failed(self.order, unknown("the work cancelled itself"), took)
        if error is not None:
            log.warning("attempt %s failed: %s", self.order.attempt_id, type(error).__name__, extra=self._ids)
            return failed(self.order, failure_of(error), took)
        return succeeded(self.order, steps.result(), took)

    async def _finish(self, result: WorkResult) -> None:
        self.phase = "ended"
        for timer in self._timers.values():
            timer.cancel()
        await self._feed.close()
        result = measured(result, self._work.measured())
        await self._done(self, redacted(result, self._around.secrets.redactor))

    def _watch_lease(self) -> None:
        """End the work when the lease is lost; renewals only move the time, the timer looks again by itself."""
        left = self._lease.lost_at - self._loop.time()
        if left <= 0:
            self.end("lease")
        else:
            self._after("lease", left, self._watch_lease)

    def _after(self, name: str, seconds: float, call: Callable[[], object]) -> None:
        self._timers[name] = self._loop.call_later(seconds, call)

    async def _send_progress(self, said: Said) -> None:
        progress = Progress(
            attempt_id=self.order.attempt_id,
            lease_token=self.order.lease_token,
            message=said.message,
            data=said.data,
            started=said.started,
        )
        await self._around.reports.send(MessageType.WORK_PROGRESS, progress, self.trace)


def _look_at(task: asyncio.Task[Returned]) -> None:
    """Note how work ended after its result was given, so that asyncio does not complain that nobody looked."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("work that did not end when told to failed later: %s", type(error).__name__)
