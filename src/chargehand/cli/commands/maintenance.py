"""`audit`, `db`, `doctor`, `version`: what keeps an installation sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from chargehand.cli.options import AsJson, launch
from chargehand.cli.terminal.exit_codes import DONE, ENVIRONMENT
from chargehand.cli.terminal.lines import Line, count, short

if TYPE_CHECKING:
    from chargehand.cli.flows.context import Context

group = typer.Typer()
audit = typer.Typer(help="Check the sealed history.", no_args_is_help=True)
db = typer.Typer(help="Manage the database.", no_args_is_help=True)
group.add_typer(audit, name="audit")
group.add_typer(db, name="db")


@audit.command()
def verify(as_json: AsJson = False) -> int:
    """Check that nothing sealed was altered."""

    async def work(context: Context) -> int:
        from chargehand.domain.errors import AuditBroken

        seals = await context.app.count_seals()
        wrong = await context.app.verify_audit()
        if wrong:
            told = "; ".join(f"request {short(request)}: {problem}" for request, problem in wrong.items())
            advice = "Keep the database as it is, compare it with a backup, and find out who could write to it."
            raise AuditBroken(f"{count(len(wrong), 'request')} not as it was sealed: {told}", hint=advice)
        context.screen.show(Line(f"{count(seals, 'seal')} checked; all hold.", "good"))
        context.screen.answer({"seals": seals, "wrong": {}})
        return DONE

    return launch(work, as_json=as_json)


@db.command()
def upgrade() -> int:
    """Upgrade the schema to this version."""
    import asyncio

    from chargehand import settings
    from chargehand.app import database
    from chargehand.cli.terminal.logfile import log_to
    from chargehand.cli.terminal.screen import Screen

    loaded = settings.load()
    log_to(loaded.home, loaded.log_format)
    revision = asyncio.run(database.upgrade(loaded))
    Screen().show(Line(f"The database has schema {revision}.", "good"))
    return DONE


@db.command()
def stop() -> int:
    """Stop the private PostgreSQL."""
    from chargehand import settings
    from chargehand.app import database
    from chargehand.cli.terminal.screen import Screen

    loaded = settings.load()
    if loaded.database_url is not None:
        Screen().show(Line("CHARGEHAND_DATABASE_URL is set: Chargehand does not stop that server.", "warn"))
        return ENVIRONMENT
    running = database.stop_private(loaded)
    Screen().show(Line("The private PostgreSQL is stopped." if running else "No private PostgreSQL was running."))
    return DONE


@group.command()
def doctor(as_json: AsJson = False) -> int:
    """Check that everything needed is there."""
    import asyncio

    from chargehand import settings
    from chargehand.app.doctor import examine, is_sound
    from chargehand.app.json_view import checks_value
    from chargehand.cli.show.checks import check_lines
    from chargehand.cli.terminal.logfile import log_to
    from chargehand.cli.terminal.screen import Screen

    loaded = settings.load()
    log_to(loaded.home, loaded.log_format)
    checks = asyncio.run(examine(loaded))
    screen = Screen(as_json=as_json)
    screen.show(*check_lines(checks))
    screen.answer(checks_value(checks, sound=is_sound(checks)))
    return DONE if is_sound(checks) else ENVIRONMENT


@group.command()
def version() -> int:
    """Print the version."""
    from chargehand import __version__
    from chargehand.cli.terminal.screen import Screen

    Screen().show(Line(f"chargehand {__version__}"))
    return DONE
