"""`reviews`, `review`: what waits for a person, and what that person makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from chargehand.cli.flows.run_mode import RunMode
from chargehand.cli.options import AsJson, launch
from chargehand.cli.terminal.exit_codes import DONE, WAITS
from chargehand.domain.states import RequestStatus

if TYPE_CHECKING:
    from pathlib import Path

    from chargehand.cli.flows.context import Context

group = typer.Typer()

WhichReview = Annotated[str, typer.Argument(metavar="ID", help="A review's number, or a request's id.")]
Resume = Annotated[bool, typer.Option("--resume", help="Read everything again that no model could plan.")]
Retry = Annotated[bool, typer.Option("--retry", help="Read it again, or run the failed steps again.")]
Discard = Annotated[bool, typer.Option("--discard", help="Cancel the request.")]
Edit = Annotated[
    bool, typer.Option("--edit", help="Write its subtasks yourself in $EDITOR, see the plan, and agree to it or not.")
]
Given = Annotated[str | None, typer.Option("--from", metavar="FILE", help="Take its subtasks from a YAML file.")]


@group.command()
def reviews(resume: Resume = False, as_json: AsJson = False) -> int:
    """List what went wrong and waits for a person."""

    async def work(context: Context) -> int:
        from chargehand.app import json_view
        from chargehand.cli.show.lists import review_list

        if resume:
            return await _resume(context)
        waiting = await context.app.reviews()
        context.screen.show(*review_list(waiting))
        context.screen.answer({"reviews": json_view.rows(waiting)})
        return DONE

    return launch(work, as_json=as_json, working=resume)


@group.command()
def review(
    which: WhichReview,
    *,
    retry: Retry = False,
    discard: Discard = False,
    edit: Edit = False,
    given: Given = None,
    as_json: AsJson = False,
) -> int:
    """Show one review, or decide about it."""
    ways = {"retry": retry, "discard": discard, "edit": edit, "from": given}
    chosen = [way for way, wanted in ways.items() if wanted]
    if len(chosen) > 1:
        raise typer.BadParameter(f"--{chosen[0]} and --{chosen[1]} exclude each other")

    async def work(context: Context) -> int:
        request_id = await _request_of(context, which)
        if discard:
            await context.app.cancel(request_id, context.who)
            return await _followed(context, request_id)
        if retry:
            await context.app.retry(request_id, context.who)
        elif edit or given:
            await _write(context, request_id, given)
        else:
            return await _show(context, request_id)
        return await _followed(context, request_id)

    return launch(work, as_json=as_json, working=bool(retry or edit or given))


async def _request_of(context: Context, which: str) -> UUID:
    """Return the request that a review's number, or the beginning of its own id, names."""
    waiting = await context.app.reviews()
    number = next((review.request_id for review in waiting if str(review.review_id) == which), None)
    return number or await context.app.request_id(which)


async def _show(context: Context, request_id: UUID) -> int:
    from chargehand.app import json_view
    from chargehand.cli.show.lists import review_list
    from chargehand.cli.show.request import head
    from chargehand.cli.terminal.lines import Line

    waiting = await context.app.reviews(request_id)
    context.screen.show(*head(await context.app.request(request_id)), Line(""), *review_list(waiting))
    calls = await context.app.llm_calls(request_id)
    context.screen.answer({"reviews": json_view.rows(waiting), "calls": json_view.rows(calls)})
    return DONE


async def _followed(context: Context, request_id: UUID) -> int:
    from chargehand.cli.flows.conversation import Conversation

    return await Conversation(context, request_id, RunMode()).on()


async def _write(context: Context, request_id: UUID, given: str | None) -> None:
    """Have a person write the subtasks and plan them. Raises `BadDecomposition`; what was written is then kept."""
    from chargehand.cli.flows import plan_editor
    from chargehand.domain.errors import ChargehandError

    await _check_writable(context, request_id)
    await context.staffed()
    text = plan_editor.read_file(given) if given else await _edited(context, request_id)
    try:
        written = plan_editor.parsed(text)
        await context.app.write(request_id, written, context.who)
    except ChargehandError as error:
        if given is None:
            error.hint = f"{error.hint} {_kept(context, request_id, text)}".strip()
        raise
    context.screen.show(*plan_editor.planned_lines(written))


async def _check_writable(context: Context, request_id: UUID) -> None:
    """Raise `WrongStatus` before anybody writes what cannot be taken: a request with a plan is not read anew."""
    from chargehand.domain.errors import WrongStatus

    request = await context.app.request(request_id)
    unread = request.status in (RequestStatus.ASKING, RequestStatus.IN_REVIEW)
    if not unread or await context.app.plan(request_id):
        raise WrongStatus(
            f"request {request_id} is {request.status}: only the subtasks of one without a plan can be written",
            hint="`chargehand reject ID WORDS` has another plan made, `chargehand retry ID` runs failed steps again.",
        )


async def _edited(context: Context, request_id: UUID) -> str:
    import asyncio

    from chargehand.cli.flows import plan_editor

    request, calls = await context.app.request(request_id), await context.app.llm_calls(request_id)
    text = plan_editor.draft(request.wording, calls, await context.app.grants())
    context.screen.show(*plan_editor.opening_lines(request.wording))
    return await asyncio.to_thread(plan_editor.edited, text)


def _kept(context: Context, request_id: UUID, text: str) -> str:
    path: Path = context.app.settings.home / f"review-{str(request_id)[:8]}.yml"
    path.touch(mode=0o600)
    path.write_text(text)
    return f"What you wrote is in {path}: change it, then `chargehand review {str(request_id)[:8]} --from {path}`."


async def _resume(context: Context) -> int:
    """Have all of it read again, wait for it, and say what became of it."""
    from collections import Counter

    from chargehand.cli.terminal.lines import Line, count

    await context.staffed()
    again = await context.app.reread(context.who)
    with context.screen.waiting(f"Reading {count(len(again), 'request')} again ..."):
        statuses = await context.app.statuses(again)
        while {RequestStatus.ACCEPTED, RequestStatus.DECOMPOSING} & set(statuses.values()):
            await context.changed()
            statuses = await context.app.statuses(again)
    counted = Counter(statuses.values())
    told = ", ".join(f"{number} {status}" for status, number in sorted(counted.items())) or "there was none"
    context.screen.show(Line(f"Read again: {told}.", "good"))
    context.screen.answer({"requests": {str(request_id): status for request_id, status in statuses.items()}})
    return WAITS if counted[RequestStatus.IN_REVIEW] else DONE
