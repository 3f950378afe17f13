"""The outermost frame: a command line to an exit code, every error to one message that says what to do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chargehand.cli.terminal.exit_codes import BAD_INPUT, FAILED, INTERRUPTED
from chargehand.cli.terminal.lines import visible
from chargehand.cli.terminal.screen import prepare_streams, shown

if TYPE_CHECKING:
    from pathlib import Path

    from chargehand.domain.errors import ChargehandError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    try:
        return _run(given)
    except KeyboardInterrupt:  # before or after the event loop has the signals
        return INTERRUPTED
    except BrokenPipeError:  # `chargehand requests | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(given: list[str]) -> int:
    from typer.exceptions import Exit, TyperException

    from chargehand.cli.app import app
    from chargehand.domain.errors import ChargehandError

    as_json = "--json" in given
    try:
        return int(app(given, prog_name="chargehand", standalone_mode=False) or 0)
    except Exit as leaving:
        return leaving.exit_code
    except TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "chargehand")
        return _usage(error.format_message(), where, as_json=as_json)
    except ChargehandError as error:
        return _complain(error, as_json=as_json)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - the outermost frame: one line for people, the rest into the log
        return _surprise(error, as_json=as_json)


def _usage(message: str, command: str, *, as_json: bool) -> int:
    if message.startswith("Usage:"):  # a command group alone: its help is the answer
        print(message, file=sys.stderr)
        return BAD_INPUT
    _say("usage", message, f"`{command} --help` shows how.", as_json=as_json)
    return BAD_INPUT


def _complain(error: ChargehandError, *, as_json: bool) -> int:
    _say(error.code, str(error), error.hint, as_json=as_json)
    return error.exit_code


def _surprise(error: Exception, *, as_json: bool) -> int:
    """Say one line about what nobody expected; the details go to the log."""
    import logging

    logging.getLogger("chargehand.cli").error("unexpected: %s", error, exc_info=error)
    where = _log_file()
    hint = f"The details are in {where}." if where else "There is no log: the home cannot be written."
    first = (str(error).splitlines() or [""])[0]
    _say("unexpected", f"unexpected {type(error).__name__}: {first}", hint, as_json=as_json)
    return FAILED


def _log_file() -> Path | None:
    from chargehand import settings
    from chargehand.cli.terminal.logfile import log_path
    from chargehand.domain.errors import BadConfiguration

    try:
        path = log_path(settings.load().home)
    except BadConfiguration:
        return None
    return path if path.exists() else None


def _say(code: str, message: str, hint: str, *, as_json: bool) -> None:
    from chargehand.domain.masking import without_passwords

    message = without_passwords(message)  # a driver may repeat the address it was given
    if as_json:
        from chargehand.app.json_view import error_value

        print(json.dumps(error_value(code, message, hint), indent=2), flush=True)
        return
    print(f"chargehand: {visible(message)}", file=sys.stderr)
    if hint:
        print(f"  {shown(hint)}", file=sys.stderr, flush=True)
