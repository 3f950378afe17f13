"""Short chaos, as `./run bench chaos` makes it: everything is killed in turn, and no promise is broken.

`./run soak` has ten minutes of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.rabbit import find_server
from tests.postgres import require_postgres, unavailable

SECONDS = 30
SEED = 15131  # by its schedule every kind of kill comes within 19 s, and all eight kinds of trouble within 29 s
BOUND = 540  # seconds in all: on a busy machine starting and draining take longer than the storm


def test_chaos_breaks_no_promise(tmp_path: Path) -> None:
    require_postgres()
    if find_server() is None:
        unavailable("RabbitMQ is not installed (Debian, Ubuntu: apt-get install rabbitmq-server)")
    kept = Path(os.environ.get("CHAOS_KEEP", tmp_path / "kept"))
    command = [sys.executable, "-m", "bench", "chaos", "--seconds", str(SECONDS), "--seed", str(SEED)]
    command += ["--json", "--keep", str(kept)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
    assert ended.stdout, ended.stderr[-4000:]
    figures = json.loads(ended.stdout.splitlines()[-1])
    told = json.dumps(figures, indent=1)
    assert figures["broken"] == [], told
    assert ended.returncode == 0
    assert figures["lost"] == figures["stuck"] == 0, told
    assert figures["doubled_same_lease"] == figures["doubled_not_retry_safe"] == 0, told
    assert figures["second_starts_same_lease"] == 0, told
    assert all(figures["kills"][kind] for kind in ("server", "agent", "broker", "database")), told
    assert figures["accepted"] == figures["attempted"], told
    assert min(figures["completed"], figures["effects"]) > 0, told
