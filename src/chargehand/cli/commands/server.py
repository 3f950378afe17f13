"""`server`, `pause`, `resume`: running on real engines, and holding work back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.cli.options import AsJson, RequestId, launch
from chargehand.cli.terminal.exit_codes import DONE
from chargehand.cli.terminal.lines import Line, short

if TYPE_CHECKING:
    from chargehand.cli.flows.context import Context

group = typer.Typer()

Task = Annotated[
    str | None, typer.Option("--task", metavar="TASK", help="Only this step: its id or its first characters.")
]


@group.command()
def server() -> int:
    """Run a server until told to stop."""
    import asyncio

    from chargehand import settings
    from chargehand.app.application import needs_servers, open_application
    from chargehand.app.worker import serve, stop_signals
    from chargehand.cli.terminal.logfile import log_to
    from chargehand.cli.terminal.screen import Screen
    from chargehand.domain.errors import BadConfiguration

    loaded = settings.load()
    if not needs_servers(loaded):
        raise BadConfiguration(
            "a server needs a broker: CHARGEHAND_AMQP_URL is not set",
            hint="On one machine no server is needed: `chargehand run` and `chargehand watch` do the work themselves.",
        )
    log_to(loaded.home, loaded.log_format, also_to_stderr=True)

    async def until_told() -> None:
        stopping = stop_signals()
        async with open_application(loaded) as app:
            Screen().tell("The server is running; Ctrl-C or SIGTERM stops it cleanly.")
            await serve(app, stopping)

    asyncio.run(until_told())
    return DONE


@group.command()
def pause(request: RequestId, task: Task = None, as_json: AsJson = False) -> int:
    """Start no more steps; running steps finish."""
    return _hold(request, task, held=True, as_json=as_json)


@group.command()
def resume(request: RequestId, task: Task = None, as_json: AsJson = False) -> int:
    """Continue what was paused."""
    return _hold(request, task, held=False, as_json=as_json)


def _hold(request: str, task: str | None, *, held: bool, as_json: bool) -> int:
    async def work(context: Context) -> int:
        from chargehand.domain.errors import UnknownId

        request_id = await context.app.request_id(request)
        task_id = await context.app.task_id(task) if task else None
        if task and task_id is None:
            raise UnknownId(f"there is no step {task!r}", hint=f"`chargehand status {short(request_id)}` lists them.")
        status = await (context.app.pause if held else context.app.resume)(request_id, context.who, task_id)
        what = f"Step {short(task_id)}" if task_id else f"Request {short(request_id)}"
        context.screen.show(Line(f"{what} is {'held back' if held else 'going on'}; the request is {status}.", "good"))
        context.screen.answer({"request_id": str(request_id), "status": status})
        return DONE

    return launch(work, as_json=as_json)
