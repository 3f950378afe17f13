"""Reads the operator's list of actions, and tells which of them this machine can do.

The list decides which programs may run, so it is refused where somebody else could have written it; the same holds for
each program it names.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chargehand import folders
from chargehand.agents.desktop.actions import INTENT, Action, BadAutomation, Entry, parse, spec_of
from chargehand.domain.errors import ContentChanged
from chargehand.domain.intents import IntentSpec

log = logging.getLogger("chargehand.agents.desktop")

FILE = "automation.yml"
MAX_BYTES = 1_000_000  # it is written by hand
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Listed:
    """One action as it is offered: `action` is missing where the entry of the list is broken."""

    spec: IntentSpec
    action: Action | None


class Automation:
    """The list of one configured directory. `environment` is what its programs will get."""

    def __init__(self, folder: Path | None, environment: Callable[[], Mapping[str, str]]) -> None:
        self._path = folder / FILE if folder is not None else None
        self._environment = environment
        self._digests: dict[Path, tuple[Stamp, str]] = {}
        self.listed: tuple[Listed, ...] = ()
        self.problem: str | None = None
        """Why the list as a whole is refused."""

    def rescan(self) -> bool:
        """Read the list again; return whether any offer differs from the last time. Blocks."""
        before, known = self.listed, self.problem
        try:
            self.listed, self.problem = tuple(self._read()), None
        except BadAutomation as error:
            self.listed, self.problem = (), str(error)
        if self.problem and self.problem != known:
            log.warning("no actions are offered: %s", self.problem)
        return self.listed != before

    def current(self, intent: str, content_hash: str) -> Action:
        """Return the action as the list has it now, provided that it is the approved one. Blocks.

        Raises `ContentChanged` when it is not, `BadAutomation` when the list is no longer to be trusted.
        """
        for listed in self._read():
            if listed.spec.intent == intent and listed.action is not None:
                if content_hash and listed.spec.bound_hash != content_hash:
                    break
                return listed.action
        raise ContentChanged(f"{intent} is not what was approved any more; nothing was run")

    def content_hash(self, intent: str) -> str:
        """Return the digest of the action and its program as they are now; empty when it is gone. Blocks."""
        return next((listed.spec.content_hash for listed in self._read() if listed.spec.intent == intent), "")

    def _read(self) -> Iterator[Listed]:
        if self._path is None:
            return
        for entry in parse(trusted_text(self._path), self._path.name):
            if entry.action is not None:
                yield Listed(self._spec(entry.action), entry.action)
            elif INTENT.match(entry.intent):
                yield Listed(self._broken(entry), None)
            else:
                log.warning("an action is left out: %s", entry.problem)

    def _spec(self, action: Action) -> IntentSpec:
        environment = self._environment()
        digest = hashlib.sha256(action.model_dump_json().encode())
        problem = _missing(action, environment)
        for path in _files(action, environment):
            problem = problem or _distrust(path, path.stat())
            digest.update(f"\0{path}\0{self._digest(path)}".encode())
        found = {"content_hash": digest.hexdigest(), "source": str(self._path), "unavailable": problem}
        return spec_of(action).model_copy(update=found)

    def _broken(self, entry: Entry) -> IntentSpec:
        return IntentSpec(
            intent=entry.intent,
            work_type="run_automation",
            agent_type="desktop",
            source=str(self._path),
            unavailable=entry.problem,
        )

    def _digest(self, path: Path) -> str:
        status = path.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._digests.get(path)
        if known is None or known[0] != stamp:
            with path.open("rb") as file:
                self._digests[path] = known = (stamp, hashlib.file_digest(file, "sha256").hexdigest())
        return known[1]


def trusted_text(path: Path) -> str:
    """Return what is in a file that only its owner can have written; empty when there is none.

    Raises `BadAutomation` when the file or its directory can be written by everybody, or belongs to somebody else than
    root and the agent's user.
    """
    try:
        with path.open("rb") as file:
            status, raw = os.fstat(file.fileno()), file.read(MAX_BYTES + 1)
        problem = _distrust(path, status) or folders.intruder(path.parent, sticky=True)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BadAutomation(f"{path} cannot be read: {error.strerror}") from error
    if problem is not None:
        raise BadAutomation(f"refused: {problem}", hint="It says which programs may run: nobody else may write it.")
    if len(raw) > MAX_BYTES:
        raise BadAutomation(f"{path} is larger than {MAX_BYTES:,} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadAutomation(f"{path} is not text in UTF-8") from error


def _distrust(path: Path, status: os.stat_result) -> str | None:
    """Return why somebody else could have changed a file or directory, or None."""
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to another user than root and the agent's"
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return f"{path} can be written by everybody (chmod o-w '{path}')"
    return None


def _missing(action: Action, environment: Mapping[str, str]) -> str | None:
    """Return what this machine lacks for an action, or None."""
    for name in (action.argv[0], *action.requires.commands):
        if shutil.which(name, path=environment.get("PATH")) is None:
            return f"needs {name}, which this machine does not have or may not run"
    if action.requires.display and sys.platform != "darwin" and not any(map(environment.get, DISPLAYS)):
        return f"needs a graphical session: the agent was started without {' and '.join(DISPLAYS)}"
    return None


def _files(action: Action, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield what an approval of the action covers besides its line: its program, and files it names by full path."""
    program = shutil.which(action.argv[0], path=environment.get("PATH"))
    for name in ([program] if program else []) + [element for element in action.argv[1:] if element.startswith("/")]:
        path = Path(os.path.realpath(name))
        if path.is_file():
            yield path
