"""The check of the lock files against known vulnerabilities finds what it must, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("advisories", ROOT / ".ci" / "advisories.py")
assert _spec is not None
assert _spec.loader is not None
advisories = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(advisories)

KNOWN: dict[str, Any] = {
    "accepted": {},
    "added": {"some-thing": [{"id": "CVE-1", "aliases": [], "ranges": [], "versions": ["3.3"]}]},
    "packages": {
        "some-thing": [
            {"id": "PYSEC-2", "aliases": ["CVE-2"], "ranges": [["1.0", "1.5"], ["2.0", ""]], "versions": []}
        ],
        "other": [{"id": "PYSEC-3", "aliases": [], "ranges": [["0", "9"]], "versions": []}],
    },
}


def found(lock: str, known: dict[str, Any] = KNOWN) -> list[str]:
    return list(advisories.findings(known, {"x.lock": lock}))


@pytest.mark.parametrize(
    ("version", "ids"),
    [("0.9", ""), ("1.0", "PYSEC-2"), ("1.4.9", "PYSEC-2"), ("1.5", ""), ("2.0", "PYSEC-2"), ("3.3", "PYSEC-2 CVE-1")],
)
def test_a_version_within_a_range_is_found(version: str, ids: str) -> None:
    lines = found(f"some-thing=={version} ; python_version < '3.12' \\\n    --hash=sha256:00\n")
    assert [name for name in ("PYSEC-2", "CVE-1") if any(name in line for line in lines)] == ids.split()


def test_a_finding_says_what_to_do() -> None:
    (line,) = found("Some_Thing==1.2 \\\n    --hash=sha256:00\n")
    assert line == "x.lock: some-thing 1.2 has CVE-2/PYSEC-2, fixed in 1.5"


def test_what_was_accepted_with_a_reason_is_not_told_again() -> None:
    accepted = KNOWN | {"accepted": {"CVE-2": "the part that has it is not used"}}
    assert found("some-thing==1.2 \\\n", accepted) == []


def test_the_database_is_read_as_it_is_written() -> None:
    text = """
id: PYSEC-9
aliases: [CVE-9]
affected:
- package: {name: Some.Thing, ecosystem: PyPI}
  ranges:
  - {type: GIT, events: [{introduced: "0"}, {fixed: abc}]}
  - {type: ECOSYSTEM, events: [{introduced: "0"}, {fixed: "1.2"}, {introduced: "2.0"}]}
  versions: ["1.0"]
"""
    ((package, advisory),) = advisories.read(text)
    assert (package, advisory["ranges"]) == ("some-thing", [("0", "1.2"), ("2.0", "")])
    assert list(advisories.read(text + "withdrawn: 2024-01-01\n")) == []


def test_no_pin_of_ours_is_known_to_be_vulnerable() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "advisories.py")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    listed = json.loads((ROOT / ".ci" / "advisories.json").read_text())
    assert listed["as_of"] in ended.stdout
