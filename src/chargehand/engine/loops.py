"""What keeps the steps going: one loop per step, woken by notifications and messages, and by the clock when those are
lost. A loop never dies of an error: it logs it, waits a little longer each time, and tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from chargehand.domain.errors import ChargehandError, StaleStatus, TransientError, Unstorable
from chargehand.domain.ports import EVENTS_QUEUE, HEARTBEATS_QUEUE, Broker, Delivery, Subscription
from chargehand.engine.engine import Engine
from chargehand.engine.sweep import Sweep

log = logging.getLogger("chargehand.engine.loops")

LONGEST_PAUSE = 15.0
"""Seconds between tries while something is broken: soon enough after a restart, seldom enough to read the log."""


MOST_READINGS = 500
"""Requests read at a time in one process: nearly all of them only wait for a model, and each holds some kilobytes."""


LONGEST_FLUSH = 5.0
"""Seconds to wait for the last results to be written when a process ends."""


class Wake:
    """Wakes who has something to do. Notifications name steps; a watcher is woken by every one of them."""

    def __init__(self) -> None:
        self._events: list[tuple[str | None, asyncio.Event]] = []

    def subscribe(self, step: str | None = None) -> asyncio.Event:
        """Return an event that is set when this step (None: anything) has something to do; its owner clears it."""
        event = asyncio.Event()
        self._events.append((step, event))
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Forget an event that nobody waits for any more."""
        self._events = [known for known in self._events if known[1] is not event]

    def steps(self, named: str) -> None:
        """Wake the steps named in a notification, and the watchers."""
        wanted = {None, *named.split()}
        for step, event in self._events:
            if step in wanted:
                event.set()

    def all(self) -> None:
        """Wake everybody: notifications may have been lost."""
        for _, event in self._events:
            event.set()


class Inbox:
    """Collects deliveries, so that whatever has come is applied in one transaction.

    `put_aside` records what the database can never hold; it returns when that is written. `keep`: what could not be
    applied because the database is away waits here for the next step. Handed back it would be counted by the broker,
    and the outage would make dead letters of results. What is only of use while it is new need not be kept.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[bytes]], Awaitable[None]],
        put_aside: Callable[[bytes, Unstorable], Awaitable[None]],
        most: int,
        *,
        keep: bool,
    ) -> None:
        self._apply, self._put_aside = apply, put_aside
        self._most, self._keep = most, keep
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()
        self._batch: list[Delivery] = []  # taken, and neither acknowledged nor handed back yet

    @property
    def idle(self) -> bool:
        """Whether everything that has come has been applied."""
        return self._waiting.empty() and not self._batch

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; it is acknowledged when its transaction has been committed."""
        self._waiting.put_nowait(delivery)

    async def step(self) -> None:
        """Wait for messages and apply what is there; a batch that fails is applied one by one.

        Raises `TransientError` for what is not the messages' fault.
        """
        if not self._batch:
            self._batch.append(await self._waiting.get())
        while len(self._batch) < self._most and not self._waiting.empty():
            self._batch.append(self._waiting.get_nowait())
        try:
            await self._apply_batch()
        except TransientError:
            if not self._keep:
                await self._settle([delivery.reject(requeue=True) for delivery in self._batch])
            raise

    async def _apply_batch(self) -> None:
        try:
            await self._apply([delivery.body for delivery in self._batch])
        except StaleStatus as error:
            await self._apply_singly(error)
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - tried alone, then counted by the broker
            await self._apply_singly(error)
        else:
            await self._settle([delivery.ack() for delivery in self._batch])

    async def _apply_singly(self, error: Exception) -> None:
        log.warning("%d messages failed together and are applied one by one: %s", len(self._batch), error)
        while self._batch:
            applied = await self._is_applied(self._batch[0])
            delivery = self._batch.pop(0)
            await (delivery.ack() if applied else delivery.reject(requeue=True))

    async def _is_applied(self, delivery: Delivery) -> bool:
        """Apply one message. Where it fails, the broker counts that, and at last puts it where a person looks."""
        try:
            await self._apply_or_put_aside(delivery.body)
        except StaleStatus as error:
            log.warning("a message comes again: %s", error)
        except TransientError:
            raise
        except Exception as error:
            log.warning("a message cannot be applied: %s", error, exc_info=not isinstance(error, ChargehandError))
        else:
            return True
        return False

    async def _apply_or_put_aside(self, body: bytes) -> None:
        try:
            await self._apply([body])
        except Unstorable as error:
            log.warning("a message cannot be stored as it is: %s", error)
            await self._put_aside(body, error)

    async def _settle(self, settled: Sequence[Awaitable[None]]) -> None:
        self._batch = []
        await asyncio.gather(*settled)


class Readings:
    """The requests that tiers are reading here, each in a task of its own: one that hangs holds up no other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._under_way: set[asyncio.Task[None]] = set()

    async def step(self) -> int:
        """Begin to read what waits. Returns how many requests were taken; waits for room when there is none."""
        while len(self._under_way) >= MOST_READINGS:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        room = min(self._engine.settings.batch_size, MOST_READINGS - len(self._under_way))
        claimed, known = await self._engine.claim(room)
        for request in claimed:
            task = asyncio.create_task(self._engine.understand(request, known), name=f"read {request.request_id}")
            self._under_way.add(task)
            task.add_done_callback(self._ended)
        return len(claimed)

    async def settled(self) -> None:
        """Return when nothing is being read here."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def end(self) -> None:
        """Stop reading; what was not finished is read again by whoever comes next."""
        await _end(list(self._under_way))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("%s: %s; it is read again when its claim has run out", task.get_name(), error)


class Loops:
    """All loops of one orchestrator process."""

    def __init__(self, engine: Engine, sweep: Sweep, broker: Broker, wake: Wake) -> None:
        self._engine = engine
        self._sweep = sweep
        self._broker = broker
        self._wake = wake
        self._tasks: list[asyncio.Task[None]] = []  # what receives and publishes
        self._working: list[asyncio.Task[None]] = []  # what makes new work of what is there
        self._inboxes: list[Inbox] = []
        self._readings = Readings(engine)
        self._subscriptions: list[Subscription] = []

    async def receive(self) -> None:
        """Start applying what agents send. Comes first, so that agents can register before work is planned."""
        size = self._engine.settings.batch_size
        engine = self._engine
        for queue, apply, keep in ((EVENTS_QUEUE, engine.record, True), (HEARTBEATS_QUEUE, engine.heartbeats, False)):
            inbox = Inbox(apply, engine.put_aside, size, keep=keep)
            await self._broker.declare(queue)
            self._inboxes.append(inbox)
            self._subscriptions.append(await self._broker.consume(queue, inbox.put, prefetch=size * 2))
            self._tasks.append(self._start(queue, inbox.step, idle=0.0))
        self._tasks.append(self._start("publish", self._engine.publish))

    async def work(self) -> None:
        """Start decomposing, dispatching and sweeping."""
        steps = (
            ("decompose", self._readings.step),
            ("dispatch", self._engine.dispatch),
            ("sweep", self._sweep.sweep),
        )
        self._working = [self._start(name, step) for name, step in steps]

    async def rest(self) -> None:
        """Start nothing new; go on receiving what agents still send."""
        await _end(self._working)
        await self._readings.end()

    async def settled(self) -> None:
        """Return when everything that agents have sent is written, or after `LONGEST_FLUSH`: it would be sent again."""
        quiet = 0
        async with _at_most(LONGEST_FLUSH):
            while quiet < 3:  # a delivery may be between the broker and the inbox
                await asyncio.sleep(0.02)
                quiet = quiet + 1 if all(inbox.idle for inbox in self._inboxes) else 0
        await self._chain_seals()

    async def _chain_seals(self) -> None:
        """Put what has just ended into the chain: it may be long until a process sweeps again."""
        try:
            await self._sweep.chain_seals()
        except ChargehandError as error:
            log.warning("the last seals are not in the chain yet: %s", error)

    async def stop(self) -> None:
        """End all loops; a step that is under way is rolled back and done again by whoever comes next."""
        for subscription in self._subscriptions:
            await subscription.stop()
        await _end(self._working)
        await self._readings.end()
        await _end(self._tasks)
        self._subscriptions.clear()

    def _start(
        self, name: str, step: Callable[[], Awaitable[int | None]], idle: float | None = None
    ) -> asyncio.Task[None]:
        wait = self._engine.settings.sweep_seconds if idle is None else idle
        return asyncio.create_task(self._forever(name, step, wait), name=f"chargehand {name}")

    async def _forever(self, name: str, step: Callable[[], Awaitable[int | None]], idle: float) -> None:
        woken = self._wake.subscribe(name)
        pause = 0.1
        while True:
            woken.clear()
            try:
                busy = await step()
                pause = 0.1
            except Exception as error:
                log.warning("%s: %s", name, error, exc_info=not isinstance(error, ChargehandError))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if idle and not busy:
                await _wait(woken, idle)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    async with _at_most(seconds):
        await event.wait()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()


@asynccontextmanager
async def _at_most(seconds: float) -> AsyncIterator[None]:
    """Leave the block after so many seconds at the latest, without an error."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        pass
