"""The desktop agent on a real machine: its report, its list of actions, and what it refuses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from chargehand.agent.runtime import machine
from chargehand.agents.desktop import DesktopAgent, DesktopOptions, install_user_service
from chargehand.agents.desktop.actions import Action, Parameter, Requires, parse
from chargehand.testing import Harness, run, started

ACTIONS = """\
actions:
  - intent: echo_text
    description: Say something
    argv: [sh, -c, 'echo "first"; printf "%s|" "$@"', sh, "{text}", "{times}"]
    parameters:
      text: {type: string, required: true}
      times: {type: integer, default: 2}
    risk: read
    retry_safe: true
  - intent: show_environment
    argv: [env]
  - intent: fail_now
    argv: [sh, -c, 'echo the disk is away; exit "$1"', sh, "{code}"]
    parameters: {code: {type: integer, required: true}}
  - intent: sleep_long
    argv: [sh, -c, echo asleep; sleep 60]
    timeout: 1
  - intent: sleep_safely
    argv: [sleep, "60"]
    timeout: 1
    retry_safe: true
  - intent: needs_a_program
    argv: [no-such-program-here]
  - intent: needs_another
    argv: ["true"]
    requires: {commands: [nor-this-one]}
  - intent: needs_a_screen
    argv: ["true"]
    requires: {display: true}
  - intent: is_broken
    argv: "true; reboot"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    folder = tmp_path / "config"
    folder.mkdir(mode=0o755)
    write(folder, ACTIONS)
    return folder


def write(folder: Path, text: str, mode: int = 0o644) -> Path:
    path = folder / "automation.yml"
    path.write_text(text)
    path.chmod(mode)
    return path


def make_desktop(config: Path | None, **options: object) -> DesktopAgent:
    home = Path(__file__).parent
    return DesktopAgent(DesktopOptions(home=home, config_dir=config, **options))  # type: ignore[arg-type]


def unavailable(desktop: DesktopAgent) -> dict[str, str | None]:
    return {offer.spec.intent: offer.spec.unavailable for offer in desktop.agent.offers}


async def test_the_report_is_the_machines_own() -> None:
    ran = await run(make_desktop(None).agent, "report_machine")
    assert ran.ok, ran.summary
    assert ran.changed is False
    assert ran.outputs["cores"] == os.cpu_count()
    assert ran.outputs["memory_total_mb"] == psutil.virtual_memory().total // machine.MIB
    assert len(ran.outputs["load_averages"]) == 3  # type: ignore[arg-type]
    disk = shutil.disk_usage(str(ran.outputs["disk_path"]))
    assert ran.outputs["disk_total_mb"] == disk.total // machine.MIB
    assert ran.outputs["gpu_vram_total_mb"] == sum(gpu.total_mb for gpu in machine.gpus())
    assert f"{os.cpu_count()} cores, load" in ran.summary


async def test_gpus_are_reported_where_nvml_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for NVIDIA's library, which nothing shows without its hardware: two GPUs, one of them broken."""

    class NVMLError(Exception):
        pass

    def memory_of(handle: int) -> SimpleNamespace:
        if handle == 1:
            raise NVMLError
        return SimpleNamespace(total=24 << 30, free=20 << 30)

    nvml = ModuleType("pynvml")
    nvml.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=memory_of,
        nvmlDeviceGetName=lambda _: b"Big GPU",
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    ran = await run(make_desktop(None).agent, "report_machine")
    assert ran.outputs["gpus"] == [{"name": "Big GPU", "total_mb": 24_576, "free_mb": 20_480}]
    assert (machine.total().gpu_vram_mb, machine.free().gpu_vram_mb) == (24_576, 20_480)
    assert "20,480 of 24,576 MiB GPU memory free" in ran.summary


async def test_an_action_runs_without_any_shell(config: Path, tmp_path: Path) -> None:
    text = f"$(touch {tmp_path}/owned); `touch {tmp_path}/owned` && 'x"
    ran = await run(make_desktop(config).agent, "echo_text", {"text": text})
    assert ran.ok, ran.summary
    assert ran.messages == ("first", f"{text}|2|")
    assert ran.outputs == {"output": f"first\n{text}|2|"}
    assert ran.changed is False
    assert not (tmp_path / "owned").exists()


async def test_a_value_that_looks_like_an_option_is_refused(config: Path) -> None:
    ran = await run(make_desktop(config).agent, "echo_text", {"text": "--version"})
    assert not ran.ok
    assert "must not begin with '-'" in ran.summary


async def test_a_dry_run_says_what_would_run(config: Path) -> None:
    ran = await run(make_desktop(config).agent, "fail_now", {"code": 3}, dry_run=True)
    assert ran.ok
    assert ran.messages == ()
    assert ran.summary.startswith("dry run: would run sh -c")


async def test_an_action_gets_the_session_and_no_secrets(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    monkeypatch.setenv("CHARGEHAND_AMQP_URL", "amqp://user:hunter2@nowhere/")
    desktop = make_desktop(config, extra_env={"EXTRA": "yes"})
    ran = await run(desktop.agent, "show_environment")
    assert "DISPLAY=:7" in ran.messages
    assert "EXTRA=yes" in ran.messages
    assert "hunter2" not in str(ran.outputs)
    assert unavailable(desktop)["needs_a_screen"] is None


@pytest.mark.parametrize(("code", "kind"), [(3, "permanent"), (75, "retryable")])
async def test_a_failure_is_told_in_the_programs_words(config: Path, code: int, kind: str) -> None:
    ran = await run(make_desktop(config).agent, "fail_now", {"code": code})
    assert ran.failure is not None
    assert ran.failure.kind == kind
    assert "the disk is away" in ran.summary


@pytest.mark.parametrize(("intent", "kind"), [("sleep_long", "unknown"), ("sleep_safely", "retryable")])
async def test_an_action_that_takes_too_long_is_ended(config: Path, intent: str, kind: str) -> None:
    ran = await run(make_desktop(config).agent, intent)
    assert ran.failure is not None
    assert ran.failure.kind == kind
    assert "longer than 1 s" in ran.summary


async def test_a_cancelled_action_is_ended(config: Path) -> None:
    async with started(make_desktop(config).agent, "sleep_long") as running:
        await running.said("asleep")
        running.cancel()
        failure = (await running.ended()).failure
    assert failure is not None
    assert failure.kind == "cancelled"


async def test_what_cannot_be_done_is_offered_with_the_reason(config: Path) -> None:
    desktop = make_desktop(config)
    reasons = unavailable(desktop)
    assert [intent for intent, reason in reasons.items() if reason is None] == [
        "echo_text",
        "fail_now",
        "report_machine",
        "show_environment",
        "sleep_long",
        "sleep_safely",
    ]
    assert "no-such-program-here" in str(reasons["needs_a_program"])
    assert "nor-this-one" in str(reasons["needs_another"])
    assert "graphical session" in str(reasons["needs_a_screen"])
    assert "line 30: argv" in str(reasons["is_broken"])
    assert not (await run(desktop.agent, "is_broken")).ok


def test_the_list_is_read_again(config: Path) -> None:
    desktop = make_desktop(config)
    assert not desktop.rescan()
    write(config, "actions: [{intent: only_this, argv: ['true']}]")
    assert desktop.rescan()
    assert list(unavailable(desktop)) == ["only_this", "report_machine"]
    (config / "automation.yml").unlink()
    assert desktop.rescan()
    assert list(unavailable(desktop)) == ["report_machine"]


def test_the_list_cannot_replace_what_the_agent_does_by_itself(config: Path) -> None:
    write(config, "actions: [{intent: report_machine, argv: [reboot]}]")
    [offer] = make_desktop(config).agent.offers
    assert offer.spec.source == "chargehand"


async def test_a_list_that_others_can_write_is_refused(config: Path) -> None:
    desktop = make_desktop(config)
    for path, mode in ((config / "automation.yml", 0o666), (config, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        desktop.rescan()
        assert list(unavailable(desktop)) == ["report_machine"]
        assert "can be written by everybody" in str(desktop.automation.problem)
        report = await run(desktop.agent, "report_machine")
        assert "can be written by everybody" in str(report.outputs["automation_problem"])
        path.chmod(before)
    assert desktop.rescan()
    assert desktop.automation.problem is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_list_or_a_program_of_somebody_else_is_refused(config: Path) -> None:
    program = config / "mine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = write(config, f"actions: [{{intent: run_mine, argv: ['{program}']}}]")
    desktop = make_desktop(config)
    assert unavailable(desktop)["run_mine"] is None
    os.chown(program, 12345, 12345)
    desktop.rescan()
    assert "belongs to another user" in str(unavailable(desktop)["run_mine"])
    os.chown(path, 12345, 12345)
    desktop.rescan()
    assert list(unavailable(desktop)) == ["report_machine"]
    assert "belongs to another user" in str(desktop.automation.problem)


async def test_only_the_approved_action_runs(config: Path, tmp_path: Path) -> None:
    """The agent looks at the list and at the program right before the start, whatever it offered last."""
    program = config / "mine"
    program.write_text("#!/bin/sh\necho mine\n")
    program.chmod(0o755)
    listed = f"actions: [{{intent: run_mine, argv: ['{program}', quietly], risk: read}}]"
    path = write(config, listed)
    async with Harness(make_desktop(config).agent) as orchestrator:

        async def outcome() -> str:
            return (await orchestrator.result(await orchestrator.order("run_mine"))).summary

        assert await outcome() == "run_mine: done"
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
        assert "changed after the plan was approved" in await outcome()
        program.write_text("#!/bin/sh\necho mine\n")
        path.write_text(listed.replace("quietly", "loudly"))
        assert "changed after the plan was approved" in await outcome()
        path.write_text(listed)
        assert await outcome() == "run_mine: done"
        path.chmod(0o666)
        assert "can be written by everybody" in await outcome()
    assert not (tmp_path / "owned").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("strict", [False, True])
def test_systemd_understands_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    home = tmp_path / '50% of "my" $HOME'
    planned = install_user_service(
        home, command=("/bin/true", "$x", "100%"), graphical=True, strict=strict, platform="linux", say=lambda _: None
    )
    checked = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(planned.path)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


PAGE = Path(__file__).parents[2] / "docs" / "desktop.md"


def test_the_list_on_the_page_is_a_list() -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    entries = parse(block, "automation.yml")
    assert [entry.problem for entry in entries] == [None, None, None]


async def test_the_page_names_every_key_and_output() -> None:
    text = PAGE.read_text()
    outputs = (await run(make_desktop(None).agent, "report_machine")).outputs
    words = {*Action.model_fields, *Requires.model_fields, *Parameter.model_fields, *outputs, "automation_problem"}
    assert not [word for word in sorted(words) if f"`{word}`" not in text and f"`{word}: true`" not in text]
