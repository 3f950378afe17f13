"""How playbooks end, on the real Ansible: what was left undone is told, and what tasks said is kept."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chargehand.agent import Outcome, TaskFailed, TaskInterrupted
from chargehand.agents.infra import InfraAgent, InfraOptions
from chargehand.agents.infra.headers import fallback_intent
from chargehand.agents.infra.playbooks import ansible_missing
from chargehand.domain.hosts import hosts_of
from tests.integration.infra_work import make_work

pytestmark = pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))

CASES = Path(__file__).parents[1] / "cases" / "ansible"


class Place:
    """A copy of some cases, a home for what they write, and the agent that runs them."""

    def __init__(self, root: Path, cases: str, inventory: str = "hosts.ini") -> None:
        self.root, self.home = root, root / "home"
        self.playbooks = root / "playbooks"
        shutil.copytree(CASES / cases, self.playbooks)
        hosts = self.playbooks / inventory
        hosts.write_text(hosts.read_text().replace("/usr/bin/python3", sys.executable))
        self.marks = self.home / "chargehand-cases"
        self.marks.mkdir(parents=True)

    def write(self, name: str, text: str) -> None:
        (self.playbooks / name).write_text(text)

    def agent(self, **options: Any) -> InfraAgent:
        given = {"inventory": self.playbooks / "hosts.ini", "playbook_dirs": (self.playbooks,), **options}
        return InfraAgent(InfraOptions(home=self.root / "agent", **given))

    async def run(self, name: str, *, dry_run: bool = False, hosts: Any = (), **options: Any) -> Outcome:
        offer = self.agent(**options).agent.find(fallback_intent(name))
        assert offer is not None
        work = make_work(self.root, dry_run=dry_run, hosts=hosts)
        outcome = await offer.call(work)
        assert isinstance(outcome, Outcome)
        return outcome


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Place(tmp_path, "ends")


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("nomatch", "no host matched: Patch the databases"),
        ("ignored", "failed and was ignored: Backup the database on web1 and web2"),
        ("ignoreunreach", "could not be reached: dead"),
        ("rescueunreach", "could not be reached: dead; failed and was rescued: Try the new way on web1"),
        ("uptime", ""),
    ],
)
async def test_what_was_left_undone_is_told(ends: Place, name: str, left: str) -> None:
    outcome = await ends.run(name)
    assert outcome.in_part == left
    assert ("left" in outcome.data) == bool(left)
    if name == "ignoreunreach":
        counts = outcome.data["hosts"]["dead"]  # type: ignore[index,call-overload]
        assert (counts["ok"], counts["ignored"], counts["unreachable"]) == (0, 0, 1)


async def test_a_failure_on_one_of_two_hosts_is_one(ends: Place) -> None:
    with pytest.raises(TaskFailed, match=r'"Only web2 breaks" failed on web2: .*Changed before that: 3 tasks'):
        await ends.run("partial")
    copy = "- {name: Copy, copy: {content: x, dest: /tmp/chargehand-never}}"
    ends.write("dry.yml", f"- hosts: web1\n  gather_facts: false\n  tasks:\n    {copy}\n    - fail: {{msg: no}}\n")
    with pytest.raises(TaskFailed) as caught:
        await ends.run("dry", dry_run=True)
    assert "Nothing was changed; it would have changed before that: 1 tasks" in str(caught.value)


async def test_a_rescued_failure_is_not_the_cause_of_a_later_one(ends: Place) -> None:
    ends.write(
        "later.yml",
        "- hosts: web1\n  gather_facts: false\n  tasks:\n"
        "    - block: [{name: Really breaks, fail: {msg: broken}}]\n"
        "      always:\n"
        "        - name: Clean up\n          debug: {msg: cleaned}\n"
        "- hosts: web2\n  gather_facts: false\n  tasks:\n"
        "    - block: [{name: Old way, fail: {msg: harmless}}]\n      rescue: [{name: New way, debug: {msg: fine}}]\n",
    )
    with pytest.raises(TaskFailed, match=r'^"Really breaks" failed on web1: broken'):
        await ends.run("later")


async def test_a_play_that_loses_all_of_its_hosts_is_interrupted(ends: Place) -> None:
    ends.write("gone.yml", "- hosts: localhost\n  gather_facts: false\n  tasks: [{debug: {msg: here}}]\n"
               "- hosts: dead\n  gather_facts: false\n  tasks: [{ping: }]\n")  # fmt: skip
    with pytest.raises(TaskInterrupted, match="dead cannot be reached"):
        await ends.run("gone")


async def test_a_playbook_answers_with_what_its_tasks_say(ends: Place) -> None:
    outcome = await ends.run("uptime")
    told = [part for part in outcome.data["said"] if part["told"]]  # type: ignore[union-attr,index,call-overload]
    assert sorted(part["text"] for part in told) == ["web1 is up 42 days", "web2 is up 42 days"]  # type: ignore[index,call-overload]


async def test_what_is_hidden_stays_hidden_in_what_tasks_say(ends: Place) -> None:
    password = ends.root / "password"
    password.write_text("opensesame")
    vault = Path(sys.executable).parent / "ansible-vault"
    encrypted = await asyncio.to_thread(
        subprocess.run,
        [vault, "encrypt_string", "--vault-password-file", password, "--name", "inline", "correct-horse-battery"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    whole = ends.playbooks / "whole.yml"
    whole.write_text("deep: {er: [staple-of-vault]}\npin: 918273\n")
    await asyncio.to_thread(
        subprocess.run, [vault, "encrypt", "--vault-password-file", password, whole], check=True, capture_output=True
    )
    ends.write("vars.yml", encrypted.stdout)
    ends.write(
        "tell.yml",
        "- hosts: web\n  gather_facts: false\n  vars_files: [vars.yml, whole.yml]\n  tasks:\n"
        "    - {name: Say all, debug: {msg: 'a {{ inline }} b {{ deep.er[0] }} c {{ pin }}'}}\n"
        "    - {name: Print it, command: 'echo {{ inline | b64encode }}'}\n"
        "    - {name: Quiet, debug: {msg: whisper}, no_log: true}\n"
        "    - {name: Quiet loop, command: 'echo {{ item }}', loop: [mumble], no_log: true}\n"
        "    - {name: Settings, command: 'printf \"user: me\\\\npassword: plainly\"'}\n",
    )
    outcome = await ends.run("tell", extra_env={"ANSIBLE_VAULT_PASSWORD_FILE": str(password)})
    everything = json.dumps(outcome.data)
    assert "a [secret ansible-vault] b" in everything
    assert "user: me" in everything
    for secret in (
        "correct-horse",
        "staple-of",
        "918273",
        "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5",
        "whisper",
        "mumble",
        "plainly",
    ):
        assert secret not in everything


@pytest.fixture
def asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Place(tmp_path, "asks")


async def test_nobody_answers_a_pause(asks: Place) -> None:
    found = asks.agent().agent.find("run_pause")
    assert found is not None
    assert "pause.yml line 4" in found.spec.cautions[0]
    with pytest.raises(TaskFailed, match=r'^"Ask" failed on web1: .*This deletes everything.*nobody can answer'):
        await asks.run("pause")
    assert not (asks.marks / "pause-said").exists()


async def test_nobody_answers_a_prompt(asks: Place) -> None:
    found = asks.agent().agent.find("run_prompt")
    assert found is not None
    assert "it asks for really, release (vars_prompt)" in str(found.spec.unavailable)
    with pytest.raises(TaskFailed, match="it asks for release"):  # one that was not noticed
        await asks.run("prompt", hosts=(hosts_of(["web1"]),))
    assert not (asks.marks / "prompt-said").exists()


async def test_a_pause_with_an_end_goes_on(asks: Place) -> None:
    asks.write("wait.yml", "- hosts: web1\n  gather_facts: false\n  tasks: [{pause: {seconds: 1, prompt: Wait}}]\n")
    assert (await asks.run("wait")).in_part == ""


async def test_a_project_with_roles_and_an_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles by `roles_path`, variables of the inventory's groups and hosts, hosts by the project's own inventory."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = Place(tmp_path, "roles_path", inventory="inventory/hosts.ini")
    outcome = await place.run("greet", playbook_dirs=(place.playbooks / "playbooks",), inventory=None)
    assert (outcome.in_part, outcome.changed) == ("", True)
    marks = {path.name: path.read_text() for path in place.marks.iterdir()}
    assert marks == {
        "greet-web1": "v1 BLUE-after-approval host-vars-web1",
        "greet-web2": "v1 BLUE-after-approval inv-all",
        "greet-web3": "v1 BLUE-after-approval inv-all",
    }


async def test_a_project_that_names_its_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = Place(tmp_path, "limit")
    outcome = await place.run("update", inventory=None, hosts=(hosts_of(["web1"]),))
    assert [path.name for path in place.marks.iterdir()] == ["a-marks-web1"], "no host but that of the plan"
    assert outcome.data["hosts_left_out"] == {"count": 2, "names": ["db1", "web2"]}
    assert [part["text"] for part in outcome.data["said"]] == ["web1 from-group-vars-all"]  # type: ignore[union-attr,index,call-overload]
