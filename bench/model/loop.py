"""An event loop on simulated time. It runs several simulated processes, whose order a seed decides.

Each callback belongs to the process whose context it was scheduled in. Within a process callbacks run in order, as
asyncio promises; between processes any order is drawn. A killed process is simply never run again, as with `kill -9`:
no `finally`, no `except`. Each process has a clock of its own, which may be fast or slow.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


class Process:
    """One life of a simulated process. `rate` is how fast its clock runs."""

    __slots__ = ("alive", "context", "name", "rate", "ready", "waiting")

    def __init__(self, name: str, rate: float = 1.0) -> None:
        self.name, self.rate = name, rate
        self.alive = True
        self.ready: deque[Handle] = deque()
        self.waiting = False  # whether it stands among those that have something to run
        self.context = copy_context()
        self.context.run(PROCESS.set, self)

    def __repr__(self) -> str:
        return self.name


PROCESS: ContextVar[Process] = ContextVar("process")


class Handle:
    """A callback that is to be run, now or at a time."""

    __slots__ = ("args", "callback", "context", "process", "stopped", "when_local")

    def __init__(self, process: Process, context: Context, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.process, self.context, self.callback, self.args = process, context, callback, args
        self.stopped = False
        self.when_local = 0.0

    def cancel(self) -> None:
        self.stopped = True
        self.callback, self.args = _nothing, ()

    def cancelled(self) -> bool:
        return self.stopped

    def when(self) -> float:
        return self.when_local


_AnyLoop: Any = asyncio.AbstractEventLoop  # the part of it that asyncio itself needs is defined here


class SimulatedLoop(_AnyLoop):  # type: ignore[misc]
    """Runs everything that is ready before time moves on, to whatever is due next."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0  # seconds since the beginning, by the database's clock
        self.steps = 0
        self.complaints: list[dict[str, Any]] = []  # what asyncio complained of
        self._random = random
        self._busy: list[Process] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._number = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []
        self._current: Process = Process("nobody")

    # --- what asyncio asks of a loop ---------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now * self._current.rate

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None, **_: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = self._handle(callback, args, context)
        self._make_ready(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_soon(callback, *args, context=context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = self._handle(callback, args, context)
        rate = handle.process.rate
        at = self.now + max(delay, 0.0) / rate
        handle.when_local = at * rate
        heapq.heappush(self._timers, (at, next(self._number), handle))
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Run it on a turn of its own, so that the process may die before it, and after it."""
        future = self.create_future()
        self.call_soon(_run_into, future, func, args)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.complaints.append(context)

    # --- what the simulation asks of it ------------------------------------------------------------------------------

    def run(self, done: Callable[[], bool], until: float, most_steps: int) -> str:
        """Run until `done`, or that time, or so many steps; return which: done, time, steps, idle."""
        with _in_place_of_any(self):
            while self.now <= until:
                if self.steps >= most_steps:
                    return "steps"
                if done():
                    return "done"
                if not self._step():
                    return "idle"
            return "time"

    def start(self, process: Process, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a process."""
        return self.create_task(coroutine, context=process.context)

    def kill(self, process: Process) -> None:
        """Never run anything of this process again."""
        process.alive = False
        process.ready.clear()

    def leave(self) -> None:
        """Close what is left of every coroutine, so that nothing of it is run when memory is freed."""
        with _in_place_of_any(self):
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to
                    _close(task)
        self._tasks.clear()
        self._timers.clear()
        self._busy.clear()
        self.complaints.clear()

    def _handle(self, callback: Any, args: tuple[Any, ...], context: Context | None) -> Handle:
        context = copy_context() if context is None else context
        return Handle(context.get(PROCESS, self._current), context, callback, args)

    def _make_ready(self, handle: Handle) -> None:
        process = handle.process
        if not process.alive:
            return
        process.ready.append(handle)
        if not process.waiting:
            process.waiting = True
            self._busy.append(process)

    def _step(self) -> bool:
        """Run one callback, or move the time on; False when there is nothing left to come."""
        if not self._busy:
            return self._next_moment()
        place = int(self._random.random() * len(self._busy))
        process = self._busy[place]
        if not process.ready:
            self._rest(process, place)
            return True
        handle = process.ready.popleft()
        if not process.ready:
            self._rest(process, place)
        if not handle.stopped:
            self.steps += 1
            self._current = process
            try:
                handle.context.run(handle.callback, *handle.args)
            except Exception as error:  # noqa: BLE001 - as any event loop does
                self.complaints.append({"message": "a callback failed", "exception": error})
        return True

    def _rest(self, process: Process, place: int) -> None:
        process.waiting = False
        self._busy[place] = self._busy[-1]
        self._busy.pop()

    def _next_moment(self) -> bool:
        while self._timers and (self._timers[0][2].stopped or not self._timers[0][2].process.alive):
            heapq.heappop(self._timers)
        if not self._timers:
            return False
        self.now = max(self.now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self.now:
            handle = heapq.heappop(self._timers)[2]
            if not handle.stopped:
                self._make_ready(handle)
        return True


@contextmanager
def _in_place_of_any(loop: SimulatedLoop) -> Iterator[None]:
    """Be the running loop, and take no notice of what another one does with generators that are left."""
    outer, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
    asyncio._set_running_loop(loop)
    sys.set_asyncgen_hooks(None, None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)
        sys.set_asyncgen_hooks(*hooks)


def _nothing(*_: Any) -> None:
    return None


def _run_into(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        future.set_result(func(*args))
    except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
        future.set_exception(error)


def _close(task: asyncio.Task[Any]) -> None:
    coroutine = task.get_coro()
    try:
        if coroutine is not None:
            coroutine.close()
    except RuntimeError:
        pass  # it waited for something while it was closed; nothing runs on
