"""Asks Ansible which hosts the patterns of playbooks stand for: one program for all patterns of an inventory.

It has LIMIT seconds. Lists of hosts are read from a copy that is checked against the manifest, by a program that runs
nothing and loads no plugin of the project's. An inventory that is a program runs where it lies, beside its own files.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chargehand.agents.infra.ansible_paths import config_of, pinned
from chargehand.agents.infra.copying import copy_tree
from chargehand.agents.infra.inventory import Inventory, entries_of, programs, unsafe_program
from chargehand.agents.infra.manifest import Manifest
from chargehand.agents.infra.plays import Pattern, UnknownHosts
from chargehand.domain.hosts import MOST_GROUPS, MOST_HOSTS

PROGRAM = Path(__file__).parent / "ansible_plugins" / "hosts.py"
LIMIT = 30  # seconds for an answer; 10,000 hosts take 3
MOST_ANSWER = 20_000_000  # bytes; 50,000 names in 100 groups have 5 MB
TOLD = 300  # characters of what went wrong


@dataclass(frozen=True)
class Question:
    """One inventory, as it is now: `read` says of each source in which directory it lies, and what is in it.

    `programs` are those of its files that are no lists of hosts. `config` and `root` are the project's.
    """

    inventory: Inventory
    read: tuple[tuple[Path, Mapping[str, str]], ...]
    programs: tuple[Path, ...]
    config: Path | None
    root: Path

    @cached_property
    def key(self) -> str:
        """What the answer depends on, as far as it lies in files."""
        config = str(self.config or "") if self.programs else ""
        pairs = zip(self.inventory.sources, self.read, strict=True)
        said = [[str(source), sorted(entries.items())] for source, (_, entries) in pairs]
        return hashlib.sha256(json.dumps([config, said]).encode(errors="surrogateescape")).hexdigest()

    def ask(self, patterns: list[Pattern], environment: Mapping[str, str], home: Path | None) -> dict[str, Any]:
        """Return what `ansible_plugins/hosts.py` says. Raises `UnknownHosts`, `ContentChanged`, OSError."""
        with tempfile.TemporaryDirectory(dir=home) as made:
            folder = Path(made)
            empty = folder / "empty"
            empty.mkdir()
            sources = list(self.inventory.sources) if self.programs else self._copied(folder)
            pins = pinned(self.config, self.root, empty) if self.programs else pinned(None, empty, empty)
            said = _run(
                {
                    "sources": [str(source) for source in sources],
                    "patterns": patterns,
                    "groups": MOST_GROUPS - 1,  # and `all`
                    "seconds": LIMIT,
                    "static": not self.programs,
                },
                {**environment, **pins, "ANSIBLE_HOME": str(empty), "ANSIBLE_NOCOLOR": "1"},
                folder,
            )
        if problem := said.get("problem"):
            raise UnknownHosts(str(problem).replace(f"{folder}/0/", "").replace(str(folder), "")[:TOLD])
        if said["known"] > MOST_HOSTS:
            raise UnknownHosts(f"it has more than {MOST_HOSTS:,} hosts")
        return said

    def _copied(self, folder: Path) -> list[Path]:
        """Copy the sources, checked by their hashes, and return where they lie in the copy."""
        sources = []
        for number, (source, (base, entries)) in enumerate(zip(self.inventory.sources, self.read, strict=True)):
            copy_tree(base, entries, folder / str(number))
            sources.append(folder / str(number) / source.relative_to(base))
        return sources


def question(inventory: Inventory, file: Path, root: Path, parts: tuple[Manifest, ...]) -> Question:
    """Return what to ask for a playbook. Raises `UnknownHosts` for a program that must not be run."""
    read = tuple(entries_of(source, parts) for source in inventory.sources)
    found = tuple(path for base, entries in read for path in programs(base, entries))
    if found and inventory.own:
        raise UnknownHosts(
            f"the project's inventory {found[0]} is a program, or the settings of a plugin. It would be asked for hosts"
            f" before anything is approved, so name it: CHARGEHAND_INVENTORY={inventory.sources[0]}"
            " (a list of hosts must not be executable)"
        )
    if problem := next(filter(None, map(unsafe_program, found)), None):
        raise UnknownHosts(f"the inventory is not asked for hosts: {problem}")
    return Question(inventory, read, found, config_of(file, root), root)


def _run(question: dict[str, Any], environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Ask Ansible, for at most LIMIT seconds. Raises `UnknownHosts`."""
    with (folder / "answer").open("w+b") as answer, (folder / "errors").open("w+b") as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", "-B", str(PROGRAM)],
            stdin=subprocess.PIPE, stdout=answer, stderr=errors, env=dict(environment), cwd=folder,
            start_new_session=True,
        )  # fmt: skip
        assert child.stdin is not None
        try:
            with suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps(question).encode())
            code = child.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise UnknownHosts(f"it gave no answer within {LIMIT} s") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        answer.seek(0)
        text = answer.read(MOST_ANSWER + 1)
        errors.seek(0)
        tail = errors.read()[-TOLD:].decode(errors="replace")
    try:
        found = json.loads(text) if len(text) <= MOST_ANSWER else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnknownHosts(f"Ansible could not read it (exit code {code}): {tail.strip()}")
    return found
