"""What was found out about inventories, kept: asking Ansible takes a second, and a program may take longer.

Lists of hosts are kept by their digest, so that the names behind an approval are still known when it runs. Without a
folder (nobody runs anything then) everything is in memory.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chargehand.domain.hosts import digest_of

KEPT = 2_000  # lists of 30 KB: an approval lasts a week, in which an inventory may change every five minutes
KEPT_ANSWERS = 50  # of inventories: each edit of one makes another

log = logging.getLogger("chargehand.agents.infra")


class HostLists:
    """Answers of inventories by key, and lists of hosts by digest."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[str, Any] = {}

    def keep(self, names: Iterable[str]) -> None:
        """Keep a list of hosts."""
        listed = sorted({*names})
        self._write("lists", digest_of(listed), listed, KEPT)

    def names(self, digest: str) -> list[str]:
        """Return the hosts behind a digest, none when they are not known (any more)."""
        found = self._read("lists", digest)
        return found if isinstance(found, list) and digest_of(found) == digest else []

    def keep_answer(self, key: str, answer: dict[str, Any]) -> None:
        """Keep what an inventory said."""
        self._write("answers", key, answer, KEPT_ANSWERS)

    def answer(self, key: str) -> dict[str, Any] | None:
        """Return what an inventory said."""
        found = self._read("answers", key)
        return found if isinstance(found, dict) else None

    def _read(self, kind: str, key: str) -> Any:
        if f"{kind}/{key}" in self._memory:
            return self._memory[f"{kind}/{key}"]
        try:
            return json.loads(zlib.decompress((self._folder / kind / key).read_bytes())) if self._folder else None
        except (OSError, zlib.error, ValueError):
            return None

    def _write(self, kind: str, key: str, value: Any, kept: int) -> None:
        if self._folder is None or kind == "answers":  # they are asked for every two seconds
            self._memory[f"{kind}/{key}"] = value
        if self._folder is not None:
            try:
                _replace(self._folder / kind, key, value, kept)
            except OSError as error:
                log.warning("%s cannot be written: %s", self._folder, error.strerror)


def _replace(folder: Path, key: str, value: Any, kept: int) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / key
    if path.exists() and folder.name == "lists":
        path.touch()
        return
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(zlib.compress(json.dumps(value).encode(), 1))
    unfinished.replace(path)
    newest_first = sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in newest_first[kept:]:
        old.unlink(missing_ok=True)
