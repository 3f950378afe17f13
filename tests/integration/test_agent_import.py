"""Importing the SDK costs an author, and every CLI command near it, next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.alone
def test_the_sdk_loads_fast_and_little() -> None:
    """Under 0.1 s of CPU beyond the models everything needs, and none of the slow libraries."""
    program = (
        "import sys, time; import chargehand.domain.messages, chargehand.domain.plans;"
        "begun = time.process_time(); import chargehand.agent;"
        "print(time.process_time() - begun, *(m for m in ('psutil', 'jsonschema', 'sqlalchemy') if m in sys.modules))"
    )
    seconds, *loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert float(seconds) < 0.1
    assert loaded == []
