"""What an earlier life of an agent, or a keeper that was killed, may have left running."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import time
from pathlib import Path

log = logging.getLogger("chargehand.agent")

MARK = "CHARGEHAND_RUN"
"""The environment variable by which the processes of one run are found when nothing else ties them to it."""
PATIENCE = 10.0
"""Seconds to wait for the keepers of an earlier life: they need two, and a busy machine some more."""
PAUSE = 0.05


def lock_path(folder: Path, run: int) -> Path:
    """Return the lock file of the keeper of an attempt's n-th program."""
    return folder / f"keeper.{run}.lock"


def mark_of(folder: Path, run: int | str) -> str:
    """Return the mark of an attempt's n-th program."""
    return f"{folder.name}.{run}"


async def settle(folder: Path, patience: float = PATIENCE) -> bool:
    """Wait until no keeper of this attempt is at work. False when one still is after `patience` seconds.

    A keeper that ended in order has removed its lock; one that was killed has not, and what it kept is ended here.
    """
    give_up = time.monotonic() + patience
    for lock in _locks(folder):
        while _is_held(lock):
            if time.monotonic() >= give_up:
                return False
            await asyncio.sleep(PAUSE)
        await asyncio.to_thread(_end_unkept, lock)
    return True


def end_marked(mark: str) -> None:
    """Kill every process with this mark that we can see. Only Linux shows the environment of others."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)
                log.warning("ended process %s, left over from %s", entry.parent.name, mark)
        except OSError:
            continue  # gone, or another user's


def _locks(folder: Path) -> list[Path]:
    return sorted(folder.glob("keeper.*.lock"))


def _end_unkept(lock: Path) -> None:
    if lock.exists():
        end_marked(mark_of(lock.parent, lock.name.split(".")[1]))
        lock.unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)
