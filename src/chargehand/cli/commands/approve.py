"""`approve`, `reject`, `answer`, `cancel`, `retry`: what people decide about a request on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.cli.flows.run_mode import RunMode
from chargehand.cli.options import AsJson, RequestId, Yes, launch
from chargehand.cli.terminal.exit_codes import DONE
from chargehand.cli.terminal.lines import Line, short

if TYPE_CHECKING:
    from uuid import UUID

    from chargehand.cli.flows.context import Context

group = typer.Typer()

Digest = Annotated[str | None, typer.Option("--digest", metavar="DIGEST", help="Agree to exactly this plan, unasked.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Only agree, and leave the work to `watch`.")]
Done = Annotated[bool, typer.Option("--done", help="The step with the unknown outcome is done: you have looked.")]
Why = Annotated[str, typer.Option("--words", metavar="WORDS", help="Why you agree; kept with your approval.")]
Words = Annotated[str, typer.Argument(metavar="WORDS", help="What should be done instead.")]
Answer = Annotated[str, typer.Argument(metavar="WORDS", help="The whole request again, more plainly.")]


@group.command()
def approve(
    request: RequestId,
    *,
    yes: Yes = False,
    digest: Digest = None,
    words: Why = "",
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> int:
    """Show a plan, agree to exactly it, and carry it out."""

    async def work(context: Context) -> int:
        from chargehand.cli.flows.conversation import Conversation

        request_id = await context.app.request_id(request)
        run_mode = RunMode(yes=yes, digest=digest, wait=not no_wait, words=_text(words))
        return await Conversation(context, request_id, run_mode).on()

    return launch(work, as_json=as_json, working=not no_wait)


@group.command()
def reject(request: RequestId, words: Words = "", as_json: AsJson = False) -> int:
    """Reject a plan, or say what to plan instead."""

    async def work(context: Context) -> int:
        request_id = await context.app.request_id(request)
        await context.app.reject(request_id, context.who, _text(words))
        if not words:
            return await _decided(context, request_id, "Rejected. Nothing of it was run.")
        return await _planned_anew(context, request_id)

    return launch(work, as_json=as_json, working=bool(words))


@group.command()
def answer(request: RequestId, words: Answer, as_json: AsJson = False) -> int:
    """Say a request again, after it has asked."""

    async def work(context: Context) -> int:
        request_id = await context.app.request_id(request)
        await context.app.answer(request_id, _text(words), context.who)
        return await _planned_anew(context, request_id)

    return launch(work, as_json=as_json, working=True)


@group.command()
def cancel(request: RequestId, as_json: AsJson = False) -> int:
    """Stop a request and its running steps."""

    async def work(context: Context) -> int:
        request_id = await context.app.request_id(request)
        status = await context.app.cancel(request_id, context.who)
        ending = " Agents are ending its running steps." if status == "cancelling" else ""
        return await _decided(context, request_id, f"Request {short(request_id)} is {status}.{ending}")

    return launch(work, as_json=as_json)


@group.command()
def retry(request: RequestId, done: Done = False, yes: Yes = False, as_json: AsJson = False) -> int:
    """Continue a request from the failed step."""

    async def work(context: Context) -> int:
        from chargehand.cli.flows.conversation import Conversation

        request_id = await context.app.request_id(request)
        await context.staffed()
        seen = (await context.app.request(request_id)).event_count
        await context.app.retry(request_id, context.who, assume_done=done)
        return await Conversation(context, request_id, RunMode(yes=yes), after=seen).on()

    return launch(work, as_json=as_json, working=True)


async def _planned_anew(context: Context, request_id: UUID) -> int:
    from chargehand.cli.flows.conversation import Conversation

    return await Conversation(context, request_id, RunMode()).on()


async def _decided(context: Context, request_id: UUID, text: str) -> int:
    from chargehand.app.json_view import decided_value

    context.screen.show(Line(text, "good"))
    context.screen.answer(decided_value(await context.app.request(request_id)))
    return DONE


def _text(words: str) -> str:
    """Return what was typed; bytes that are no text become what `clean` refuses by name."""
    from chargehand.app.words import clean

    return clean(words) if words else ""
