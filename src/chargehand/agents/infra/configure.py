"""`add_configuration`: merges values into a configuration file. All or nothing, with a backup and a diff."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from chargehand.agent import Outcome, TaskFailed, TaskInterrupted, Work
from chargehand.agents.infra import beneath
from chargehand.agents.infra.configuration import FORMATS, merged
from chargehand.agents.infra.diffs import clip, unified
from chargehand.agents.infra.workdir import disk_full_explained
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.risks import Risk

MAX_BYTES = 1_000_000  # of a file; configuration is written by people
READABLE = 0o644  # of a new file, as an editor would leave it: what reads it may run as another user
PRIVATE = 0o600  # of a new file with the value of a secret in it
MOVED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.ESTALE})  # a link, or a file, where a directory was
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
    hide = work.redactor
    private = hide.value(work.parameters["values"]) != work.parameters["values"]
    change = partial(change_file, dry_run=work.dry_run, hide=hide.text, private=private)
    return await asyncio.to_thread(change, work.parameters, roots)


def change_file(
    parameters: Mapping[str, Any],
    roots: Sequence[Path],
    *,
    dry_run: bool = False,
    hide: Callable[[str], str] = str,
    private: bool = False,
) -> Outcome:
    """Merge `values` into `file`, which must lie below one of the roots. `hide` is for the diff. Blocks.

    A new file is only its owner's when what goes into it is `private`. Raises `TaskFailed`, `TaskInterrupted` (somebody
    else changed the file or moved its directory meanwhile) and `DiskFull`; the file is then as it was.
    """
    path = locate(str(parameters["file"]), roots)
    form = parameters.get("format") or FORMATS.get(path.suffix.lower())
    if form is None:
        raise TaskFailed(f"cannot tell the format of {path} by its name", hint="Say format: yaml, json or ini.")
    with _opened(path, roots) as place:
        after = merged(place.text, parameters["values"], form, str(path))
        outputs: dict[str, JsonValue] = {"file": str(path)}
        if after == place.text:
            return Outcome(f"{path} already has these values", changed=False, outputs=outputs)
        data: dict[str, JsonValue] = {"diff": clip(hide(unified(place.text, after, str(path))), MAX_DIFF)}
        if dry_run:
            return Outcome(f"dry run: {path} would change", changed=True, outputs=outputs, data=data)
        backup = _replace(place, after, PRIVATE if private else READABLE)
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
    with _explained(given, "found"):
        path = _real(given, real_roots)
    if not any(path.is_relative_to(root) for root in real_roots):
        allowed = ", ".join(map(str, real_roots)) or "none are configured"
        raise TaskFailed(f"{file} is not below the directories this agent may edit: {allowed}")
    if path.exists() and not path.is_file():
        raise TaskFailed(f"{path} is not a regular file")
    if not path.parent.is_dir():
        raise TaskFailed(f"the directory {path.parent} does not exist", hint="Create it first.")
    return path


def _real(given: Path, roots: Sequence[Path]) -> Path:
    candidates = [given] if given.is_absolute() else [root / given for root in roots]
    try:
        return next((path for path in candidates if path.exists()), candidates[0] if candidates else given).resolve()
    except FileNotFoundError as error:  # between two looks at it
        raise OSError(errno.ESTALE, "it is being moved") from error
    except RuntimeError as error:
        raise TaskFailed(f"{given} is a symbolic link that leads to itself") from error


@dataclass(frozen=True)
class _Place:
    """A file by the handle of its directory, and as it was found: an empty text and no handle when there is none."""

    path: Path
    root: Path
    folder: int
    file: int | None
    stamp: tuple[int, int, int] | None
    text: str


@contextmanager
def _opened(path: Path, roots: Sequence[Path]) -> Iterator[_Place]:
    root = next(root for root in (each.resolve() for each in roots) if path.is_relative_to(root))
    with ExitStack() as open_until_end:
        with _explained(path, "read"):
            folder = open_until_end.enter_context(beneath.folder_below(root, path.parent))
            handle: int | None = None
            with suppress(FileNotFoundError):
                handle = opened = beneath.file_in(folder, path.name)
                open_until_end.callback(os.close, opened)
            stamp, text = (None, "") if handle is None else (_stamp(handle), _text(handle, path))
        yield _Place(path, root, folder, handle, stamp, text)


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in MOVED:
            raise TaskInterrupted(f"somebody else moved what leads to {path} meanwhile; nothing was written") from error
        raise TaskFailed(f"{path} cannot be {what}: {error.strerror}") from error


def _text(handle: int, path: Path) -> str:
    if os.fstat(handle).st_size > MAX_BYTES:
        raise TaskFailed(f"{path} is larger than {MAX_BYTES:,} bytes: that is not a configuration file")
    try:
        with open(os.dup(handle), "rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TaskFailed(f"{path} is not text in UTF-8") from error


def _replace(place: _Place, after: str, mode: int) -> Path | None:
    """Put the new text in place atomically; return the backup, or None for a new file.

    Both files are complete on disk before the first name changes, so a full disk leaves everything as it was.
    """
    name, folder = place.path.name, place.folder
    backup = f"{name}.{_now()}.bak" if place.file is not None else None
    staged: list[str] = []
    try:
        with _explained(place.path, "written"), disk_full_explained(place.path):
            for text in [after, place.text] if backup else [after]:
                staged.append(beneath.staged(folder, name, text.encode(), like=place.file, mode=mode))  # noqa: PERF401
            _unchanged_or_raise(place)
            if backup:
                beneath.rename(folder, staged[1], backup)
            beneath.rename(folder, staged[0], name)
            os.fsync(folder)
    finally:
        for leftover in staged:
            beneath.remove(folder, leftover)
    return place.path.with_name(backup) if backup else None


def _unchanged_or_raise(place: _Place) -> None:
    if not beneath.is_still(place.folder, place.root, place.path.parent) or not _is_unchanged(place):
        raise TaskInterrupted(f"somebody else changed {place.path} meanwhile; nothing was written")


def _is_unchanged(place: _Place) -> bool:
    try:
        now = beneath.file_in(place.folder, place.path.name)
    except FileNotFoundError:
        return place.file is None
    except OSError:  # a link, a directory
        return False
    try:
        return _stamp(now) == place.stamp
    finally:
        os.close(now)


def _stamp(handle: int) -> tuple[int, int, int]:
    status = os.fstat(handle)
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
