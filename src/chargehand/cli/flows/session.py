"""From a command to an exit code: settings, log, signals, the application, and closing all of it in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from chargehand import settings as configuration
from chargehand.app.application import open_application
from chargehand.app.worker import Worker, worker_beside
from chargehand.cli.flows.context import Context
from chargehand.cli.terminal.exit_codes import INTERRUPTED
from chargehand.cli.terminal.interrupts import Interrupted, Interrupts
from chargehand.cli.terminal.lines import count, short
from chargehand.cli.terminal.logfile import log_to
from chargehand.cli.terminal.screen import Screen
from chargehand.settings import Settings

Work = Callable[[Context], Awaitable[int]]


def run(work: Work, *, as_json: bool = False, working: bool = False) -> int:
    """Do one command's work with an open application and return its exit code.

    With `working` this process also runs the loops and the local agent, unless another one does. Raises what
    `open_office` and the work raise.
    """
    settings = configuration.load()
    log_to(settings.home, settings.log_format)
    return asyncio.run(_attended(work, settings, Screen(as_json=as_json), working=working))


async def _attended(work: Work, settings: Settings, screen: Screen, *, working: bool) -> int:
    interrupts = Interrupts()
    interrupts.listen()
    async with AsyncExitStack() as stack:
        try:
            app = await interrupts.unless_asked(stack.enter_async_context(open_application(settings)))
        except Interrupted:
            return INTERRUPTED
        context = Context(app, screen)
        if not working:
            return await _until_left(work, context, interrupts)
        async with worker_beside(app) as worker:
            context.worker = worker
            stack.push_async_callback(_settle, asyncio.create_task(_end_at_once(interrupts, worker)))
            return await _at_work(work, context, interrupts)


async def _until_left(work: Work, context: Context, interrupts: Interrupts) -> int:
    try:
        return await interrupts.unless_asked(_as_coroutine(work, context))
    except Interrupted:
        say_how_to_go_on(context)
        return INTERRUPTED


async def _at_work(work: Work, context: Context, interrupts: Interrupts) -> int:
    """Do the work; then let what this process's agent still runs come to its end, and say so."""
    try:
        return await _until_left(work, context, interrupts)
    finally:
        running = 0 if interrupts.insisted.is_set() else await context.in_flight()
        if running and interrupts.asked.is_set():
            context.screen.tell(f"Finishing running steps ({count(running, 'step')}); Ctrl-C again to stop at once.")
        elif running:
            context.screen.tell(f"Finishing {count(running, 'step')} of other requests; Ctrl-C twice to stop at once.")


async def _end_at_once(interrupts: Interrupts, worker: Worker) -> None:
    """Stop the worker without waiting for what runs, as soon as somebody insists."""
    await interrupts.insisted.wait()
    await worker.stop_at_once()


async def _settle(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _as_coroutine(work: Work, context: Context) -> int:
    return await work(context)


def say_how_to_go_on(context: Context) -> None:
    """Tell somebody who leaves that nothing is lost, and how to come back."""
    if context.request_id is not None:
        name = short(context.request_id)
        context.screen.leave_line()
        context.screen.tell(f"Request {name} is safe. Continue with: chargehand watch {name}")
