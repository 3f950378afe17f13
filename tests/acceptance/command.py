"""The command line as people use it: a program of its own, with a home, playbooks and sometimes a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds a command may take before a test gives up


@dataclass(frozen=True)
class Ended:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """Standard output as the one JSON value it must be."""
        return json.loads(self.out)


class Command:
    """`chargehand` with an environment of its own."""

    def __init__(self, home: Path, playbooks: Path, **more: str) -> None:
        self.home = home
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT / "src"),
            "CHARGEHAND_HOME": str(home),
            "CHARGEHAND_PLAYBOOKS": str(playbooks),
            "CHARGEHAND_USER": "ann",
            **more,
        }

    def start(self, *arguments: str | bytes, **env: str) -> subprocess.Popen[str]:
        """Start a command that has neither a terminal nor anything to read."""
        return subprocess.Popen(
            [sys.executable, "-m", "chargehand", *arguments],
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def __call__(self, *arguments: str | bytes, **env: str) -> Ended:
        """Run a command to its end."""
        process = self.start(*arguments, **env)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        return Ended(process.returncode, out, err)

    def cpu_seconds(self, *arguments: str) -> float:
        """Run a command and return the processor time that it took, its start included."""
        process = subprocess.Popen(
            [sys.executable, "-m", "chargehand", *arguments], env=self.env, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    def on_terminal(self, arguments: Sequence[str], script: Sequence[tuple[str, str]], columns: int = 100) -> Ended:
        """Run a command on a terminal: wait for a text, then type; "^C" is typed as such."""
        terminal, its_side = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        # The shell leads a session, so the terminal that it opens becomes the session's. pty.fork would copy this
        # process, which has threads when tests run side by side.
        opening = ["sh", "-c", 'exec "$@" <"$0"', os.ttyname(its_side)]
        process = subprocess.Popen(
            [*opening, sys.executable, "-m", "chargehand", *arguments],
            env={**self.env, "TERM": "xterm"},
            stdin=its_side,
            stdout=its_side,
            stderr=its_side,
            start_new_session=True,
        )
        os.close(its_side)
        try:
            shown = _converse(terminal, script)
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
            os.close(terminal)
        return Ended(process.returncode, shown, "")


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read a command's output until it has said that."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"{text!r} was never said, but: {said} {process.stderr.read() if process.stderr else ''}")


def _converse(terminal: int, script: Sequence[tuple[str, str]]) -> str:
    output, answered, steps = "", 0, list(script)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(terminal, 65_536)
        except OSError:  # Linux says so when the program has gone
            data = b""
        if not data:
            assert not steps, f"{steps[0][0]!r} was never shown, but: {output}"
            return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r", "")
        output += data.decode(errors="replace")
        if steps and steps[0][0] in output[answered:]:
            answered = len(output)
            os.write(terminal, _typed(steps.pop(0)[1]))
    raise AssertionError(f"it has not ended; it showed: {output}")


def _typed(text: str) -> bytes:
    return b"\x03" if text == "^C" else f"{text}\n".encode()


def write_playbook(folder: Path, name: str, tasks: str, parameters: Mapping[str, str], *phrases: str) -> None:
    """Write a playbook that can be asked for in these words."""
    header = [f"intent: {name}", "work_type: run_playbook", f"description: {phrases[0]}", "retry_safe: true"]
    header += ["examples:", *(f"  - {phrase}" for phrase in phrases)]
    header += ["parameters:", *(f"  {key}: {value}" for key, value in parameters.items())] if parameters else []
    comment = "\n".join(f"#   {line}" for line in header)
    play = "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
    (folder / f"{name}.yml").write_text(f"# chargehand:\n{comment}\n{play}{tasks}")
