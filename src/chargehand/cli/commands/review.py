"""`reviews`, `review`: what waits for a person, and what that person makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from chargehand.cli.flows.run_mode import Manner
from chargehand.cli.options import AsJson, launch
from chargehand.cli.terminal.exit_codes import DONE, WAITS

if TYPE_CHECKING:
    from pathlib import Path

    from chargehand.cli.flows.context import Desk

group = typer.Typer()

WhichReview = Annotated[str, typer.Argument(metavar="ID", help="A review's number, or a request's id.")]
Resume = Annotated[bool, typer.Option("--resume", help="Have everything read again that no model could plan.")]
Retry = Annotated[bool, typer.Option("--retry", help="Have it read, or what failed run, again.")]
Discard = Annotated[bool, typer.Option("--discard", help="Cancel the request: nothing more of it happens.")]
Edit = Annotated[bool, typer.Option("--edit", help="Write its subtasks yourself, in $EDITOR.")]
Given = Annotated[str | None, typer.Option("--from", metavar="FILE", help="Take its subtasks from a YAML file.")]


@group.command()
def reviews(resume: Resume = False, as_json: AsJson = False) -> int:
    """List what went wrong and waits for a person."""

    async def work(desk: Desk) -> int:
        from chargehand.cli.show.lists import review_list

        if resume:
            return await _resume(desk)
        rows = await desk.views.reviews()
        desk.screen.show(*review_list(rows))
        desk.screen.answer({"reviews": [dict(row) for row in rows]})
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

    async def work(desk: Desk) -> int:
        request_id = await _request_of(desk, which)
        if discard:
            await desk.office.steering.cancel(request_id, desk.who)
            return await _followed(desk, request_id)
        if retry:
            await desk.office.steering.retry(request_id, desk.who)
        elif edit or given:
            await _write(desk, request_id, given)
        else:
            return await _show(desk, request_id)
        return await _followed(desk, request_id)

    return launch(work, as_json=as_json, working=bool(retry or edit or given))


async def _request_of(desk: Desk, which: str) -> UUID:
    """Return the request that a review's number, or the beginning of its own id, names."""
    rows = await desk.views.reviews()
    number = next((row["request_id"] for row in rows if str(row["review_id"]) == which), None)
    return number or await desk.views.request_id(which)


async def _show(desk: Desk, request_id: UUID) -> int:
    from chargehand.cli.show.lists import review_list
    from chargehand.cli.show.request import head
    from chargehand.cli.terminal.lines import Line

    rows = await desk.views.reviews(request_id)
    desk.screen.show(*head(await desk.views.request(request_id)), Line(""), *review_list(rows))
    calls = await desk.views.llm_calls(request_id)
    desk.screen.answer({"reviews": [dict(row) for row in rows], "calls": [dict(call) for call in calls]})
    return DONE


async def _followed(desk: Desk, request_id: UUID) -> int:
    from chargehand.cli.flows.conversation import Lead

    return await Lead(desk, request_id, Manner()).on()


async def _write(desk: Desk, request_id: UUID, given: str | None) -> None:
    """Have a person write the subtasks and plan them. Raises `BadDecomposition`; what was written is then kept."""
    from chargehand.cli.flows import plan_editor
    from chargehand.domain.errors import ChargehandError

    await desk.staffed()
    text = plan_editor.read_file(given) if given else await _edited(desk, request_id)
    try:
        await desk.office.steering.write(request_id, plan_editor.parsed(text), desk.who)
    except ChargehandError as error:
        if given is None:
            error.hint = f"{error.hint} {_kept(desk, request_id, text)}".strip()
        raise


async def _edited(desk: Desk, request_id: UUID) -> str:
    import asyncio

    from chargehand.cli.flows import plan_editor

    request, calls = await desk.views.request(request_id), await desk.views.llm_calls(request_id)
    offers = [row["spec"] for row in await desk.views.intents() if row["granted"] and not row["unavailable"]]
    return await asyncio.to_thread(plan_editor.edited, plan_editor.draft(request["wording"], calls, offers))


def _kept(desk: Desk, request_id: UUID, text: str) -> str:
    path: Path = desk.office.settings.home / f"review-{str(request_id)[:8]}.yml"
    path.touch(mode=0o600)
    path.write_text(text)
    return f"What you wrote is in {path}: change it, then `chargehand review {str(request_id)[:8]} --from {path}`."


async def _resume(desk: Desk) -> int:
    """Have all of it read again, wait for it, and say what became of it."""
    from collections import Counter

    from chargehand.cli.terminal.lines import Line, count

    await desk.staffed()
    again = await desk.office.steering.reread(desk.who)
    with desk.screen.waiting(f"Reading {count(len(again), 'request')} again ..."):
        statuses = await _statuses(desk, again)
        while {"accepted", "decomposing"} & set(statuses.values()):
            await desk.changed()
            statuses = await _statuses(desk, again)
    counted: dict[str, Any] = dict(Counter(statuses.values()))
    told = ", ".join(f"{number} {status}" for status, number in sorted(counted.items())) or "there was none"
    desk.screen.show(Line(f"Read again: {told}.", "good"))
    desk.screen.answer({"requests": statuses})
    return WAITS if counted.get("in_review") else DONE


async def _statuses(desk: Desk, wanted: list[UUID]) -> dict[str, str]:
    ids = set(wanted)
    rows = await desk.views.requests(limit=10_000) if ids else ()
    return {str(row["request_id"]): row["status"] for row in rows if row["request_id"] in ids}
