"""`agent ...`: what an operator does to agents, and what is done on an agent's own machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.cli.options import AsJson, launch
from chargehand.cli.terminal.exit_codes import DONE
from chargehand.cli.terminal.lines import Line, count

if TYPE_CHECKING:
    from uuid import UUID

    from chargehand.cli.flows.context import Context

group = typer.Typer()
agent = typer.Typer(help="Enrol, grant and run agents.", no_args_is_help=True)
group.add_typer(agent, name="agent")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.")]
Intents = Annotated[list[str] | None, typer.Argument(metavar="INTENT...", help="Intents it may run; see --all.")]
All = Annotated[bool, typer.Option("--all", help="Everything it offers now.")]
Pool = Annotated[str, typer.Option("--pool", metavar="POOL", help="The pool it belongs to.")]
Kind = Annotated[str, typer.Option("--type", metavar="TYPE", help="infra, code, research or desktop.")]
Good = Annotated[
    list[str] | None,
    typer.Option("--specialization", metavar="WORK_TYPE", help="Work it is especially good at; may be repeated."),
]
AcceptAll = Annotated[bool, typer.Option("--accept-all", help="Policy: grant whatever it offers, now and later.")]
AmqpUrl = Annotated[
    str | None, typer.Option("--amqp-url", metavar="URL", help="The broker's URL; stored in the token.")
]
Home = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Its own directory; default CHARGEHAND_AGENT_HOME.")
]
What = Annotated[str, typer.Argument(metavar="WHAT", help="infra, desktop, module:agent or file.py")]
Token = Annotated[str, typer.Argument(metavar="TOKEN", help="What `agent enrol` printed; - reads it from stdin.")]
Folder = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where to write it.")]


@agent.command()
def enrol(  # noqa: PLR0917 - a command's options are its arguments
    name: Name,
    kind: Kind = "infra",
    pool: Pool = "default",
    specialization: Good = None,
    accept_all: AcceptAll = False,
    amqp_url: AmqpUrl = None,
    as_json: AsJson = False,
) -> int:
    """Register an agent; print its token."""

    async def work(context: Context) -> int:
        made = await context.app.registry.enrol(
            name, agent_type=kind, pool=pool, specializations=specialization or None, accept_all=accept_all
        )
        return _hand_over(context, name, made, amqp_url)

    return launch(work, as_json=as_json)


@agent.command()
def rotate(name: Name, amqp_url: AmqpUrl = None, as_json: AsJson = False) -> int:
    """Give an agent a new key; print its token."""

    async def work(context: Context) -> int:
        return _hand_over(context, name, await context.app.registry.rotate(name), amqp_url)

    return launch(work, as_json=as_json)


@agent.command()
def grant(name: Name, intents: Intents = None, everything: All = False, as_json: AsJson = False) -> int:
    """Let an agent run intents that it offers."""

    async def work(context: Context) -> int:
        wanted = _wanted(intents, everything=everything)
        granted = await context.app.registry.grant(name, wanted, context.who)
        return _told(context, f"{name} may now run {count(len(granted), 'intent')}: {', '.join(granted)}", granted)

    return launch(work, as_json=as_json)


@agent.command()
def revoke(name: Name, intents: Intents = None, everything: All = False, as_json: AsJson = False) -> int:
    """Take grants back; running work continues."""

    async def work(context: Context) -> int:
        wanted = _wanted(intents, everything=everything)
        revoked = await context.app.registry.revoke(name, wanted, context.who)
        return _told(context, f"{name} may no longer run {', '.join(revoked)}", revoked)

    return launch(work, as_json=as_json)


@agent.command()
def drain(
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="Let it work again.")] = False,
    as_json: AsJson = False,
) -> int:
    """Give an agent no new work."""

    async def work(context: Context) -> int:
        await context.app.registry.drain(name, drained=not off)
        return _told(context, f"{name} {'works again' if off else 'finishes what it has and gets no more'}", [])

    return launch(work, as_json=as_json)


@agent.command()
def configure(
    name: Name,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="The pool it belongs to.")] = None,
    specialization: Good = None,
    as_json: AsJson = False,
) -> int:
    """Change an agent's pool or specializations."""

    async def work(context: Context) -> int:
        await context.app.registry.configure(name, pool=pool, specializations=specialization or None)
        return _told(context, f"{name} is changed", [])

    return launch(work, as_json=as_json)


@agent.command()
def remove(name: Name, as_json: AsJson = False) -> int:
    """Shut an agent out for good."""

    async def work(context: Context) -> int:
        await context.app.registry.remove(name)
        return _told(context, f"{name} is shut out: its keys no longer work", [])

    return launch(work, as_json=as_json)


@agent.command()
def join(token: Token, home: Home = None) -> int:
    """Save an agent's token on this machine."""
    import sys

    from chargehand.agent.identity import Identity
    from chargehand.agent.runtime.main import agent_home
    from chargehand.cli.terminal.screen import Screen

    identity = Identity.from_token(sys.stdin.read() if token == "-" else token)
    path = identity.save(home or agent_home())
    Screen().show(Line(f"This machine is {identity.name} now; the key is in {path}.", "good"))
    return DONE


@agent.command("run")
def run_here(what: What, home: Home = None) -> int:
    """Run an agent until told to stop."""
    from chargehand.agent.runtime.main import agent_home, run_agent
    from chargehand.agents.loading import load
    from chargehand.cli.terminal.logfile import log_to
    from chargehand.settings import load as load_settings

    where, settings = home or agent_home(), load_settings()
    log_to(where, settings.log_format, also_to_stderr=True)
    loaded = load(what, where)
    run_agent(loaded.agent, home=where, heartbeat_seconds=settings.heartbeat_seconds, rescan=loaded.rescan)
    return DONE


@agent.command()
def new(name: Name, folder: Folder = Path()) -> int:
    """Write an example agent with its test."""
    from chargehand.agent.scaffold import write
    from chargehand.cli.terminal.screen import Screen

    written = write(name, folder)
    Screen().show(*(Line(f"wrote {path}") for path in written))
    return DONE


@agent.command()
def manifest(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project: its playbooks and all they use.")],
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is signed and complete.")] = False,
) -> int:
    """Write the list of a project's files to sign."""
    from chargehand.app.signing import check_manifest, write_manifest
    from chargehand.cli.terminal.screen import Screen
    from chargehand.settings import load as load_settings

    if check:
        check_manifest(folder, load_settings().project_signers)
        Screen().show(Line(f"{folder} is as it was signed.", "good"))
        return DONE
    path, files, how = write_manifest(folder)
    Screen().show(Line(f"wrote {path}: {count(files, 'file')}"), Line(how.partition(" && ")[2], "dim"))
    return DONE


@agent.command()
def install(
    home: Home = None,
    graphical: Annotated[bool, typer.Option("--graphical", help="Start it with the desktop session.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Harden it further; sudo and snaps then fail.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be written.")] = False,
) -> int:
    """Install the desktop agent as a user service."""
    from chargehand.agent.runtime.main import agent_home
    from chargehand.agents.desktop import install_user_service

    install_user_service(home or agent_home(), graphical=graphical, strict=strict, dry_run=dry_run)
    return DONE


def _hand_over(context: Context, name: str, made: tuple[UUID, bytes, int], amqp_url: str | None) -> int:
    from chargehand.agent.identity import Identity

    agent_id, key, generation = made
    token = Identity(str(agent_id), name, key, generation, amqp_url).token()
    context.screen.show(
        Line(token),
        Line(f"On {name}'s machine: chargehand agent join TOKEN, then chargehand agent run infra", "dim"),
        Line("Whoever has the token can act as this agent: hand it over like a password.", "warn"),
    )
    context.screen.answer({"name": name, "agent_id": str(agent_id), "generation": generation, "token": token})
    return DONE


def _wanted(intents: list[str] | None, *, everything: bool) -> list[str] | None:
    from chargehand.domain.errors import BadRequest

    if bool(intents) == everything:
        raise BadRequest("name the intents, or use --all", hint="`chargehand catalog` lists what is offered.")
    return None if everything else intents


def _told(context: Context, text: str, intents: list[str]) -> int:
    context.screen.show(Line(f"{text}.", "good"))
    context.screen.answer({"done": True, "intents": intents})
    return DONE
