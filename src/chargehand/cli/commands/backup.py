"""`backup`, `restore`: everything an installation cannot make again, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chargehand.cli.options import AsJson
from chargehand.cli.terminal.exit_codes import AUDIT_BROKEN, DONE
from chargehand.cli.terminal.lines import Line, count

group = typer.Typer()

Target = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="A file that `chargehand backup` wrote.")]
WithoutKey = Annotated[bool, typer.Option("--without-key", help="Leave the master key out; keep it elsewhere.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a database that is not empty.")]


@group.command()
def backup(file: Target, without_key: WithoutKey = False, as_json: AsJson = False) -> int:
    """Write database and key into one file."""
    import asyncio

    from chargehand import settings
    from chargehand.app.backup_restore import make_backup
    from chargehand.app.json_view import backup_value
    from chargehand.cli.terminal.logfile import log_to
    from chargehand.cli.terminal.screen import Screen

    loaded = settings.load()
    log_to(loaded.home, loaded.log_format)
    manifest = asyncio.run(make_backup(loaded, file.absolute(), with_key=not without_key))
    rows = [count(number, what.removesuffix("s")) for what, number in manifest.rows.items()]
    screen = Screen(as_json=as_json)
    screen.show(Line(f"{file} holds {', '.join(rows)}; {file.stat().st_size:,} bytes.", "good"))
    if without_key:
        screen.show(Line("It is useless without master.key: keep that in another place.", "warn"))
    else:
        screen.show(Line("The master key is in it: whoever has this file can be the orchestrator.", "warn"))
    screen.answer(backup_value(file.absolute(), manifest))
    return DONE


@group.command()
def restore(file: Source, replace: Replace = False, as_json: AsJson = False) -> int:
    """Restore a backup; nothing starts by itself."""
    import asyncio

    from chargehand import settings
    from chargehand.app.backup_restore import bring_back
    from chargehand.app.json_view import restored_value
    from chargehand.cli.terminal.logfile import log_to
    from chargehand.cli.terminal.screen import Screen

    loaded = settings.load()
    log_to(loaded.home, loaded.log_format)
    done = asyncio.run(bring_back(loaded, file.absolute(), replace=replace))
    rows = [count(number, what.removesuffix("s")) for what, number in done.manifest.rows.items()]
    screen = Screen(as_json=as_json)
    screen.show(Line(f"Restored {', '.join(rows)}, as they were at {done.manifest.created_at}.", "good"))
    if done.kept:
        screen.show(Line(f"The database that was here is kept as {done.kept}."))
    if done.paused:
        held = count(len(done.paused), "request")
        screen.show(
            Line(
                f"Paused: {held}. Work may have been done since the backup: look, then `chargehand resume ID`.", "warn"
            ),
            Line("chargehand requests --status paused   lists them"),
        )
    if done.wrong:
        screen.show(Line("Not every seal holds: chargehand audit verify", "bad"))
    screen.answer(restored_value(done))
    return AUDIT_BROKEN if done.wrong else DONE
