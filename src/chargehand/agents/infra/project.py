"""Which directory is the project of a playbook: the tree that an approval binds to and an attempt gets a copy of.

For playbooks it is the nearest directory above the configured one that looks like a project (MARKERS), for instance the
one with `ansible.cfg`, `roles` and `inventory` beside `playbooks`. Where there is none it is the configured directory.
A file `.chargehand-root` settles it: the nearest directory that has one, the configured one included. For scripts it is
the configured directory, unless there is a `.chargehand-root` above.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

ROOT = ".chargehand-root"
MARKERS = (
    "ansible.cfg", "roles", "collections", "inventory", "inventories", "group_vars", "host_vars", ".git",
)  # fmt: skip


def playbook_root(folder: Path, home: Path | None = None) -> Path:
    """Return the project of a directory of playbooks; `home` is the agent's own directory, which is in no project."""
    folder = Path(os.path.realpath(folder))
    above = _above(folder, home)
    return _with_root_file([folder, *above]) or next((place for place in above if _marked(place)), folder)


def script_root(folder: Path, home: Path | None = None) -> Path:
    """Return the project of a directory of scripts."""
    folder = Path(os.path.realpath(folder))
    return _with_root_file([folder, *_above(folder, home)]) or folder


def _with_root_file(places: list[Path]) -> Path | None:
    return next((place for place in places if (place / ROOT).is_file()), None)


def _marked(place: Path) -> bool:
    return any((place / name).exists() for name in MARKERS)


def _above(folder: Path, home: Path | None) -> list[Path]:
    """Return the directories above that may be a project: nobody else may write there, and no home lies in them."""
    homes = [Path(os.path.realpath(path)) for path in (Path.home(), home) if path is not None]
    found = []
    for place in folder.parents:
        if not _trusted(place) or place == Path(place.anchor) or any(own.is_relative_to(place) for own in homes):
            break
        found.append(place)
    return found


def _trusted(place: Path) -> bool:
    status = place.stat()
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & stat.S_IWOTH
