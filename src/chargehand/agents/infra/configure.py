"""`add_configuration`: merges values into a configuration file. All or nothing, with a backup and a diff."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from chargehand.agent import Outcome, TaskFailed, TaskInterrupted, Work
from chargehand.agents.infra.configuration import FORMATS, merged
from chargehand.agents.infra.diffs import clip, unified
from chargehand.agents.infra.workdir import disk_full_explained
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.risks import Risk

MAX_BYTES = 5_000_000  # of a file; configuration is written by people
MAX_DIFF = 100_000  # characters: a result must fit into one message

SPEC = IntentSpec(
    intent="add_configuration",
    work_type="add_configuration",
    description="Merge values into a YAML, JSON or INI file, keeping its comments and order",
    examples=(
        "add {values} to the configuration file {file}",
        "merge {values} into {file}",
        "set {values} in {file}",
        "change the settings in {file} to {values}",
        "update the config file {file} with {values}",
        "put {values} into the settings of {file}",
        "add this to the config in {file}: {values}",
    ),
    parameters={
        "type": "object",
        "properties": {
            "file": {"type": "string", "minLength": 1, "description": "The file, or its path below a root"},
            "values": {"type": "object", "holdsSecrets": True, "description": "What to merge into it"},
            "format": {"enum": ["yaml", "json", "ini"], "description": "Default: by the file's suffix"},
            "mode": {"enum": ["merge"], "default": "merge"},
        },
        "required": ["file", "values"],
        "additionalProperties": False,
    },
    resources=Resources(estimated_duration_seconds=2, memory_mb=64),
    risk=Risk.CHANGE,
    retry_safe=True,  # merging the same values again changes nothing
    exclusive_keys=("file:{file}",),
    dry_run=True,
)


async def add_configuration(work: Work, roots: Sequence[Path]) -> Outcome:
    """Handle one attempt; see `change_file`."""
    hide = work.redactor.text
    return await asyncio.to_thread(change_file, work.parameters, roots, dry_run=work.dry_run, hide=hide)


def change_file(
    parameters: Mapping[str, Any], roots: Sequence[Path], *, dry_run: bool = False, hide: Callable[[str], str] = str
) -> Outcome:
    """Merge `values` into `file`, which must lie below one of the roots. `hide` is for the diff. Blocks.

    Raises `TaskFailed`, `TaskInterrupted` (somebody else changed the file meanwhile) and `DiskFull`; the file is then
    as it was.
    """
    path = locate(str(parameters["file"]), roots)
    form = parameters.get("format") or FORMATS.get(path.suffix.lower())
    if form is None:
        raise TaskFailed(f"cannot tell the format of {path} by its name", hint="Say format: yaml, json or ini.")
    before, stamp = _read(path)
    after = merged(before, parameters["values"], form, str(path))
    outputs: dict[str, JsonValue] = {"file": str(path)}
    if after == before:
        return Outcome(f"{path} already has these values", changed=False, outputs=outputs)
    data: dict[str, JsonValue] = {"diff": clip(hide(unified(before, after, str(path))), MAX_DIFF)}
    if dry_run:
        return Outcome(f"dry run: {path} would change", changed=True, outputs=outputs, data=data)
    backup = _replace(path, before, after, stamp)
    outputs["backup"] = str(backup) if backup else None
    verb = "changed" if backup else "created"
    return Outcome(f"{path} {verb}", changed=True, outputs=outputs, data=data)


def locate(file: str, roots: Sequence[Path]) -> Path:
    """Return the real path of a file that may be edited. Raises `TaskFailed` for any other.

    A relative path is looked for below each root. Symbolic links are followed, and what they lead to must lie below
    a root as well.
    """
    if "\0" in file:
        raise TaskFailed("a file name cannot hold a zero byte")
    real_roots = [root.resolve() for root in roots]
    given = Path(file)
    candidates = [given] if given.is_absolute() else [root / given for root in real_roots]
    path = next((path for path in candidates if path.exists()), candidates[0] if candidates else given).resolve()
    if not any(path.is_relative_to(root) for root in real_roots):
        allowed = ", ".join(map(str, real_roots)) or "none are configured"
        raise TaskFailed(f"{file} is not below the directories this agent may edit: {allowed}")
    if path.exists() and not path.is_file():
        raise TaskFailed(f"{path} is not a regular file")
    if not path.parent.is_dir():
        raise TaskFailed(f"the directory {path.parent} does not exist", hint="Create it first.")
    return path


def _read(path: Path) -> tuple[str, os.stat_result | None]:
    """Return the text and the file's state; an empty text for a file that does not exist yet."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            stamp = os.fstat(file.fileno())
            if stamp.st_size > MAX_BYTES:
                raise TaskFailed(f"{path} is larger than {MAX_BYTES:,} bytes: that is not a configuration file")
            return file.read().decode("utf-8"), stamp
    except FileNotFoundError:
        return "", None
    except UnicodeDecodeError as error:
        raise TaskFailed(f"{path} is not text in UTF-8") from error
    except OSError as error:
        raise TaskFailed(f"{path} cannot be read: {error.strerror}") from error


def _replace(path: Path, before: str, after: str, stamp: os.stat_result | None) -> Path | None:
    """Put the new text in place atomically; return the backup, or None for a new file.

    Both files are complete on disk before the first name changes, so a full disk leaves everything as it was.
    """
    backup = path.parent / f"{path.name}.{_now()}.bak" if stamp else None
    staged: list[Path] = []
    try:
        with disk_full_explained(path):
            staged = [_staged(path, text, stamp) for text in ([after, before] if backup else [after])]
            _unchanged_or_raise(path, stamp)
            if backup:
                os.replace(staged[1], backup)
            os.replace(staged[0], path)
            _sync_directory(path.parent)
    except OSError as error:
        raise TaskFailed(f"{path} cannot be written: {error.strerror}") from error
    finally:
        for leftover in staged:
            leftover.unlink(missing_ok=True)
    return backup


def _staged(path: Path, text: str, like: os.stat_result | None) -> Path:
    """Write a complete temporary file beside `path`, with its mode, owner and attributes."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    with ExitStack() as undo, open(handle, "wb") as file:
        undo.callback(temporary.unlink, missing_ok=True)
        file.write(text.encode())
        file.flush()
        _dress(temporary, path, like)
        os.fsync(file.fileno())
        undo.pop_all()
    return temporary


def _dress(temporary: Path, path: Path, like: os.stat_result | None) -> None:
    if like is None:
        temporary.chmod(0o644)  # as an editor would leave it: what reads it may run as another user
        return
    own = temporary.stat()
    if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid):
        os.chown(temporary, like.st_uid, like.st_gid)
    shutil.copystat(path, temporary)  # mode and extended attributes (labels, access lists)
    os.utime(temporary)


def _unchanged_or_raise(path: Path, stamp: os.stat_result | None) -> None:
    try:
        now = path.stat()
    except FileNotFoundError:
        now = None
    if _stamp(now) != _stamp(stamp):
        raise TaskInterrupted(f"somebody else changed {path} meanwhile; nothing was written")


def _stamp(status: os.stat_result | None) -> tuple[int, int, int] | None:
    return (status.st_ino, status.st_mtime_ns, status.st_size) if status else None


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
