"""`run_automation` on real scripts."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chargehand.agent import Outcome, TaskFailed, TaskFailedHere, TaskInterrupted
from chargehand.agents.infra import InfraAgent, InfraOptions
from tests.integration.infra_work import Home, make_work


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


SCRIPT = """#!/bin/sh
# chargehand:
#   intent: clean_up
#   description: Remove old logs
#   examples: ["clean up", "remove logs older than {days} days"]
#   parameters:
#     days: {type: integer, default: 30}
#     where: {type: string}
"""


def script(home: Home, body: str, mode: int = 0o755, header: str = SCRIPT) -> Path:
    return home.write("../scripts/clean.sh", header + body, mode)


async def run_script(home: Home, tmp_path: Path, **order: Any) -> Outcome:
    agent = InfraAgent(InfraOptions(home=tmp_path / "agent", script_dirs=(home.scripts,))).agent
    offer = agent.find("clean_up")
    assert offer is not None
    outcome = await offer.call(make_work(tmp_path / "attempt", **order))
    assert isinstance(outcome, Outcome)
    return outcome


async def test_a_script_gets_its_parameters_as_data(home: Home, tmp_path: Path) -> None:
    script(
        home,
        'echo "progress: working"\n'
        'printf \'{"summary": "%s logs gone", "changed": true, "where": "%s"}\''
        ' "$CHARGEHAND_DAYS" "$CHARGEHAND_WHERE" > "$CHARGEHAND_OUTPUT_FILE"\n'
        'grep -q days "$CHARGEHAND_PARAMETERS_FILE"\n',
    )
    outcome = await run_script(home, tmp_path, parameters={"days": 7, "where": "$(touch /tmp/owned); `id`"})
    assert (outcome.summary, outcome.changed) == ("7 logs gone", True)
    assert outcome.outputs["where"] == "$(touch /tmp/owned); `id`"


async def test_a_script_fails_for_good_or_for_now(home: Home, tmp_path: Path) -> None:
    script(home, "echo disk is broken\nexit 3\n")
    with pytest.raises(TaskFailedHere, match=r"^disk is broken \(clean.sh ended with exit code 3\)$"):
        await run_script(home, tmp_path)
    script(home, "echo no such days\nexit 64\n")
    with pytest.raises(TaskFailed, match="no such days") as refused:
        await run_script(home, tmp_path)
    assert not isinstance(refused.value, TaskFailedHere)
    script(home, "echo later please\nexit 75\n")
    with pytest.raises(TaskInterrupted, match="later please"):
        await run_script(home, tmp_path)


async def test_a_dry_run_does_not_run_a_script_that_has_none(home: Home, tmp_path: Path) -> None:
    path = script(home, f"touch {tmp_path / 'ran'}\n")
    outcome = await run_script(home, tmp_path, dry_run=True)
    assert "would run" in outcome.summary
    assert not (tmp_path / "ran").exists()
    header = SCRIPT + "#   dry_run: true\n"
    path.write_text(header + f'[ "$CHARGEHAND_DRY_RUN" = 1 ] && touch {tmp_path / "ran"}\n')
    await run_script(home, tmp_path, dry_run=True)
    assert (tmp_path / "ran").exists()


async def test_a_script_does_not_see_our_own_settings(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEHAND_DATABASE_URL", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", "hunter2")
    script(home, "env | grep hunter2\nexit 3\n")
    with pytest.raises(TaskFailed, match="it said nothing"):
        await run_script(home, tmp_path)


@pytest.mark.parametrize(("mode", "reason"), [(0o644, "not executable"), (0o757, "can be written by everybody")])
async def test_a_script_others_could_have_written_is_refused(
    home: Home, tmp_path: Path, mode: int, reason: str
) -> None:
    path = script(home, "exit 0\n", mode)
    assert reason in home.found()["clean_up"].unavailable
    path.chmod(0o755)
    assert home.found()["clean_up"].unavailable is None
    agent = InfraAgent(InfraOptions(home=tmp_path, script_dirs=(home.scripts,))).agent
    path.chmod(mode)  # after it was offered
    with pytest.raises(TaskFailed, match=reason):
        await agent.find("clean_up").call(make_work(tmp_path / "attempt"))  # type: ignore[union-attr]


def test_a_script_without_a_header_is_not_offered(home: Home) -> None:
    script(home, "exit 0\n", header="#!/bin/sh\n")
    assert home.found() == {}


@pytest.mark.parametrize("instead", ["mkfifo $CHARGEHAND_OUTPUT_FILE", "ln -s /etc/passwd $CHARGEHAND_OUTPUT_FILE"])
async def test_what_stands_in_the_place_of_the_output_file_is_not_waited_for_nor_followed(
    home: Home, tmp_path: Path, instead: str
) -> None:
    script(home, f"rm -f $CHARGEHAND_OUTPUT_FILE\n{instead}\n")
    async with asyncio.timeout(20):
        with pytest.raises(TaskFailed, match="cannot be read"):
            await run_script(home, tmp_path)


@pytest.mark.parametrize("number", ["9" * 301, "1e400", "-" + "9" * 4000])
async def test_a_number_that_no_message_takes_is_the_scripts_failure(home: Home, tmp_path: Path, number: str) -> None:
    script(home, f"echo '{{\"n\": {number}}}' > $CHARGEHAND_OUTPUT_FILE\n")
    with pytest.raises(TaskFailed, match="a number"):
        await run_script(home, tmp_path)
