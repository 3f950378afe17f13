"""Where output goes: with colours and a live board on a terminal, plain lines elsewhere, one object with `--json`.

Every text passes `lines.visible` here and is printed as it is: nothing in it is read as markup or as a control code.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chargehand.cli.terminal.lines import STYLES, Line, as_called, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

CALLED_AS = "RUN_CALLED_AS"  # not a setting of ours: one program telling another its name

Board = Callable[[list[Line]], None]


class Screen:
    """Standard output, and standard error for what is not the answer."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.lively = not as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.can_ask = not as_json and sys.stdout.isatty() and sys.stdin is not None and sys.stdin.isatty()
        self._console: Console | None = None

    def show(self, *lines: Line) -> None:
        """Print lines, unless the answer is JSON."""
        if self.as_json:
            return
        for line in lines:
            self._print(line)
        sys.stdout.flush()

    def tell(self, text: str) -> None:
        """Say something beside the answer, on standard error."""
        print(shown(text), file=sys.stderr, flush=True)

    def leave_line(self) -> None:
        """Start a new line after a prompt, or after the `^C` a terminal shows."""
        if self.lively:
            print(flush=True)

    def answer(self, value: Any) -> None:
        """Print the one JSON object, if that is what was asked for."""
        if self.as_json:
            print(json.dumps(value, default=_plain, indent=2), flush=True)

    def prompt(self, text: str) -> None:
        """Print a question and leave the cursor behind it."""
        print(f"{visible(text)} ", end="", flush=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Turn a spinner on a terminal while the block lasts."""
        if not self.lively:
            yield
            return
        with self._terminal().status(self._text(Line(text))):
            yield

    @contextmanager
    def live(self) -> Iterator[Board | None]:
        """Yield what puts lines onto a board that is redrawn in place; None where there is no terminal for one."""
        if not self.lively:
            yield None
            return
        from rich.console import Group
        from rich.live import Live

        with Live(console=self._terminal(), auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
            yield lambda lines: live.update(Group(*map(self._board_line, lines)), refresh=True)

    def _print(self, line: Line) -> None:
        if not self.lively:
            print(" " * line.indent + shown(line.text))
            return
        from rich.padding import Padding

        self._terminal().print(Padding(self._text(line), (0, 0, 0, line.indent), expand=False), highlight=False)

    def _board_line(self, line: Line) -> Text:
        text = self._text(line._replace(text=" " * line.indent + visible(line.text)))
        text.no_wrap, text.overflow = True, "ellipsis"
        return text

    def _text(self, line: Line) -> Text:
        from rich.text import Text

        return Text(shown(line.text), style=STYLES[line.style], overflow="fold")

    def _terminal(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(markup=False, highlight=False, emoji=False)
        return self._console


def shown(text: str) -> str:
    """Return text as it may be shown; `./run` says through the environment how its user calls our commands."""
    return as_called(visible(text), os.environ.get(CALLED_AS))


def prepare_streams() -> None:
    """Let no character that a terminal cannot show, and no closed stream, end a command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - closed by the end of the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Path):
        return str(value)
    return str(value)
