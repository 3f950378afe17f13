"""`status`, `watch`, `logs`, `why`, `requests`: what became of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.cli.flows.run_mode import RunMode
from chargehand.cli.options import AsJson, RequestId, launch
from chargehand.cli.terminal.exit_codes import DONE
from chargehand.domain.states import REQUEST_ENDED, RequestStatus

if TYPE_CHECKING:
    from uuid import UUID

    from chargehand.app.history import HistoryEvent
    from chargehand.cli.flows.context import Context

group = typer.Typer()

MaybeId = Annotated[str | None, typer.Argument(metavar="[ID]", help="A request's id, or its first characters.")]
AnyId = Annotated[str, typer.Argument(metavar="ID", help="A request's or a task's id, or its first characters.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Continue until the request ends.")]
Output = Annotated[bool, typer.Option("--output", help="What the steps said, as far as it is kept.")]
Full = Annotated[bool, typer.Option("--full", help="With hashes, scores, thresholds and details.")]
InStatus = Annotated[RequestStatus | None, typer.Option("--status", help="Only requests in this status.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")]


@group.command()
def status(request: MaybeId = None, as_json: AsJson = False) -> int:
    """Show open requests, or one request's progress."""
    return launch(lambda context: _one(context, request) if request else _all(context), as_json=as_json)


@group.command()
def watch(request: RequestId, as_json: AsJson = False) -> int:
    """Follow a request; work on it if nobody does."""

    async def work(context: Context) -> int:
        from chargehand.cli.flows.conversation import Conversation

        return await Conversation(context, await context.app.request_id(request), RunMode()).on()

    return launch(work, as_json=as_json, working=True)


@group.command()
def logs(request: MaybeId = None, follow: Follow = False, output: Output = False, as_json: AsJson = False) -> int:
    """Show what happened to a request, event by event, or what its steps said."""
    if output:
        return launch(lambda context: _output(context, request), as_json=as_json)
    return launch(lambda context: _logs(context, request, follow=follow), as_json=as_json)


@group.command()
def why(request: AnyId, full: Full = False, as_json: AsJson = False) -> int:
    """Explain each decision about a request or task."""

    async def work(context: Context) -> int:
        from chargehand.app.json_view import trail_value
        from chargehand.cli.show.why import why_lines

        trail = await context.app.trail(await context.app.request_id(request))
        context.screen.show(*why_lines(trail, only=await context.app.task_id(request), full=full))
        context.screen.answer(trail_value(trail) if context.screen.as_json else None)
        return DONE

    return launch(work, as_json=as_json)


@group.command()
def requests(status: InStatus = None, limit: Limit = 50, as_json: AsJson = False) -> int:
    """List requests, newest first."""

    async def work(context: Context) -> int:
        from datetime import UTC, datetime

        from chargehand.app.json_view import request_line
        from chargehand.cli.show.request import request_list
        from chargehand.cli.terminal.lines import Line

        rows = await context.app.requests(status, limit)
        empty = [Line('There is none yet: chargehand run "what should be done"')]
        context.screen.show(*(request_list(rows, datetime.now(UTC)) if rows else empty))
        context.screen.answer({"requests": [request_line(row) for row in rows]})
        return DONE

    return launch(work, as_json=as_json)


async def _all(context: Context) -> int:
    from datetime import UTC, datetime

    from chargehand.app.json_view import request_line
    from chargehand.app.json_view import rows as values
    from chargehand.cli.show.lists import concern_lines
    from chargehand.cli.show.request import overview

    rows, reviews = await context.app.open_requests(), await context.app.reviews()
    concerns = await context.app.concerns()
    context.screen.show(*overview(rows, reviews, datetime.now(UTC)), *concern_lines(concerns))
    told = {"requests": [request_line(row) for row in rows], "reviews": len(reviews), "concerns": values(concerns)}
    context.screen.answer(told)
    return DONE


async def _one(context: Context, given: str) -> int:
    from datetime import UTC, datetime

    from chargehand.app.json_view import request_value
    from chargehand.cli.show.ending import ending_lines
    from chargehand.cli.show.request import head, standing
    from chargehand.cli.show.waiting import Around, waiting_lines

    found = await context.app.snapshot(await context.app.request_id(given))
    if found.request.status in REQUEST_ENDED:
        lines = head(found.request) + ending_lines(found.request, found.tasks, found.attempts, found.seconds)
    else:
        reviews = await context.app.reviews(found.request.request_id)
        lines = standing(found.request, found.tasks, found.attempts, reviews, found.questions)
        around = Around(found.request, found.attempts, datetime.now(UTC), context.app.settings.no_agent_timeout)
        lines += waiting_lines(found.tasks, around)
    context.screen.show(*lines)
    context.screen.answer(request_value(found))
    return DONE


async def _logs(context: Context, given: str | None, *, follow: bool) -> int:
    from chargehand.app.json_view import event_value
    from chargehand.cli.show.progress import log_line

    request_id = await _given_or_newest(context, given)
    events: list[HistoryEvent] = []
    while True:
        status = (await context.app.request(request_id)).status
        new = await context.app.events(request_id, events[-1].seq if events else 0)
        steps = {task.task_id: task.task_order for task in await context.app.tasks(request_id)}
        context.screen.show(*(log_line(event, steps.get(event.task_id) if event.task_id else None) for event in new))
        events += new
        if not follow or status in REQUEST_ENDED:
            break
        await context.changed()
    context.screen.answer({"request_id": str(request_id), "events": [event_value(event) for event in events]})
    return DONE


async def _output(context: Context, given: str | None) -> int:
    from chargehand.app.json_view import output_value
    from chargehand.cli.show.ending import output_lines

    found = await context.app.snapshot(await _given_or_newest(context, given))
    context.screen.show(*output_lines(found.tasks))
    context.screen.answer(output_value(found))
    return DONE


async def _given_or_newest(context: Context, given: str | None) -> UUID:
    from chargehand.domain.errors import UnknownId

    newest = await context.app.requests(limit=1)
    if given is None and not newest:
        raise UnknownId("there is no request yet", hint='chargehand run "what should be done" makes one.')
    return await context.app.request_id(given) if given else newest[0].request_id
