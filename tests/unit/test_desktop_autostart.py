"""The service files say what the system that reads them will understand."""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import Any

import pytest

from chargehand.agents.desktop.autostart import Autostart, install_user_service
from chargehand.domain.errors import BadConfiguration

ODD_HOME = Path('/home/me/50% of "my" $HOME/agent')


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


def install(home: Path = ODD_HOME, **options: Any) -> tuple[Autostart, str]:
    said: list[str] = []
    planned = install_user_service(home, say=said.append, **({"platform": "linux"} | options))
    return planned, "\n".join(said)


def test_a_unit_is_written_and_its_commands_are_said(user: Path) -> None:
    planned, said = install()
    assert planned.path == user / ".config" / "systemd" / "user" / "chargehand-agent.service"
    assert planned.path.read_text() == planned.text
    assert "Restart=on-failure" in planned.text
    assert 'Environment="CHARGEHAND_AGENT_HOME=/home/me/50%% of \\"my\\" $HOME/agent"' in planned.text
    assert '"agent" "run" "desktop"' in planned.text
    assert "systemctl --user enable --now chargehand-agent" in said


def test_a_command_line_reaches_systemd_as_it_is() -> None:
    planned, _ = install(command=("/opt/my agent/bin", "run", "100%", "$HOME", 'a"b', "c\\d"))
    assert 'ExecStart="/opt/my agent/bin" "run" "100%%" "$$HOME" "a\\"b" "c\\\\d"\n' in planned.text


def test_a_graphical_agent_belongs_to_the_graphical_session() -> None:
    planned, said = install(graphical=True)
    assert planned.text.count("graphical-session.target") == 3
    assert "linger" not in said
    plain, said = install()
    assert "WantedBy=default.target" in plain.text
    assert "linger" in said


def test_what_would_break_automation_is_only_there_when_asked_for() -> None:
    assert "\nNoNewPrivileges=yes" not in install()[0].text
    assert "\nNoNewPrivileges=yes" in install(strict=True)[0].text


def test_a_dry_run_shows_the_file_and_writes_nothing() -> None:
    planned, said = install(dry_run=True)
    assert planned.text in said
    assert not planned.path.exists()


def test_it_is_written_again_but_never_over_somebody_elses_file() -> None:
    planned, _ = install()
    install()
    planned.path.write_text("[Service]\nExecStart=/my/own\n")
    with pytest.raises(BadConfiguration, match="is not ours"):
        install()


def test_control_characters_cannot_add_lines() -> None:
    with pytest.raises(BadConfiguration, match="control characters"):
        install(environment={"X": "1\nExecStart=/bin/sh"})


def test_a_launch_agent_is_a_property_list(user: Path) -> None:
    planned, said = install(platform="darwin", graphical=True, environment={"CHARGEHAND_AGENT_HEALTH_PORT": "8126"})
    assert planned.path == user / "Library" / "LaunchAgents" / "chargehand.agent.plist"
    read = plistlib.loads(planned.path.read_bytes())
    assert read["ProgramArguments"][-3:] == ["agent", "run", "desktop"]
    assert read["EnvironmentVariables"] == {
        "CHARGEHAND_AGENT_HOME": str(ODD_HOME),
        "CHARGEHAND_AGENT_HEALTH_PORT": "8126",
    }
    assert read["KeepAlive"] == {"SuccessfulExit": False}
    assert read["LimitLoadToSessionType"] == "Aqua"
    assert "launchctl bootstrap" in said
    install(platform="darwin")  # our own may be written again
