"""`audit`, `db`, `doctor`, `version`: what keeps an installation sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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


Against = Annotated[
    Path | None, typer.Option("--against", metavar="FILE", help="Compare with a head that `audit export` wrote.")
]
HeadFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")]
OlderThan = Annotated[
    float, typer.Option("--older-than", metavar="DAYS", min=1, help="Only what ended more than so many days ago.")
]
Really = Annotated[bool, typer.Option("--yes", help="Remove them for good; without it they are only counted.")]


@audit.command()
def verify(against: Against = None, as_json: AsJson = False) -> int:
    """Check that nothing sealed was altered or removed."""

    async def work(context: Context) -> int:
        from chargehand.app.audit import read_head
        from chargehand.app.json_view import audit_value
        from chargehand.domain.errors import AuditBroken

        others = [(str(against), read_head(against))] if against else []
        found = await context.app.verify_audit(*others)
        if not found.holds:
            told = [f"request {short(request)}: {problem}" for request, problem in found.wrong.items()]
            advice = "Keep the database as it is, compare it with a backup, and find out who could write to it."
            raise AuditBroken(f"not all is as it was sealed: {'; '.join([*found.chain, *told])}", hint=advice)
        checked = f"{count(found.seals, 'seal')} checked; all hold."
        context.screen.show(Line(checked + (f" The chain holds what {against} says." if against else ""), "good"))
        if found.waiting:
            context.screen.show(Line(f"Not in the chain yet: {count(found.waiting, 'seal')}.", "dim"))
        context.screen.answer(audit_value(found))
        return DONE

    return launch(work, as_json=as_json)


@audit.command()
def export(file: HeadFile, as_json: AsJson = False) -> int:
    """Write the head of the chain of seals into a file."""

    async def work(context: Context) -> int:
        from chargehand.app.audit import write_head

        head = await context.app.export_head()
        write_head(file.absolute(), head)
        context.screen.show(
            Line(f"{file} holds the head of the chain: {count(head.position, 'seal')}.", "good"),
            Line(f"Keep it on another machine; `chargehand audit verify --against {file}` compares with it.", "dim"),
        )
        context.screen.answer({"file": str(file), **head.as_json()})
        return DONE

    return launch(work, as_json=as_json)


@audit.command()
def prune(older_than: OlderThan, yes: Really = False, as_json: AsJson = False) -> int:
    """Remove requests that ended long ago; their seals stay."""

    async def work(context: Context) -> int:
        number = await context.app.prune(older_than, only_count=not yes)
        requests = count(number, "request")
        text = f"Removed: {requests}, but for the seals." if yes else f"{requests} would be removed: give --yes."
        context.screen.show(Line(text, "good" if yes else "warn"))
        context.screen.answer({"requests": number, "removed": yes})
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
