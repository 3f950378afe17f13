"""The example homelab's playbooks, run by plain `ansible-playbook` and judged by what answers over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rabbitmq import free_ports

HOMELAB = Path(__file__).parents[2] / "examples" / "homelab"
FILES = HOMELAB / "playbooks" / "files"
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
DEPLOY, ADD = "deploy_status_page.yml", "add_portals_to_status_page.yml"
RECAP = re.compile(r"ok=\d+ +changed=(\d+) .*failed=(\d+)")


@dataclass
class Lab:
    """A homelab of its own, in a place whose name has a space, on ports that nobody else uses."""

    root: Path
    ports: dict[str, int]

    @property
    def folder(self) -> Path:
        return self.root / "my lab"

    def play(self, *playbooks: str, check: bool = False, path: str = "") -> subprocess.CompletedProcess[str]:
        """Run playbooks. That it returns at all shows that the services hold nothing of Ansible's."""
        variables = self.root / "variables.json"
        interpreter = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        own = {"homelab_dir": str(self.folder), "status_page_interval_seconds": 0.5}
        variables.write_text(json.dumps(own | self.ports | interpreter))
        options = ["-i", "localhost,", "-c", "local", "-e", f"@{variables}", *(["--check", "--diff"] if check else [])]
        settings = {"LC_ALL": "C.UTF-8", "ANSIBLE_HOME": str(self.root / "ansible"), "ANSIBLE_NOCOLOR": "1"}
        settings["PATH"] = path or os.environ["PATH"]
        return subprocess.run(
            [str(ANSIBLE), *options, *playbooks],
            cwd=HOMELAB / "playbooks",
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['status_page_port']}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def states(self) -> dict[str, str]:
        return {portal["name"]: portal["status"] for portal in json.loads(self.get("/api/status"))["portals"]}

    def pids(self) -> dict[str, int]:
        return {path.stem: int(path.read_text().split()[0]) for path in self.folder.rglob("*.pid")}

    def processes(self) -> list[str]:
        """Return the command lines of whatever was started from this homelab's folder."""
        commands = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True)
        return [line for line in commands.stdout.splitlines() if str(self.folder) in line]


def make_lab(root: Path) -> Lab:
    names = ("status_page_port", "home_dashboard_port", "media_library_port")
    return Lab(root, dict(zip(names, free_ports(3), strict=True)))


def background(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FILES / "background.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def changes(result: subprocess.CompletedProcess[str]) -> int:
    """Return how many tasks changed something; nothing may have failed or warned."""
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[WARNING]" not in result.stdout + result.stderr
    return int(RECAP.findall(result.stdout)[-1][0])  # Ansible counts on from playbook to playbook


def eventually(happens: Callable[[], bool], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A homelab with the status page deployed and both portals added."""
    made = make_lab(tmp_path_factory.mktemp("homelab"))
    try:
        assert changes(made.play(DEPLOY, ADD)) > 0
        yield made
    finally:
        for pidfile in made.folder.rglob("*.pid"):
            background("stop", "--pidfile", pidfile)
        assert made.processes() == []


def test_a_dry_run_on_a_fresh_machine_tells_and_changes_nothing(tmp_path: Path) -> None:
    fresh = make_lab(tmp_path)
    result = fresh.play(DEPLOY, ADD, check=True)
    assert changes(result) >= 5, result.stdout
    assert f'+    "port": {fresh.ports["status_page_port"]}' in result.stdout
    assert '+        "Media library": {' in result.stdout
    assert not fresh.folder.exists()
    assert fresh.processes() == []


def test_both_portals_are_up_and_a_second_run_changes_nothing(lab: Lab) -> None:
    assert lab.states() == {"Home dashboard": "up", "Media library": "up"}
    assert lab.get("/healthz") == "ok\n"
    assert "Both portals are up" in lab.get("/")
    before = lab.pids()
    assert sorted(before) == ["home-dashboard", "media-library", "status-page"]
    assert changes(lab.play(DEPLOY, ADD)) == 0
    assert lab.pids() == before


def test_the_services_are_on_their_own(lab: Lab) -> None:
    for pid in lab.pids().values():
        assert os.getsid(pid) not in (
            os.getsid(0),
            pid,
        )  # a session of its own, which it can never take a terminal into
        if Path("/proc/self/fd").exists():
            assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
            assert Path(f"/proc/{pid}/environ").read_text().split("\0")[-2] == "LANG=C.UTF-8"  # env -i, then ours


def test_a_killed_portal_shows_down_and_comes_back(lab: Lab) -> None:
    os.kill(lab.pids()["media-library"], signal.SIGKILL)
    assert eventually(lambda: lab.states() == {"Home dashboard": "up", "Media library": "down"})
    assert "Media library is down" in lab.get("/")
    assert changes(lab.play(ADD)) == 1  # it starts the portal; the page knows it already
    assert lab.states() == {"Home dashboard": "up", "Media library": "up"}


def test_the_page_follows_its_file_and_survives_a_broken_one(lab: Lab) -> None:
    file = lab.folder / "status-page" / "config.json"
    good = file.read_text()
    settings = json.loads(good)
    settings["portals"]["<script>alert(1)</script>"] = {"url": "http://127.0.0.1:1/?a=<b>"}
    file.write_text(json.dumps(settings))
    assert eventually(lambda: len(lab.states()) == 3)
    assert "<script>alert" not in lab.get("/")
    assert "&lt;script&gt;alert(1)" in lab.get("/")
    file.write_text("{")
    assert eventually(lambda: "is not JSON" in (json.loads(lab.get("/api/status"))["config_problem"] or ""))
    assert len(lab.states()) == 3
    broken = lab.play(DEPLOY)
    assert broken.returncode != 0
    assert f"{file} is not JSON: line 1" in broken.stdout + broken.stderr
    assert file.read_text() == "{"
    file.write_text(good)
    assert eventually(lambda: len(lab.states()) == 2)


def test_one_pidfile_one_instance(lab: Lab) -> None:
    pidfile, [port] = lab.folder / "status-page" / "status-page.pid", free_ports(1)
    again = background(
        "run", "--pidfile", pidfile, "--address", f"127.0.0.1:{port}", "--log", lab.root / "log", "--", "false"
    )
    assert again.returncode == 3  # nothing to do
    assert lab.get("/healthz") == "ok\n"


def test_a_program_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    [port] = free_ports(1)
    command = ["sh", "-c", "echo the disk is on fire; exit 1"]
    options = ["--pidfile", tmp_path / "p", "--address", f"127.0.0.1:{port}", "--log", tmp_path / "log"]
    result = background("run", *options, "--", *command)
    assert result.returncode == 1
    assert "the disk is on fire" in result.stderr
    assert background("status", "--pidfile", tmp_path / "p").stdout == "stopped"


def test_a_port_of_another_program_fails_first_and_leaves_nothing(tmp_path: Path) -> None:
    fresh = make_lab(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", fresh.ports["status_page_port"]))
        other.listen()
        result = fresh.play(DEPLOY)
    told = result.stdout + result.stderr
    assert result.returncode != 0
    assert f"Port {fresh.ports['status_page_port']} on 127.0.0.1 is used by " in told
    assert "choose another port: status_page_port=NUMBER" in told
    if Path("/proc/self/comm").exists():
        assert f"(process {os.getpid()})" in told
    [totals] = RECAP.findall(result.stdout)
    assert totals == ("0", "1")
    assert not fresh.folder.exists()


def test_kuma_is_refused_before_anything_where_there_is_no_node(tmp_path: Path) -> None:
    for name in ("sh", "env", "true"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    fresh = make_lab(tmp_path)
    result = fresh.play("deploy_kuma.yml", path=str(tmp_path))
    assert result.returncode != 0
    assert "Uptime Kuma needs Node.js 20 or later with npm, and this machine has none" in result.stdout + result.stderr
    assert not fresh.folder.exists()


def test_every_playbook_is_one_that_ansible_core_alone_understands(tmp_path: Path) -> None:
    playbooks = sorted(path.name for path in (HOMELAB / "playbooks").glob("*.yml"))
    assert len(playbooks) >= 12
    result = make_lab(tmp_path).play("--syntax-check", *playbooks)
    assert result.returncode == 0, result.stdout + result.stderr


def test_scripts_do_what_their_dry_run_says(tmp_path: Path) -> None:
    log = tmp_path / "my lab" / "status-page" / "status-page.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * 5000)

    def run(name: str, **variables: str) -> dict[str, Any]:
        output = tmp_path / "output.json"
        own = {"CHARGEHAND_HOMELAB_DIR": str(tmp_path / "my lab"), "CHARGEHAND_OUTPUT_FILE": str(output)}
        script = [str(HOMELAB / "scripts" / name)]
        subprocess.run(script, env=os.environ | own | variables, check=True, capture_output=True, timeout=20)
        found: dict[str, Any] = json.loads(output.read_text())
        return found

    assert (
        "would be set aside" in run("rotate_logs.sh", CHARGEHAND_MAX_KILOBYTES="1", CHARGEHAND_DRY_RUN="1")["summary"]
    )
    assert log.stat().st_size == 5000
    assert run("rotate_logs.sh", CHARGEHAND_MAX_KILOBYTES="1")["changed"] is True
    assert (log.stat().st_size, log.with_name("status-page.log.1").stat().st_size) == (0, 5000)
    assert run("rotate_logs.sh", CHARGEHAND_MAX_KILOBYTES="1")["changed"] is False
    assert "disk" in run("disk_report.sh")["summary"]


def test_removing_leaves_no_process_and_no_file(lab: Lab) -> None:
    assert len(lab.processes()) == 3
    assert changes(lab.play("remove_status_page.yml", "remove_portals.yml")) == 4
    assert lab.processes() == []
    assert [path.name for path in lab.folder.iterdir()] == []
    assert changes(lab.play("remove_portals.yml")) == 0
