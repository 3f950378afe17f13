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
        from dataclasses import asdict

        from chargehand.cli.show.models import report_lines
        from chargehand.domain.tiers import TIERS
        from chargehand.engine.engine import thresholds
        from chargehand.understanding.feedback import reported
        from chargehand.understanding.judgements import judgements

        set_now = thresholds(context.app.settings)
        readings, plans = await context.queries.readings(days, limit)
        by_tier = {tier.name: set_now.below(tier) for tier in TIERS.values()}
        found = reported(judgements(readings, plans), readings, by_tier)
        context.screen.show(*report_lines(found))
        context.screen.answer({"models": [_plain(asdict(each)) for each in found]})
        return DONE

    return launch(work, as_json=as_json)


def _plain(value: dict[str, object]) -> dict[str, object]:
    """Write tuples with names as objects: a place in a list says nothing to a script."""
    from chargehand.understanding.calibration import Fit
    from chargehand.understanding.feedback import Bin, Level

    def told(each: object) -> object:
        if isinstance(each, (Bin, Level, Fit)):
            return each._asdict()
        return [told(one) for one in each] if isinstance(each, list) else each

    return {name: told(each) for name, each in value.items()}
