"""How requests for other people's playbooks end, from the words to what is on the screen."""

import shutil
import sys
from pathlib import Path

import pytest

from chargehand.agents.infra.playbooks import ansible_missing
from tests.acceptance.command import Command

pytestmark = pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))

ENDS = Path(__file__).parents[1] / "cases" / "ansible" / "ends"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    playbooks = tmp_path / "playbooks"
    shutil.copytree(ENDS, playbooks)
    hosts = playbooks / "hosts.ini"
    hosts.write_text(hosts.read_text().replace("/usr/bin/python3", sys.executable))
    (tmp_path / "home" / "chargehand-cases").mkdir(parents=True)
    return Command(tmp_path / "home", playbooks, CHARGEHAND_INVENTORY=str(hosts))


def test_a_question_is_answered_with_what_the_playbook_says(command: Command) -> None:
    ended = command("run", "show the uptime of all servers", "--yes")
    assert ended.code == 0
    assert "may do anything: nobody has said what" in ended.out, "it has no header"
    assert "web1: web1 is up 42 days" in ended.out
    assert "web2: web2 is up 42 days" in ended.out
    assert "web1: up 42 days" in command("logs", "--output").out, "what programs printed, too"
    (step,) = command("logs", "--output", "--json").value["output"]
    assert {part["task"] for part in step["said"]} == {"Ask", "Show"}


def test_what_was_done_in_part_says_so_and_fails_where_that_is_wanted(command: Command) -> None:
    words = "run the ignoreunreach playbook"
    ended = command("run", words, "--yes")
    assert ended.code == 0
    assert "done in part: ok 1, changed 1, failed 0, unreachable 1; could not be reached: dead" in ended.out
    assert "Done in part" in ended.out
    failed = command("run", words, "--yes", "--json", CHARGEHAND_IN_PART="fail")
    assert failed.code == 1
    assert failed.value["status"] == "failed"
    assert failed.value["tasks"][0]["in_part"] == "could not be reached: dead"
    assert failed.value["tasks"][0]["attempts"] == 1, "the rest of it was done, so it is not done again"
