"""Over generated projects, and in time: what runs is exactly what was approved, or it is refused and the file is named.

A script tells what it found in its copy, before and after it waited. The edits come before the start, while the copy is
made, or while it runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chargehand.agents.infra import InfraAgent, InfraOptions, copying
from chargehand.testing import Ran, started

SCRIPT = """\
#!/bin/sh
# chargehand:
#   intent: run_it
#   retry_safe: true
#   parameters: {flags: {type: string}}
here=$(dirname "$0")
found() { cd "$here" && find . ! -name . | LC_ALL=C sort | while read -r name; do
  if [ -L "$name" ]; then echo "$name|l $(readlink "$name")"
  elif [ -d "$name" ]; then echo "$name|d"
  else echo "$name|$(test -x "$name" && echo x || echo f) $(sha256sum < "$name" | cut -c -64)"; fi; done; }
found > "$CHARGEHAND_FLAGS/before"
touch "$CHARGEHAND_FLAGS/began"
while [ ! -e "$CHARGEHAND_FLAGS/go" ]; do sleep 0.02; done
found > "$CHARGEHAND_FLAGS/after"
"""

names = st.sampled_from(["a", "b.yml", "ü", "x y", "c", "main.yml", "tasks", "lib", "vars"])
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=6), min_size=1, max_size=7
)
EDITS = ("flip", "append", "truncate", "delete", "rename", "add", "executable", "link", "replace", "hide", "folder")
WHEN = ("before the start", "between the look and the copy", "while it is copied", "while it runs")


class Entry(NamedTuple):
    name: str
    what: str


class Project:
    """A generated project with the script in it, and an agent that has looked at it."""

    def __init__(self, root: Path, files: Mapping[str, bytes]) -> None:
        self.root, self.flags = root / "project", root / "flags"
        self.flags.mkdir()
        self.root.mkdir()
        for name, content in files.items():
            path = self.root / name
            if not path.exists() and not any(parent.is_file() for parent in path.parents):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        (self.root / "it.sh").write_text(SCRIPT)
        (self.root / "it.sh").chmod(0o755)
        self.infra = InfraAgent(InfraOptions(home=root / "agent", script_dirs=(self.root,)))
        self.work = root / "work"

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())

    def as_found(self) -> list[Entry]:
        """What the script would find in the project itself."""
        return sorted(Entry(str(path.relative_to(self.root)), _what(path)) for path in self.root.rglob("*"))

    async def run(self, meanwhile: Any) -> Ran:
        """Run what was approved; `meanwhile` happens once it waits."""
        flags = {"flags": str(self.flags)}
        async with started(self.infra.agent, "run_it", flags, timeout=60, folder=self.work) as running:
            ended = asyncio.create_task(running.ended())
            while not (self.flags / "began").exists() and not ended.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            if not ended.done():
                meanwhile()
            (self.flags / "go").touch()
            return await ended

    def told(self, when: str) -> list[Entry]:
        lines = (line.removeprefix("./") for line in (self.flags / when).read_text().splitlines())
        return sorted(Entry(*line.split("|", 1)) for line in lines)


def _what(path: Path) -> str:
    if path.is_symlink():
        return f"l {path.readlink()}"
    if path.is_dir():
        return "d"
    return f"{'x' if os.access(path, os.X_OK) else 'f'} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def edit(project: Project, path: Path, how: str) -> None:
    """Edit one file, as old and as long as it was where that is possible."""
    content, status = path.read_bytes(), path.stat()
    if how == "flip":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:] if content else b"x")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif how == "append":
        path.write_bytes(content + b"\n")
    elif how == "truncate":
        path.write_bytes(content[:-1] if content else b"x")
    elif how == "delete":
        path.unlink()
    elif how == "rename":
        path.rename(path.with_name("renamed"))
    elif how == "add":
        (path.parent / "added").write_bytes(content)
    elif how == "executable":
        path.chmod(status.st_mode ^ 0o111)
    elif how == "link":
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")
    elif how == "replace":
        other = project.root.parent / "other"
        other.write_bytes(bytes(len(content)) if content.strip(b"\0") else b"y" * (len(content) or 1))
        shutil.copystat(path, other)
        other.replace(path)
    elif how == "hide":  # under a folder of that name
        path.unlink()
        path.mkdir()
    else:
        (path.parent / "folder").mkdir()


@contextmanager
def generated(files: Mapping[str, bytes]) -> Iterator[Project]:
    with tempfile.TemporaryDirectory() as folder:
        yield Project(Path(folder), files)


@contextmanager
def edited(project: Project, when: str, number: int, change: Any) -> Iterator[None]:
    """Let a change happen at a moment on the way to a run; while it is copied, before the file of this number."""
    take, copied, left = copying._Copier.take, project.infra.snapshots._copied, [number]

    def taking(*arguments: Any) -> None:
        if left[0] == 0:
            change()
        left[0] -= 1
        take(*arguments)

    def late(*arguments: Any) -> Any:
        change()
        return copied(*arguments)

    if when == "before the start":
        change()
    elif when == "between the look and the copy":
        project.infra.snapshots._copied = late  # type: ignore[method-assign]
    elif when == "while it is copied":
        copying._Copier.take = taking  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        copying._Copier.take = take  # type: ignore[method-assign]


@settings(max_examples=40, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck))
@given(trees, st.sampled_from(WHEN), st.sampled_from(EDITS), st.data())
def test_what_runs_is_what_was_approved_or_the_file_is_named(
    files: Mapping[str, bytes], when: str, how: str, data: st.DataObject
) -> None:
    with generated(files) as project:
        approved = project.as_found()
        path = data.draw(st.sampled_from(project.files))
        done: list[str] = []

        def change() -> None:
            edit(project, path, how)
            done.append(how)

        number = data.draw(st.integers(0, len(project.files) - 1))
        with edited(project, when, number, change):
            ran = asyncio.run(project.run(change if when == "while it runs" else lambda: None))
        assert done, "the edit was made"
        if (project.flags / "before").exists():
            assert ran.ok, ran.failure
            assert when != "before the start"
            assert project.told("before") == project.told("after") == approved
        else:
            assert ran.failure is not None
            assert ran.failure.kind == "content_changed", ran.failure
            named = {entry.name for entry in {*approved} ^ {*project.as_found()}}
            assert any(f"{name} was " in ran.failure.message for name in named), (ran.failure.message, named)
            assert "nothing was run" in ran.failure.message
        assert when != "while it runs" or ran.ok
