"""`models report`: how far the confidences of each tier and model can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.cli.options import AsJson, launch
from chargehand.cli.terminal.exit_codes import DONE

if TYPE_CHECKING:
    from chargehand.cli.flows.context import Context

group = typer.Typer()
models = typer.Typer(help="Report model accuracy.", no_args_is_help=True)
group.add_typer(models, name="models")

Days = Annotated[float | None, typer.Option("--days", min=0, help="Only this many days back.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="At most this many readings, newest first.")]


@models.command()
def report(days: Days = None, limit: Limit = 10_000, as_json: AsJson = False) -> int:
    """Show how sure each model was, how often it was right, and what thresholds would have asked."""

    async def work(context: Context) -> int:
        from chargehand.app.json_view import report_value
        from chargehand.cli.show.models import report_lines

        found = await context.app.models_report(days, limit)
        context.screen.show(*report_lines(found))
        context.screen.answer({"models": [report_value(each) for each in found]})
        return DONE

    return launch(work, as_json=as_json)
