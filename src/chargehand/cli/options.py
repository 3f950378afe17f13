"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Sentence = Annotated[str, typer.Argument(metavar="SENTENCE", help="What should be done, in plain words.")]
RequestId = Annotated[str, typer.Argument(metavar="ID", help="A request's id, or its first characters.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Agree to the plan that is shown, without being asked.")]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="The same key continues the same request and never makes a second."),
]


def launch(work: object, *, as_json: bool = False, working: bool = False) -> int:
    """Run a command's work. What it needs is imported here: `--help` must not pay for it."""
    from chargehand.cli.flows.session import run

    return run(work, as_json=as_json, working=working)  # type: ignore[arg-type]
