"""The commands, put together. Importing this is all that `--help` costs, so nothing heavy may be imported here."""

from __future__ import annotations

import typer

from chargehand.cli.commands import (
    agent,
    approve,
    backup,
    catalog,
    inspect,
    maintenance,
    models,
    review,
    routing,
    run,
    server,
)

# Rich help would cost more than the whole budget of `--help`; the plain one reads as well in a pipe.
app = typer.Typer(
    name="chargehand",
    help="Hand out infrastructure work, described in words, to agents, and explain every decision.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 waits for a person, 4 refused, 5 environment, 6 audit broken.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
for module in (
    run,
    approve,
    inspect,
    catalog,
    review,
    routing,
    models,
    server,
    agent,
    backup,
    maintenance,
):
    app.add_typer(module.group)
