"""What keeps the steps going: one loop per step, woken by notifications and messages, and by the clock when those are
lost. A loop never dies of an error: it logs it, waits a little longer each time, and tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from chargehand.domain.errors import ChargehandError, TransientError
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
    """Collects deliveries, so that whatever has come is applied in one transaction."""

    def __init__(self, apply: Callable[[Sequence[bytes]], Awaitable[None]], most: int) -> None:
        self._apply = apply
        self._most = most
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()
        self._applying = False

    @property
    def idle(self) -> bool:
        """Whether everything that has come has been applied."""
        return self._waiting.empty() and not self._applying

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; it is acknowledged when its transaction has been committed."""
        self._waiting.put_nowait(delivery)

    async def step(self) -> None:
        """Wait for messages and apply what is there; a batch that fails is applied one by one."""
        batch = [await self._waiting.get()]
        while len(batch) < self._most and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        self._applying = True
        try:
            await self._apply_batch(batch)
        finally:
            self._applying = False

    async def _apply_batch(self, batch: Sequence[Delivery]) -> None:
        try:
            await self._apply([d.body for d in batch])
        except TransientError:
            await asyncio.gather(*(d.reject(requeue=True) for d in batch))
            raise
        except Exception as error:  # noqa: BLE001 - tried alone, then counted by the broker
            log.warning("%d messages failed together and are applied one by one: %s", len(batch), error)
            for delivery in batch:
                await self._apply_alone(delivery)
        else:
            await asyncio.gather(*(d.ack() for d in batch))

    async def _apply_alone(self, delivery: Delivery) -> None:
        try:
            await self._apply([delivery.body])
        except Exception as error:
            # The broker counts deliveries and puts a message that never succeeds aside, for a person to look at.
            log.warning("a message cannot be applied: %s", error, exc_info=True)
            await delivery.reject(requeue=True)
        else:
            await delivery.ack()


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
        for queue, apply in ((EVENTS_QUEUE, self._engine.record), (HEARTBEATS_QUEUE, self._engine.heartbeats)):
            inbox = Inbox(apply, size)
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
