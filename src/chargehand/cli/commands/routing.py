"""`routing report`, `routing replay`: whether agents were chosen well, and what another policy would have done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.cli.options import AsJson, launch
from chargehand.cli.terminal.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from chargehand.cli.flows.context import Context

group = typer.Typer()
routing = typer.Typer(help="Report and replay routing decisions.", no_args_is_help=True)
group.add_typer(routing, name="routing")

Days = Annotated[float | None, typer.Option("--days", min=0, help="Only this many days back.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="At most this many, newest first.")]
Named = Annotated[
    str | None, typer.Option("--policy", metavar="POLICY", help="Use this policy instead of the stored one.")
]


@routing.command()
def report(days: Days = None, limit: Limit = 100_000, as_json: AsJson = False) -> int:
    """Show how routing turned out, beside the predictions."""

    async def work(context: Context) -> int:
        from chargehand.app.json_view import appraisal_value
        from chargehand.cli.show.routing import appraisal_lines

        found = await context.app.routing_report(days, limit)
        context.screen.show(*appraisal_lines(found))
        context.screen.answer(appraisal_value(found))
        return DONE

    return launch(work, as_json=as_json)


@routing.command()
def replay(policy: Named = None, days: Days = None, limit: Limit = 10_000, as_json: AsJson = False) -> int:
    """Repeat stored routing decisions from their facts."""

    async def work(context: Context) -> int:
        from chargehand.app.json_view import replay_value
        from chargehand.cli.show.routing import comparison_lines

        found = await context.app.routing_replay(policy, days, limit)
        context.screen.show(*comparison_lines(found))
        context.screen.answer(replay_value(found))
        return DONE if found.holds else FAILED

    return launch(work, as_json=as_json)
