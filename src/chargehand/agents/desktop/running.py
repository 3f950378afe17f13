"""Runs one listed action."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Mapping

from chargehand.agent import Outcome, TaskFailed, TaskInterrupted, Work
from chargehand.agents.desktop.actions import Action, command, spec_of
from chargehand.agents.desktop.automation import Automation
from chargehand.agents.infra.diffs import clip, one_line
from chargehand.agents.infra.environment import child_environment
from chargehand.catalog.catalog import check_parameters
from chargehand.domain.errors import OutcomeUnknown
from chargehand.domain.risks import RISKS

_SESSION = """
DISPLAY WAYLAND_DISPLAY XAUTHORITY DBUS_SESSION_BUS_ADDRESS XDG_SESSION_ID XDG_SESSION_TYPE XDG_CURRENT_DESKTOP
XDG_DATA_DIRS XDG_CONFIG_HOME XDG_DATA_HOME DESKTOP_SESSION PULSE_SERVER
"""
SESSION = frozenset(_SESSION.split())  # how a program finds the screen and the session it belongs to
MAX_PROGRESS = 200  # characters
MAX_TAIL = 1_500  # characters of what a failed program said


def desktop_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of an action: that of a script, and what leads to the graphical session."""
    session = {name: value for name, value in os.environ.items() if name in SESSION}
    return child_environment(session | dict(extra))


async def run_action(work: Work, automation: Automation, extra_env: Mapping[str, str]) -> Outcome:
    """Run one action for one attempt.

    Raises `ContentChanged` when it is not the approved one, `BadParameters`, `TaskFailed`, `TaskInterrupted`, and
    `OutcomeUnknown` when it took too long and is not safe to repeat.
    """
    action = await asyncio.to_thread(automation.current, work.intent, work.order.content_hash)
    argv = command(action, check_parameters(spec_of(action), work.parameters))
    if work.dry_run:
        return Outcome(f"dry run: would run {clip(shlex.join(argv), MAX_PROGRESS)}", changed=False)

    async def passing(line: str) -> None:
        if line.strip():
            await work.progress(clip(line.strip(), MAX_PROGRESS))

    try:
        async with asyncio.timeout(action.timeout):
            finished = await work.run(argv, env=desktop_environment(extra_env), on_line=passing)
    except TimeoutError as error:
        raise _too_late(action) from error
    return _outcome(action, finished.exit_code, finished.tail)


def _too_late(action: Action) -> Exception:
    if action.retry_safe:
        return TaskInterrupted(f"{action.intent} took longer than {action.timeout} s and was ended")
    return OutcomeUnknown(
        f"{action.intent} took longer than {action.timeout} s and was ended; nobody knows how far it came",
        hint=f"Look at the machine. Set a longer timeout in the action {action.intent}.",
    )


def _outcome(action: Action, exit_code: int, tail: str) -> Outcome:
    said = one_line(tail)[-MAX_TAIL:]
    if exit_code == os.EX_TEMPFAIL:
        raise TaskInterrupted(f"{action.intent} could not be done now: {said or 'it said nothing'}")
    if exit_code != 0:
        raise TaskFailed(f"{action.argv[0]} ended with exit code {exit_code}: {said or 'it said nothing'}")
    return Outcome(
        f"{action.description or action.intent}: done",
        changed=None if RISKS[action.risk].changes else False,
        outputs={"output": tail},
    )
