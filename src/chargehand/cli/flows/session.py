"""From a command to an exit code: settings, log, signals, the office, and leaving all of it in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from chargehand import settings as configuration
from chargehand.app.application import open_office
from chargehand.app.worker import Worker, worker_beside
from chargehand.cli.flows.context import Desk
from chargehand.cli.terminal.exit_codes import INTERRUPTED
from chargehand.cli.terminal.interrupts import Interrupted, Interrupts
from chargehand.cli.terminal.lines import count, short
from chargehand.cli.terminal.logfile import log_to
from chargehand.cli.terminal.screen import Screen
from chargehand.settings import Settings

Work = Callable[[Desk], Awaitable[int]]


def run(work: Work, *, as_json: bool = False, working: bool = False) -> int:
    """Do one command's work over an open office and return its exit code.

    With `working` this process also runs the loops and the local agent, unless another one does. Raises what
    `open_office` and the work raise.
    """
    settings = configuration.load()
    log_to(settings.home)
    return asyncio.run(_attended(work, settings, Screen(as_json=as_json), working=working))


async def _attended(work: Work, settings: Settings, screen: Screen, *, working: bool) -> int:
    interrupts = Interrupts()
    interrupts.listen()
    async with AsyncExitStack() as stack:
        try:
            office = await interrupts.unless_asked(stack.enter_async_context(open_office(settings)))
        except Interrupted:
            return INTERRUPTED
        desk = Desk(office, screen)
        if not working:
            return await _until_left(work, desk, interrupts)
        async with worker_beside(office) as worker:
            desk.worker = worker
            stack.push_async_callback(_settle, asyncio.create_task(_end_at_once(interrupts, worker)))
            return await _at_work(work, desk, interrupts)


async def _until_left(work: Work, desk: Desk, interrupts: Interrupts) -> int:
    try:
        return await interrupts.unless_asked(_as_coroutine(work, desk))
    except Interrupted:
        say_how_to_go_on(desk)
        return INTERRUPTED


async def _at_work(work: Work, desk: Desk, interrupts: Interrupts) -> int:
    """Do the work; then let what this process's agent still runs come to its end, and say so."""
    try:
        return await _until_left(work, desk, interrupts)
    finally:
        running = 0 if interrupts.insisted.is_set() else await desk.in_flight()
        if running and interrupts.asked.is_set():
            desk.screen.tell(f"Finishing what runs now ({count(running, 'step')}); Ctrl-C again to stop at once.")
        elif running:
            desk.screen.tell(f"Finishing {count(running, 'step')} of other requests; Ctrl-C twice to stop at once.")


async def _end_at_once(interrupts: Interrupts, worker: Worker) -> None:
    """Stop the worker without waiting for what runs, as soon as somebody insists."""
    await interrupts.insisted.wait()
    await worker.stop_at_once()


async def _settle(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _as_coroutine(work: Work, desk: Desk) -> int:
    return await work(desk)


def say_how_to_go_on(desk: Desk) -> None:
    """Tell somebody who leaves that nothing is lost, and how to come back."""
    if desk.request_id is not None:
        name = short(desk.request_id)
        desk.screen.leave_line()
        desk.screen.tell(f"Request {name} is safe. Go on with: chargehand watch {name}")
