"""The tests that are too slow for every change: they fit the catalogue match anew and compare it with what is shipped.

They need the developers' tools, which `./run soak` installs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from bench.programs import ROOT

TOLD = 2_000  # characters of what failed


def add_options(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


def run(*, quick: bool) -> Mapping[str, Any]:
    """Run the tests marked `soak` and return how many passed; `quick` only collects them."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "soak", "-p", "no:cacheprovider", "tests"]
    command += ["--collect-only"] if quick else []
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    counted = re.search(r"(\d+)(?:/\d+)? (?:passed|tests collected)", ended.stdout)
    broken = [] if ended.returncode == 0 else [(ended.stdout + ended.stderr)[-TOLD:]]
    return {"tests": int(counted[1]) if counted else 0, "broken": broken}
