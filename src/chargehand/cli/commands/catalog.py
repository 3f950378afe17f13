"""`agents`, `catalog`: who is there, what can be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from chargehand.cli.options import AsJson, launch
from chargehand.cli.terminal.exit_codes import DONE

if TYPE_CHECKING:
    from chargehand.cli.flows.context import Context

group = typer.Typer()


@group.command()
def agents(as_json: AsJson = False) -> int:
    """List the agents and what they have done."""

    async def work(context: Context) -> int:
        from chargehand.app import json_view
        from chargehand.cli.show.lists import agent_list, concern_lines

        found, concerns = await context.app.agents(), await context.app.concerns()
        missed = 3 * context.app.settings.heartbeat_seconds  # nobody sweeps while nothing runs here
        context.screen.show(*agent_list(found, missed), *concern_lines(concerns))
        context.screen.answer({"agents": json_view.rows(found), "concerns": json_view.rows(concerns)})
        return DONE

    return launch(work, as_json=as_json)


@group.command()
def catalog(as_json: AsJson = False) -> int:
    """List what can be asked for, and how to say it."""

    async def work(context: Context) -> int:
        from chargehand.app import json_view
        from chargehand.cli.show.lists import catalog_lines

        entries = await context.app.catalog()
        wishes = await context.app.wishes()
        context.screen.show(*catalog_lines(entries, wishes))
        told = {"intents": [json_view.entry_value(entry) for entry in entries], "wishes": json_view.rows(wishes)}
        context.screen.answer(told)
        return DONE

    return launch(work, as_json=as_json)
