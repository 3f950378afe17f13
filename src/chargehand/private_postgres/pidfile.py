"""What a postmaster writes about itself into `postmaster.pid`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAME = "postmaster.pid"


@dataclass(frozen=True)
class PidFile:
    """The lines that matter. `segment` is the key and id of its shared memory, if it got that far."""

    pid: int
    socket_dir: Path | None = None
    segment: tuple[int, int] | None = None
    ready: bool = False


def parse(text: str) -> PidFile | None:
    """Read the file; lines are added while the server starts, so any of them may be missing. None: not even a pid."""
    lines = [*text.splitlines(), *[""] * 8]
    if not lines[0].strip().isdigit():
        return None
    memory = lines[6].split()
    return PidFile(
        pid=int(lines[0]),
        socket_dir=Path(lines[4]) if lines[4] else None,
        segment=(int(memory[0]), int(memory[1])) if len(memory) == 2 else None,
        ready=lines[7].strip() == "ready",
    )


def read(data_dir: Path) -> PidFile | None:
    """Return what the cluster's file says, None when there is none."""
    try:
        return parse((data_dir / NAME).read_text(errors="replace"))
    except FileNotFoundError:
        return None
