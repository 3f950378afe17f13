"""Runs programs under their keeper (`keeper.py`), from the agent's side."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chargehand.agent.processes.orphans import MARK, end_marked
from chargehand.domain.errors import BadConfiguration, OutcomeUnknown

log = logging.getLogger("chargehand.agent")

KEEPER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")))
TAIL = 4096
"""Bytes of output kept: a screenful, which is what people ask for when a program failed."""
LONGEST_LINE = 1_000_000
"""Bytes: a longer line is passed on in pieces."""
SETTLE = 0.25
"""Seconds without output after the program's end: what still holds the pipe then is a daemon it left."""
KILL_PATIENCE = 8.0
"""Seconds that killing may take beyond the grace; what is alive then hangs in the kernel or is another user's."""

OnLine = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Finished:
    """How a program ended. `tail` is the last 4 kB of what it wrote, standard error included."""

    exit_code: int
    tail: str


class Program:
    """One program, its keeper and their pipes."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None, cwd: Path, lock: Path, mark: str, grace: float
    ) -> None:
        """Start it. Raises `BadConfiguration` when this machine does not have the program."""
        environment = inherited() if env is None else dict(env)
        check_runnable(argv[0], environment, cwd)
        self._mark, self._grace = mark, grace
        self._told = False
        self._tail = b""
        # Two pipes, not a socket: closing a socket with an unread order in it would take the report back.
        their_orders, self._orders = os.pipe()
        self._report, their_report = os.pipe()
        self._output, writing = os.pipe()
        os.set_blocking(self._orders, False)
        keeper = [*KEEPER, str(lock), str(their_orders), str(their_report), str(os.getpid())]
        try:
            self._keeper = subprocess.Popen(
                [*keeper, environment.get("LC_CTYPE", ""), *argv],
                env={**environment, MARK: mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=(their_orders, their_report),
                start_new_session=True,
            )
        except OSError:
            self._close()
            raise
        finally:
            for theirs in (their_orders, their_report, writing):
                os.close(theirs)
        self._ended = asyncio.create_task(self._last_word(), name=f"keeper of {mark}")

    @property
    def pid(self) -> int:
        """The process id of its keeper, below which it and all that it starts are."""
        return self._keeper.pid

    def end(self, grace: float) -> None:
        """Ask the program and all it started to end; what has not after `grace` seconds is killed."""
        self._told = True
        self._tell(f"kill {grace:.3f}\n")

    def renew(self, seconds: float) -> None:
        """Let the keeper end everything by itself when this is not called again for so long."""
        self._tell(f"lease {max(0.0, seconds):.3f}\n")

    async def finish(self, on_line: OnLine | None) -> Finished:
        """Pass the output on until the program has ended.

        Raises `OutcomeUnknown` when the keeper was killed; what could be seen of the program was ended.
        """
        await self._pass_on(on_line)
        await asyncio.wait({self._ended})  # not `await`: our cancellation must not end the task
        word = self._ended.result()
        if not word and not self._told:
            end_marked(self._mark)
            raise OutcomeUnknown("the program's keeper was killed, and so the program was ended")
        return Finished(int(word or 137), self._tail.decode(errors="replace"))

    async def close(self) -> bool:
        """End what still runs and free everything; False when something could not be ended."""
        if not self._ended.done():
            self.end(self._grace)
            await asyncio.wait({self._ended}, timeout=self._grace + KILL_PATIENCE)
        gone = self._ended.done()
        if gone:
            await asyncio.to_thread(self._keeper.wait)  # it has said its last word
            if not self._ended.result():
                end_marked(self._mark)
        else:
            log.error("a program of %s could not be ended", self._mark)
            self._ended.cancel()
            await asyncio.wait({self._ended})
        self._close()
        return gone

    async def _last_word(self) -> str:
        """Return the exit code the keeper reports, empty when it was killed."""
        said = b""
        while heard := await _read(self._report):
            said += heard
        return said.decode().strip()

    async def _pass_on(self, on_line: OnLine | None) -> None:
        line = b""
        while chunk := await self._chunk():
            self._tail = (self._tail + chunk)[-TAIL:]
            if on_line is None:
                continue
            *lines, line = (line + chunk).split(b"\n")
            if len(line) > LONGEST_LINE:
                lines, line = [*lines, line], b""
            for each in lines:
                await on_line(each.decode(errors="replace").rstrip("\r"))
        if line and on_line is not None:
            await on_line(line.decode(errors="replace"))

    async def _chunk(self) -> bytes:
        """Return the next output, empty at its end or soon after the program's."""
        reading = asyncio.create_task(_read(self._output), name=f"output of {self._mark}")
        try:
            await asyncio.wait({reading, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await asyncio.wait({reading}, timeout=SETTLE)
            return reading.result() if reading.done() else b""
        finally:
            reading.cancel()

    def _close(self) -> None:
        for ours in (self._orders, self._report, self._output):
            os.close(ours)

    def _tell(self, words: str) -> None:
        try:
            os.write(self._orders, words.encode())
        except OSError:
            log.debug("the keeper of %s does not listen any more", self._mark)


async def _read(fd: int) -> bytes:
    """Read what there is, at least a byte; empty at the end."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _fulfil, readable)
    try:
        await readable
    finally:
        loop.remove_reader(fd)
    return os.read(fd, 65_536)


def _fulfil(promise: asyncio.Future[None]) -> None:
    if not promise.done():
        promise.set_result(None)


def inherited() -> dict[str, str]:
    """Return the agent's own environment without its own settings: a database URL holds a password."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CHARGEHAND_")}


def check_runnable(program: str, environment: Mapping[str, str], cwd: Path) -> None:
    """Raise `BadConfiguration` unless the program is there and may be executed."""
    place = str(cwd / program) if os.sep in program else program
    if shutil.which(place, path=environment.get("PATH", os.defpath)) is None:
        raise BadConfiguration(
            f"there is no program {program} that this agent could run", hint="Install it, or mend the agent's PATH."
        )
