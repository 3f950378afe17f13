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
        from dataclasses import asdict

        from chargehand.cli.show.routing import appraisal_lines
        from chargehand.routing.report import appraised

        found = appraised(await context.queries.routing(days, limit))
        context.screen.show(*appraisal_lines(found))
        context.screen.answer(asdict(found))
        return DONE

    return launch(work, as_json=as_json)


@routing.command()
def replay(policy: Named = None, days: Days = None, limit: Limit = 10_000, as_json: AsJson = False) -> int:
    """Repeat stored routing decisions from their facts."""

    async def work(context: Context) -> int:
        from dataclasses import asdict

        from chargehand.cli.show.routing import comparison_lines
        from chargehand.domain.plans import WorkTask
        from chargehand.routing.replay import replayed
        from chargehand.routing.report import compared
        from chargehand.routing.router import policy_named

        set_up = context.app.settings
        other = policy_named(policy, {}, set_up.routing_minimum_runs) if policy else None
        rows = await context.queries.routing(days, limit)
        pairs = [(row, replayed(WorkTask.model_validate(row["spec"]), row, other)) for row in rows]
        found = compared(pairs)
        context.screen.show(*comparison_lines(found, pairs, policy))
        context.screen.answer({**asdict(found), "policy": policy})
        differs = policy is None and found.exact + found.older + found.unreadable < found.decisions
        return FAILED if differs else DONE

    return launch(work, as_json=as_json)
