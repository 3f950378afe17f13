"""Is the postmaster a lock file names still there?

PostgreSQL asks kill(pid, 0), and is wrong twice: a zombie answers (its parent reaps late, or a container has no init),
and so does another program that got the same number after a reboot. Both would keep the server from ever starting.
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
UNSIGNED = 0xFFFFFFFF  # the kernel prints keys as signed, PostgreSQL as unsigned


def is_postmaster(pid: int, data_dir: Path, proc: Path = PROC) -> bool:
    """Say whether `pid` is a living postmaster on `data_dir`. In doubt it is: two on one cluster would destroy it."""
    if not (proc / "self").exists():  # macOS
        return _answers(pid)
    try:
        state = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        if state in ("Z", "X"):
            return False
        return _works_in(proc / str(pid), data_dir)
    except (FileNotFoundError, ProcessLookupError):
        return False


def attached(segment: tuple[int, int], proc: Path = PROC) -> int:
    """Count the processes attached to shared memory (key, id): sessions that outlive their postmaster still hold it.

    The table is readable by everybody, unlike /proc/PID/cwd, which root in a container may not read of `nobody`. The
    key is made of the cluster's inode; the id alone belongs to somebody else after a reboot.
    """
    try:
        rows = (proc / "sysvipc/shm").read_text().splitlines()
    except OSError:
        return 0
    where = {name: column for column, name in enumerate(rows[0].split())} if rows else {}
    table = [[int(word) for word in row.split()] for row in rows[1:]]
    same = [row for row in table if (row[where["key"]] & UNSIGNED, row[where["shmid"]]) == segment]
    return sum(row[where["nattch"]] for row in same)


def _works_in(process: Path, data_dir: Path) -> bool:
    try:
        return os.readlink(process / "cwd") == str(data_dir)  # a postmaster changes into its cluster
    except PermissionError:  # root without CAP_SYS_PTRACE, as in a container: any postgres counts
        program = (process / "cmdline").read_bytes().split(b"\0")[0]
        return os.path.basename(program) == b"postgres"


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, so it exists
        return True
    return True
