"""Manifests of earlier days, so that a refusal can name the file that was changed. Losing them loses only words."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from chargehand import folders
from chargehand.agents.infra.manifest import differences, digest_of

KEPT = 50  # of each agent; an approval expires after a week, and few projects change 50 times in one
NAMED = 3  # changed files that are named; the others are counted

Parts = Mapping[str, Mapping[str, str]]
"""The entries of each part of a snapshot."""

log = logging.getLogger("chargehand.agents.infra")


class History:
    """One file per snapshot. Without a folder (nobody runs anything then) they are in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._latest: dict[str, Parts] = {}

    def keep(self, contents: Iterable[str], parts: Parts) -> None:
        """Keep a snapshot under the content hashes that come from it."""
        hashes = sorted(contents)
        if self._folder is None:
            self._latest |= dict.fromkeys(hashes, parts)
        else:
            try:
                self._write(self._folder, hashes, parts)
            except OSError as error:
                log.warning("%s cannot be written: %s", self._folder, error.strerror)

    def behind(self, content_hash: str) -> Parts | None:
        """Return the snapshot behind a content hash, if it is still known."""
        if content_hash in self._latest:
            return self._latest[content_hash]
        for path in self._files():
            try:
                kept = json.loads(zlib.decompress(path.read_bytes()))
            except (OSError, zlib.error, ValueError):
                continue
            if content_hash in kept["contents"]:
                parts: Parts = kept["parts"]
                return parts
        return None

    def _write(self, folder: Path, hashes: list[str], parts: Parts) -> None:
        folders.make(folder)
        name = digest_of({name: digest_of(entries) for name, entries in parts.items()} | dict.fromkeys(hashes, ""))
        path = folder / name[:32]
        if path.exists():
            path.touch()
            return
        folders.write(path, zlib.compress(json.dumps({"contents": hashes, "parts": parts}).encode(), 1))
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)


def words(before: Parts, now: Parts) -> str:
    """Return what differs between two snapshots: `tasks/more.yml was changed, x.yml was added (and 4 more)`."""
    found = [item for part in {**before, **now} for item in _in_part(part, before, now)]
    more = f" (and {len(found) - NAMED:,} more)" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def _in_part(part: str, before: Parts, now: Parts) -> list[str]:
    found = differences(before.get(part, {}), now.get(part, {}))
    prefix = "" if part == "project" else f"{part}: "
    return [prefix + item for item in found]
