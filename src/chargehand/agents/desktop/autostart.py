"""Makes the agent start with its user's session: a systemd user unit on Linux, a launchd agent on macOS.

Writes one file and says what to type; whether systemd or launchd runs here does not matter for that.
"""

from __future__ import annotations

import os
import plistlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chargehand import folders
from chargehand.domain.errors import BadConfiguration

NAME = "chargehand-agent"
LABEL = "chargehand.agent"
OURS = "Written by Chargehand"  # a file that does not say so is somebody's own work and is left alone

UNIT = """\
# {ours}; your changes belong into `systemctl --user edit {name}`.
[Unit]
Description=Chargehand agent
{ordering}# A broker that is away for an hour must not leave the agent switched off for good.
StartLimitIntervalSec=0

[Service]
ExecStart={command}
{environment}Restart=on-failure
RestartSec=10
# Stopping drains: what runs may be finished.
TimeoutStopSec=90
# The agent ends its own programs, also when it is killed. What an action has detached on purpose (a browser it opened)
# belongs to the person at the screen.
KillMode=process
# A program that eats all memory is ended, not the agent with it.
OOMPolicy=continue
# Files are the user's alone, and a crash writes no keys to disk.
UMask=0077
LimitCORE=0
TasksMax=4096
{hardening}
[Install]
WantedBy={target}
"""
STRICT = """\
# No program below gets more rights than the user has.
NoNewPrivileges=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
"""
LENIENT = """\
# NoNewPrivileges=yes, and what implies it, is left out: sudo, snap and browsers with a setuid sandbox could not start
# from an action. The strict variant has it.
"""


@dataclass(frozen=True)
class Autostart:
    """The file, what goes into it, and what to type so that it takes effect."""

    path: Path
    text: str
    commands: tuple[str, ...]


def install_user_service(
    home: Path,
    *,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    graphical: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    platform: str = sys.platform,
    say: Callable[[str], None] = print,
) -> Autostart:
    """Write the file that starts the agent of `home` with its user's session, and say what to type next.

    `command` is the program with its arguments (`chargehand agent run desktop` unless given); `environment` is added to
    CHARGEHAND_AGENT_HOME and must hold no secrets. A `graphical` agent starts and stops with the graphical session and
    so knows its display. With `dry_run` the file is shown and not written. Raises `BadConfiguration` when a file is in
    the way that we have not written.
    """
    argv = list(command) or [sys.executable, "-m", "chargehand", "agent", "run", "desktop"]
    variables = {"CHARGEHAND_AGENT_HOME": str(home.absolute())} | dict(environment or {})
    for text in (*argv, *variables.values()):
        if not text.isprintable():
            raise BadConfiguration(f"{text!r} cannot be part of a service: it holds control characters")
    if platform == "darwin":
        planned = launchd_agent(argv, variables, home, graphical=graphical)
    else:
        planned = systemd_unit(argv, variables, graphical=graphical, strict=strict)
    if dry_run:
        say(f"# would write {planned.path}\n{planned.text}")
    else:
        _write(planned)
        say(f"wrote {planned.path}; now type:")
    for line in planned.commands:
        say(f"  {line}")
    return planned


def systemd_unit(argv: Sequence[str], variables: Mapping[str, str], *, graphical: bool, strict: bool) -> Autostart:
    """Return the user unit."""
    session = "graphical-session.target"
    text = UNIT.format(
        ours=OURS,
        name=NAME,
        ordering=f"PartOf={session}\nAfter={session}\n" if graphical else "",
        command=" ".join(quoted(word, dollar=True) for word in argv),
        environment="".join(f"Environment={quoted(f'{name}={value}')}\n" for name, value in variables.items()),
        hardening=STRICT if strict else LENIENT,
        target=session if graphical else "default.target",
    )
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    commands = (
        "systemctl --user daemon-reload",
        f"systemctl --user enable --now {NAME}",
        f"journalctl --user -u {NAME} -f     # to watch it",
        *(() if graphical else ("loginctl enable-linger     # to have it run while you are not logged in",)),
    )
    return Autostart(config / "systemd" / "user" / f"{NAME}.service", text, commands)


def launchd_agent(argv: Sequence[str], variables: Mapping[str, str], home: Path, *, graphical: bool) -> Autostart:
    """Return the property list of a launchd agent."""
    settings: dict[str, object] = {
        "Label": LABEL,
        "ProgramArguments": list(argv),
        "EnvironmentVariables": dict(variables),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,  # seconds between two starts
        "ExitTimeOut": 90,  # stopping drains: what runs may be finished
        "AbandonProcessGroup": True,  # what an action has detached on purpose belongs to the person at the screen
        "Umask": 0o077,
        "HardResourceLimits": {"Core": 0},
        "StandardErrorPath": str(home.absolute() / "agent.log"),
    }
    if graphical:
        settings["LimitLoadToSessionType"] = "Aqua"
    head, _, rest = plistlib.dumps(settings).decode().partition("\n")
    path = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    commands = (
        f"launchctl bootout gui/$(id -u)/{LABEL}     # only if it was loaded before",
        f"launchctl bootstrap gui/$(id -u) '{path}'",
        f"launchctl print gui/$(id -u)/{LABEL}     # to look at it",
    )
    return Autostart(path, f"{head}\n<!-- {OURS} -->\n{rest}", commands)


def quoted(word: str, *, dollar: bool = False) -> str:
    """Return a word as systemd reads it back; `dollar` where it would put variables in (command lines)."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text.replace("$", "$$") if dollar else text}"'


def _write(planned: Autostart) -> None:
    path = planned.path
    if path.exists() and OURS not in path.read_text(errors="replace"):
        raise BadConfiguration(f"{path} is there already and is not ours", hint="Move it away, then try again.")
    folders.make(path.parent, 0o755)
    folders.write(path, planned.text.encode(), 0o644)
