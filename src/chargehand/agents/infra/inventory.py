"""Which inventory counts for a playbook, and what of it is a program.

`CHARGEHAND_INVENTORY` goes before everything. Without it the project's own counts: what `ansible.cfg` names as its
`inventory`, else the nearest file or directory of one of these NAMES, from the playbook's directory upwards.
Nothing is guessed where there are two.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chargehand import folders
from chargehand.agents.infra.ansible_paths import config_of, setting
from chargehand.agents.infra.manifest import FOLDER, Manifest
from chargehand.agents.infra.plays import UnknownHosts

NAMES = tuple(f"{name}{end}" for name in ("inventory", "hosts") for end in ("", ".yml", ".yaml", ".ini", ".toml"))
# What Ansible leaves out in a directory of inventories, as far as it matters for what is a program.
_LEFT_OUT = re.compile(
    r"(?:^|/)(?:\.|(?:group_vars|host_vars|vars_plugins)(?:/|$))|(?:~|\.(?:orig|cfg|md|txt|rst|retry|bak))$"
)
_PLUGIN = re.compile(rb"^[\s{\"']*plugin[\"']?\s*:", re.MULTILINE)
HEAD = 100_000  # bytes of a file that are looked at


@dataclass(frozen=True)
class Inventory:
    """Where an inventory lies, in order. `own` is that of the project, which nobody has configured."""

    sources: tuple[Path, ...]
    own: bool


def inventory_of(file: Path, project: Path, configured: Path | None) -> Inventory | None:
    """Return the inventory of a playbook. Raises `UnknownHosts` where nobody can say which it is."""
    if configured is not None:
        return Inventory((configured,), own=False)
    found = own_inventory(file, project)
    return Inventory(found, own=True) if found else None


def own_inventory(file: Path, project: Path) -> tuple[Path, ...]:
    """Return the project's own inventory, by paths in the project. Raises `UnknownHosts`."""
    config = config_of(file, project)
    named = setting(config, "inventory") if config else ""
    if config and named:
        return tuple(_in_project(config.parent / part.strip(), project) for part in named.split(",") if part.strip())
    folder = file.parent
    while folder.is_relative_to(project):
        there = [folder / name for name in NAMES if (folder / name).exists()]
        if len(there) > 1:
            names = " and ".join(path.name for path in there)
            raise UnknownHosts(f"{folder} holds {names}: say which counts with `inventory =` in ansible.cfg")
        if there:
            return (_in_project(there[0], project),)
        folder = folder.parent
    return ()


def _in_project(path: Path, project: Path) -> Path:
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(project)) or not real.exists():
        hint = "CHARGEHAND_INVENTORY may name one elsewhere"
        raise UnknownHosts(f"the inventory {path} is not a file in the project; {hint}")
    return real


def entries_of(source: Path, parts: tuple[Manifest, ...]) -> tuple[Path, Mapping[str, str]]:
    """Return the directory that a source lies in, and what the manifest of that says of it. Raises `UnknownHosts`."""
    for part in parts:
        if source.is_relative_to(part.base):
            name = str(source.relative_to(part.base))
            below = "" if name == "." else f"{name}/"
            found = {key: what for key, what in part.entries.items() if key == name or key.startswith(below)}
            if found:
                return part.base, _parents(name) | found
    raise UnknownHosts(f"the inventory {source} is not a part of what was read")


def _parents(name: str) -> dict[str, str]:
    return {str(parent): FOLDER for parent in Path(name).parents if str(parent) != "."}


def programs(base: Path, entries: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files of an inventory that are no lists of hosts: programs, and settings of plugins."""
    for name, what in entries.items():
        if what[0] in "fx" and not _LEFT_OUT.search(name) and (what[0] == "x" or _is_program(base / name)):
            yield base / name


def _is_program(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return head.startswith(b"#!") or (path.suffix in (".yml", ".yaml", ".json") and bool(_PLUGIN.search(head)))


def unsafe_program(path: Path) -> str | None:
    """Return why a program must not be asked: somebody else could have written it."""
    for item in (path, path.parent):
        if item.stat().st_uid not in (0, os.geteuid()):
            return f"{item} can be written by others than root and the agent's user"
    return folders.why_open(str(path), path.stat()) or folders.intruder(path.parent, sticky=True)
