"""The parent of every program an agent runs: it ends the program with all its descendants when it is told to, when the
agent dies, and when the lease runs out while the agent hangs.

A program by itself, started with `python -I -S keeper.py LOCK ORDERS REPORT AGENT LOCALE PROGRAM...`; standard
library only, because it starts for every program. It

* holds a lock on the file LOCK and removes it when all went in order: a LOCK that is left, and free, tells the agent's
  next life that something may still be running;
* adopts orphans below it (a subreaper), so that no descendant can leave by double fork or a session of its own;
* reads lines from the pipe ORDERS (a descriptor): `kill SECONDS` (ask, and kill after SECONDS), `lease SECONDS`
  (as `kill` when that much time passes without another); its end means that the process AGENT is dead;
* writes the program's exit code to the pipe REPORT before it ends;
* gives the program its own environment, with LOCALE as LC_CTYPE or without it: Python sets that one as it starts.

What a program that ended by itself leaves running is left alone: it was detached on purpose (a daemon).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
GRACE = 2.0  # seconds between TERM and KILL when the agent has not said otherwise
PAUSE = 0.02  # seconds between two looks at who is still alive
KILLED = 137  # as a shell reports it
LINUX = sys.platform == "linux"


class Keeper:
    """Tends one program."""

    def __init__(self, lock: str, orders: int, report: int, agent: int) -> None:
        self.lock, self.orders, self.report, self.agent = lock, orders, report, agent
        self.program = 0
        self.exit_code: int | None = None
        self.lease_ends: float | None = None
        self.grace: float | None = None  # set: everything must end
        self.unread = b""
        self.wake_read, self.wake_write = os.pipe()

    def run(self, argv: list[str]) -> int:
        """Run the program to its end, or to that of everything. Return the exit code."""
        held = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        control_process(PR_SET_CHILD_SUBREAPER, 1)
        self.listen()
        if not self.orphaned():
            self.program = start(argv)
            self.tend()
        os.unlink(self.lock)
        return KILLED if self.exit_code is None else self.exit_code

    def listen(self) -> None:
        for ours in (self.orders, self.report):
            os.set_inheritable(ours, False)
        os.set_blocking(self.wake_write, False)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.end(GRACE))
        control_process(PR_SET_PDEATHSIG, signal.SIGTERM)  # for when a fork of the agent keeps the pipe open

    def orphaned(self) -> bool:
        """Return whether the agent died before the line above could tell us."""
        self.hear(0)
        return self.grace is not None or os.getppid() != self.agent

    def end(self, grace: float) -> None:
        self.grace = grace if self.grace is None else min(grace, self.grace)

    def tend(self) -> None:
        while self.grace is None and not self.reap():
            self.hear(self.patience())
            if self.lease_ends is not None and time.monotonic() >= self.lease_ends:
                self.end(GRACE)
        if self.grace is not None:
            self.end_everything(self.grace)

    def patience(self) -> float | None:
        return None if self.lease_ends is None else max(0.0, self.lease_ends - time.monotonic())

    def hear(self, timeout: float | None) -> None:
        ready, _, _ = select.select([self.orders, self.wake_read], [], [], timeout)
        if self.wake_read in ready:
            os.read(self.wake_read, 4096)
        if self.orders in ready:
            heard = os.read(self.orders, 4096)
            *lines, self.unread = (self.unread + heard).split(b"\n")
            for line in lines:
                self.obey(line.split())
            if not heard:
                self.end(GRACE)

    def obey(self, words: list[bytes]) -> None:
        if words[0] == b"kill":
            self.end(float(words[1]))
        elif words[0] == b"lease":
            self.lease_ends = time.monotonic() + float(words[1])

    def reap(self) -> bool:
        """Collect the dead, ours and the adopted; return whether the program is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self.exit_code is not None
            if pid == 0:
                return self.exit_code is not None
            if pid == self.program:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code

    def end_everything(self, grace: float) -> None:
        """Ask every descendant to end, then kill until none is left, however fast they fork."""
        kill_from = time.monotonic() + grace
        asked: set[int] = set()
        while alive := self.survivors():
            deadly = time.monotonic() >= kill_from
            for pid in alive if deadly else alive - asked:
                send(pid, signal.SIGKILL if deadly else signal.SIGTERM)
            asked |= alive
            time.sleep(PAUSE)

    def survivors(self) -> set[int]:
        self.reap()
        return descendants(os.getpid()) if LINUX else group(self.program)


def start(argv: list[str]) -> int:
    """Start the program and return its process id. One that cannot be started exits with 127, as in a shell."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    control_process(PR_SET_PDEATHSIG, signal.SIGKILL)  # should somebody kill the keeper
    if not LINUX:
        os.setpgid(0, 0)  # all that can be told apart there
    if os.getppid() == parent:
        try:
            os.execvp(argv[0], argv)
        except OSError as error:
            os.write(2, f"{argv[0]} cannot be run: {error.strerror}\n".encode())
    os._exit(127)


def control_process(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> set[int]:
    """Return every living process below `root`. Zombies are dead: their parents need not collect them for us."""
    children: dict[int, list[int]] = {}
    living = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat_fields(name)):
            children.setdefault(int(fields[1]), []).append(int(name))
            if fields[0] not in (b"Z", b"X"):
                living.add(int(name))
    below: set[int] = set()
    ahead = [root]
    while ahead:
        found = children.get(ahead.pop(), [])
        below.update(found)
        ahead.extend(found)
    return below & living


def stat_fields(pid: str) -> list[bytes]:
    """Return state, parent and so on; what comes before them, the program's name, may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def group(leader: int) -> set[int]:
    """Return the process group as the negative number that `kill` takes, empty when nobody is left in it."""
    return {-leader} if send(-leader, 0) else set()


def send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, by sudo: it is alive, and we wait for it
        return True
    return True


if __name__ == "__main__":
    keeper = Keeper(sys.argv[1], *map(int, sys.argv[2:5]))
    if not sys.argv[5]:
        os.environ.pop("LC_CTYPE", None)
    code = keeper.run(sys.argv[6:])
    with contextlib.suppress(OSError):  # the agent is dead
        os.write(keeper.report, b"%d\n" % code)
    sys.exit(code)
