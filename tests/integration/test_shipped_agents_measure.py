"""Every agent that is shipped tells what its work has used, whether a program does it or the agent itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chargehand.agent import Agent
from chargehand.agents.desktop.assembly import DesktopAgent
from chargehand.agents.desktop.options import DesktopOptions
from chargehand.agents.infra import InfraAgent, InfraOptions
from chargehand.testing import run

SCRIPT = f"""#!{sys.executable}
# chargehand:
#   intent: fill_memory
#   description: Fill some memory
#   risk: read
import time
held = bytearray(50 << 20)
end = time.process_time() + 0.6
while time.process_time() < end:
    pass
"""


def infra(folder: Path) -> Agent:
    scripts = folder / "scripts"
    scripts.mkdir()
    (scripts / "fill_memory.py").write_text(SCRIPT)
    (scripts / "fill_memory.py").chmod(0o755)
    return InfraAgent(InfraOptions(home=folder / "home", script_dirs=(scripts,))).agent


def desktop(folder: Path) -> Agent:
    return DesktopAgent(DesktopOptions(home=folder / "home", config_dir=folder / "home", name="desktop")).agent


@pytest.mark.parametrize(
    ("make", "intent", "parameters"),
    [(infra, "check_memory", {}), (desktop, "report_machine", {})],
)
async def test_work_inside_the_agent_is_measured(make, intent, parameters, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    ran = await run(make(tmp_path), intent, parameters)
    assert ran.ok, ran.summary
    assert set(ran.result.resources_used) == {"memory_mb", "cpu_seconds", "cpu_cores"}


async def test_a_script_is_measured_with_its_memory_and_cores(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    ran = await run(infra(tmp_path), "fill_memory")
    assert ran.ok, ran.summary
    used = ran.result.resources_used
    assert used["memory_mb"] >= 50
    assert used["cpu_seconds"] >= 0.6
    assert used["cpu_cores"] > 0


@pytest.mark.parametrize("make", [infra, desktop])
def test_no_shipped_agent_calls_everything_it_does_a_specialization(make, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    assert make(tmp_path).specializations == ()
