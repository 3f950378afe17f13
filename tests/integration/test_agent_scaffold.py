"""What `chargehand agent new` writes works as it is: its test passes, its types hold, and it can be run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chargehand.agent.scaffold import write
from chargehand.agents.loading import load
from chargehand.domain.errors import BadRequest
from chargehand.testing import Harness

ROOT = Path(__file__).parents[2]


def python(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MYPYPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, "-m", *argv], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_its_test_passes_and_its_agent_is_ten_lines(tmp_path: Path) -> None:
    agent, test, readme = write("backup-checker", tmp_path)
    assert [path.name for path in (agent, test, readme)] == ["backup_checker.py", "test_backup_checker.py", "README.md"]
    code = [line for line in agent.read_text().splitlines() if line and not line.lstrip().startswith('"""')]
    assert len(code) <= 10
    ran = python(agent.parent, "pytest", "-q", "-p", "no:cacheprovider")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


def test_its_types_are_strict(tmp_path: Path) -> None:
    agent, test, _ = write("backup-checker", tmp_path)
    cache = ROOT / ".mypy_cache" / "scaffold"  # kept: the library it uses seldom changes
    checked = python(
        agent.parent, "mypy", "--strict", "--follow-imports=silent", f"--cache-dir={cache}", agent.name, test.name
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_it_runs_as_an_agent(tmp_path: Path) -> None:
    path, *_ = write("backup-checker", tmp_path)
    loaded = load(str(path), tmp_path)
    async with Harness(loaded.agent) as orchestrator:
        assert (
            await orchestrator.result(await orchestrator.order("greet_somebody", {"name": "Ada"}))
        ).summary == "Hello Ada"


@pytest.mark.parametrize(
    "name",
    ["", "Backup", "a b", "../etc", "a/b", "-a", "a-", "a_b", "1a", "x" * 41, "json", "chargehand", "test-it", "class"],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest):
        write(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    agent, *_ = write("backup-checker", tmp_path)
    agent.write_text("mine now")
    with pytest.raises(BadRequest, match="is there already"):
        write("backup-checker", tmp_path)
    assert agent.read_text() == "mine now"
