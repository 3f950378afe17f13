"""`run` and `plan`: a sentence becomes a request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chargehand.cli.flows.run_mode import RunMode
from chargehand.cli.options import AsJson, Key, Sentence, Yes, launch
from chargehand.cli.terminal.lines import Line, short
from chargehand.cli.terminal.system_zone import SystemZone

if TYPE_CHECKING:
    from chargehand.cli.flows.context import Context
group = typer.Typer()


class Mode(StrEnum):
    """In which way the steps are run."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"


class Level(StrEnum):
    """How urgent a request is."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    BACKGROUND = "background"


class Other(StrEnum):
    """What may be done when nobody can do it as asked."""

    WAIT = "wait"
    VARIANT = "variant"


InMode = Annotated[
    Mode | None, typer.Option("--mode", help="One step after the other, or side by side where the plan allows it.")
]
InPriority = Annotated[
    Level, typer.Option("--priority", help="Who goes first when agents are busy. Waiting counts, so nothing starves.")
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Start no earlier than 2026-11-23T02:00, or the next 02:00."),
]
InCase = Annotated[
    list[Other] | None,
    typer.Option(
        "--otherwise", help="When nobody can do it as asked: wait for an agent, or take a variant. Repeatable."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]


@group.command()
def run(  # noqa: PLR0917 - its parameters are its options
    sentence: Sentence,
    key: Key = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    mode: InMode = None,
    priority: InPriority = Level.NORMAL,
    at: At = None,
    otherwise: InCase = None,
    as_json: AsJson = False,
) -> int:
    """Plan a sentence, ask, do it, and say what changed."""
    terms = _Terms(mode, priority, at, otherwise, dry_run)
    return _submit(sentence, key, RunMode(yes=yes), terms, as_json=as_json)


@group.command()
def plan(  # noqa: PLR0917 - its parameters are its options
    sentence: Sentence,
    key: Key = None,
    mode: InMode = None,
    priority: InPriority = Level.NORMAL,
    at: At = None,
    otherwise: InCase = None,
    as_json: AsJson = False,
) -> int:
    """Plan a sentence, show the plan, and stop."""
    terms = _Terms(mode, priority, at, otherwise)
    return _submit(sentence, key, RunMode(only_plan=True), terms, as_json=as_json)


@dataclass(frozen=True)
class _Terms:
    """How a request is to be carried out, as the options say it."""

    mode: Mode | None
    priority: Level
    at: str | None
    otherwise: list[Other] | None
    dry_run: bool = False

    def options(self, now: datetime) -> dict[str, Any]:
        """Return them as `Engine.submit` takes them. Raises `BadRequest` for a time that is none, or past."""
        from chargehand.app.words import start_time

        return {
            "mode": self.mode.value if self.mode else None,
            "dry_run": self.dry_run,
            "priority": self.priority.value,
            "not_before": start_time(self.at, now, SystemZone()) if self.at else None,
            "otherwise": [other.value for other in self.otherwise] if self.otherwise else None,
        }


def _submit(sentence: str, key: str | None, run_mode: RunMode, terms: _Terms, *, as_json: bool) -> int:
    import secrets

    from chargehand.app.words import clean

    wording = clean(sentence)  # before anything is started: bad words need no database
    options = terms.options(datetime.now(UTC))
    key = key or f"cli-{secrets.token_hex(6)}"

    async def work(context: Context) -> int:
        from chargehand.cli.flows.conversation import Conversation

        request_id = await context.app.submit(wording, requester=context.who, key=key, **options)
        context.screen.show(Line(f"Request {short(request_id)}, key {key}", "dim"))
        return await Conversation(context, request_id, run_mode).on()

    return launch(work, as_json=as_json, working=True)
