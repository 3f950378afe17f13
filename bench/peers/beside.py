"""A worker beside the program that is timed: a child of it, so that its CPU counts. Standard library only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def beside(module: str, *arguments: str) -> Iterator[None]:
    """Run a module of this environment while the block lasts. What it prints is dropped, what it complains of kept."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
