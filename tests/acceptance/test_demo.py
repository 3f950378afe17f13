"""The main job as a newcomer runs it: a sentence, real Ansible, real services, checked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import require_postgres, throwaway_home

ROOT = Path(__file__).parents[2]
SENTENCE = "Deploy the status page and add our existing portals to its config"


@dataclass
class Demo:
    """A home of its own, with ports and directories that nobody else uses."""

    home: Path
    port: int

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CHARGEHAND_")}
        return kept | {
            "PYTHONPATH": str(ROOT / "src"),
            "CHARGEHAND_HOME": str(self.home),
            "CHARGEHAND_PLAYBOOKS": str(ROOT / "examples/homelab/playbooks"),
            "CHARGEHAND_ANSIBLE_VARS": str(self.home.parent / "vars.yml"),
            "CHARGEHAND_HEARTBEAT_SECONDS": "2",
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "chargehand", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/status", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    require_postgres()
    with throwaway_home() as home:
        status_page, dashboard, media = free_ports(3)
        variables = {
            "homelab_dir": str(home.parent / "lab"),
            "status_page_port": status_page,
            "home_dashboard_port": dashboard,
            "media_library_port": media,
        }
        (home.parent / "vars.yml").write_text(json.dumps(variables))
        made = Demo(home, status_page)
        yield made
        for sentence in ("remove the status page", "remove the portals"):
            removed = made.run("run", "--yes", sentence)
            assert removed.returncode == 0, removed.stdout + removed.stderr


def test_a_dry_run_says_what_would_change_and_changes_nothing(demo: Demo) -> None:
    result = demo.run("run", "--dry-run", "--yes", SENTENCE)
    assert result.returncode == 0, result.stdout + result.stderr
    with pytest.raises(OSError, match="refused"):
        demo.status()
    assert not (demo.home.parent / "lab").exists()


def test_killed_in_the_middle_the_same_command_completes_it(demo: Demo) -> None:
    program = subprocess.Popen(
        demo.command("run", "--yes", "--key", "demo", SENTENCE),
        env=demo.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    seen = []
    for line in program.stdout:
        seen.append(line)
        if line.startswith("2 ") and "started" in line:
            break
    os.killpg(program.pid, signal.SIGKILL)
    program.communicate()
    assert seen[-1].startswith("2 "), "".join(seen)
    result = demo.run("run", "--yes", "--key", "demo", SENTENCE)
    assert result.returncode == 0, result.stdout + result.stderr
    portals = demo.status()["portals"]
    assert [(p["name"], p["status"]) for p in portals] == [("Home dashboard", "up"), ("Media library", "up")]


def test_a_second_run_changes_nothing(demo: Demo) -> None:
    began = time.monotonic()
    result = demo.run("run", "--yes", "--json", SENTENCE)
    assert result.returncode == 0, result.stdout + result.stderr
    tasks = json.loads(result.stdout)["tasks"]
    assert [task["changed"] for task in tasks] == [False, False], result.stdout
    page = {"task": 1, "output": "status_page_url", "intent": "deploy_status_page"}
    assert tasks[1]["inputs"] == {"status_page_url": {**page, "value": f"http://127.0.0.1:{demo.port}/"}}
    assert time.monotonic() - began < 60


def test_why_explains_every_step_and_the_history_is_sealed(demo: Demo) -> None:
    requests = json.loads(demo.run("requests", "--json").stdout)
    newest = (requests["requests"] if isinstance(requests, dict) else requests)[0]
    told = demo.run("why", str(newest["request_id"])).stdout
    for part in ("deploy_status_page", "add_portals_to_status_page", "confidence", "infra-1: chance", "approved plan"):
        assert part in told, told
    assert demo.run("audit", "verify").returncode == 0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
