"""Servers and agents as programs of their own, as on several machines: started, stopped, killed, and listened to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]
STOP_SECONDS = 30.0  # an agent that drains waits for its work, a server for its last results


class Programs:
    """`chargehand` commands that run in the background; whatever still runs when the block ends is killed.

    Nothing of this process's own settings reaches them. Their output is kept in `folder`, a file each.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CHARGEHAND_")},
            "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in tuple(self._running):
            self.kill(name)

    def start(self, name: str, *arguments: str, module: str = "chargehand", **settings: str) -> int:
        """Start a command under a name of our own; return its process id."""
        with self._log(name).open("ab") as output:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self._environment | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self._running[name].pid

    def stop(self, name: str) -> int:
        """Ask it to end, wait, and return its exit code. Raises `subprocess.TimeoutExpired` when it does not."""
        self._running[name].terminate()
        return self.wait(name)

    def wait(self, name: str) -> int:
        """Wait for it to end by itself, and return its exit code. Raises `subprocess.TimeoutExpired`."""
        code = self._running[name].wait(STOP_SECONDS)
        del self._running[name]
        return code

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT lets it go on."""
        self._running[name].send_signal(number)

    def ended(self, name: str) -> bool:
        """Whether it has ended by itself."""
        return self._running[name].poll() is not None

    def kill(self, name: str) -> None:
        """Take its power away."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    @property
    def names(self) -> tuple[str, ...]:
        """What runs, in the order of its start."""
        return tuple(self._running)

    def pids(self, prefix: str) -> list[int]:
        """Return the processes whose names begin with `prefix`."""
        return [process.pid for name, process in self._running.items() if name.startswith(prefix)]

    def said(self, name: str) -> str:
        """Return everything that it and its predecessors of that name have printed."""
        path = self._log(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"
