"""`agents`, `catalog`: who is there, what can be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        from chargehand.cli.show.lists import agent_list

        rows = await context.queries.agents()
        missed = 3 * context.app.settings.heartbeat_seconds  # nobody sweeps while nothing runs here
        context.screen.show(*agent_list(rows, missed))
        context.screen.answer({"agents": [dict(row) for row in rows]})
        return DONE

    return launch(work, as_json=as_json)


@group.command()
def catalog(as_json: AsJson = False) -> int:
    """List what can be asked for, and how to say it."""

    async def work(context: Context) -> int:
        from chargehand.cli.show.lists import catalog_lines

        offers = await _offers(context)
        wishes = await context.queries.wishes()
        context.screen.show(*catalog_lines(offers, wishes))
        context.screen.answer({"intents": offers, "wishes": [dict(row) for row in wishes]})
        return DONE

    return launch(work, as_json=as_json)


async def _offers(context: Context) -> list[dict[str, Any]]:
    """Return this machine's offers as its files are now, and what the other agents have registered."""
    import asyncio

    from chargehand.app.worker import LOCAL_AGENT, local_offers

    local = await asyncio.to_thread(local_offers, context.app.settings)
    others = [row for row in await context.queries.intents() if row["name"] != LOCAL_AGENT]
    return [
        *({**spec.model_dump(mode="json"), "agent": LOCAL_AGENT} for spec in local),
        *({**row["spec"], "agent": row["name"], "unavailable": _unavailable(row)} for row in others),
    ]


def _unavailable(row: Any) -> str | None:
    if not row["granted"]:
        return f"{row['name']} offers it, but nobody has granted it"
    return row["unavailable"] or (f"{row['name']} is offline" if row["status"] == "offline" else None)
