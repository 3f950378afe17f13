"""Playbooks on the real Ansible. Each run costs seconds, so each test looks at many things."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from chargehand.agent import Outcome, TaskFailed
from chargehand.agents.infra import InfraAgent, InfraOptions
from chargehand.agents.infra.playbooks import ansible_missing
from chargehand.domain.hosts import hosts_of
from tests.integration.infra_work import Heard, Home, make_work

pytestmark = pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))

DEPLOY = """\
# chargehand:
#   intent: deploy_it
#   parameters:
#     word: {type: string}
#     target: {type: string}
- name: Deploy it
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Write the file
      ansible.builtin.template: {src: it.j2, dest: "{{ target }}", mode: "0644"}
      notify: Tell
    - name: Say a secret
      ansible.builtin.debug: {msg: hunter2}
      no_log: true
      changed_when: true
    - name: Hand a secret on
      ansible.builtin.set_stats: {data: {password: hunter2}}
      no_log: true
    - name: Hand values on
      ansible.builtin.set_stats: {data: {file: "{{ target }}", summary: It is there}}
  handlers:
    - name: Tell
      ansible.builtin.debug: {msg: told}
"""

FAILING = """\
# chargehand:
#   intent: deploy_it
- hosts: all
  gather_facts: false
  tasks:
    - name: Try the secret
      ansible.builtin.fail: {msg: "{{ operators_secret }}"}
      no_log: true
      ignore_errors: true
    - name: Start it
      ansible.builtin.command: "sh -c 'echo {{ operators_word }} is in use >&2; exit 7'"
"""

SLEEPING = """\
# chargehand:
#   intent: deploy_it
#   parameters:
#     mark: {type: string}
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Sleep
      ansible.builtin.shell: "touch '{{ mark }}'; setsid sleep 300.4242 & sleep 300.4242"
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def run(home: Home, heard: Heard | None = None, options: dict[str, Any] | None = None, **order: Any) -> Outcome:
    more = options or {}
    agent = InfraAgent(InfraOptions(home=home.root / "a gent", playbook_dirs=(home.playbooks,), **more)).agent
    offer = agent.find("deploy_it")
    assert offer is not None
    assert offer.spec.unavailable is None
    outcome = await offer.call(make_work(home.root / "a gent" / "work", heard=heard, **order))
    assert isinstance(outcome, Outcome)
    return outcome


def ended(heard: Heard) -> list[str]:
    """What was said of tasks that ended; on a busy machine others are said to take long."""
    return [message for message in heard.messages if not message.endswith(" ...")]


async def test_a_playbook_runs_and_tells_what_happens(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")  # Ansible would refuse to start
    home.write("it.yml", DEPLOY)
    home.write("templates/it.j2", "{{ word }}")
    evil, target, heard = "{{ lookup('pipe', 'id') }} \"é\n😀", home.root / "the file", Heard()
    order = {"parameters": {"word": evil, "target": str(target)}}

    rehearsal = await run(home, heard, dry_run=True, **order)
    assert ended(heard)[0] == "Write the file: would change"
    heard.clear()
    assert "lookup('pipe', 'id')" in str(rehearsal.data["diff"])
    assert rehearsal.changed is True
    assert not target.exists()

    outcome = await run(home, heard, **order)
    assert target.read_text() == evil
    assert outcome.summary == "It is there (ok 5, changed 2, failed 0)"
    assert outcome.outputs == {"file": str(target), "summary": "It is there"}
    assert outcome.data["hosts"]["localhost"]["changed"] == 2  # type: ignore[index,call-overload]
    assert ended(heard) == [
        "Write the file: changed",
        "Say a secret: changed",
        "Hand a secret on: ok",
        "Hand values on: ok",
        "Tell: ok",
    ]
    assert heard[-1].data["host"] == "localhost"
    everything = json.dumps([[said.message, said.data] for said in heard]) + repr(outcome) + repr(rehearsal)
    assert "hunter2" not in everything


async def test_a_failure_says_what_failed_and_keeps_secrets(home: Home) -> None:
    home.write("it.yml", FAILING)
    vars_file = home.write("../my vars.yml", "operators_word: port 80\noperators_secret: hunter2\n")
    inventory = home.write("../my hosts", f"box ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    heard = Heard()
    with pytest.raises(TaskFailed) as caught:
        await run(home, heard, {"inventory": inventory, "vars_file": vars_file})
    assert str(caught.value).startswith('"Start it" failed on box: port 80 is in use (exit code')
    assert ended(heard) == ["Try the secret: ignored on box", "Start it: failed on box"]
    assert "hunter2" not in str(caught.value) + repr(list(heard))


def sleepers() -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline", "status"])
    return [p for p in found if "300.4242" in (p.info["cmdline"] or []) and p.info["status"] != psutil.STATUS_ZOMBIE]


async def test_cancelling_ends_every_descendant(home: Home) -> None:
    home.write("it.yml", SLEEPING)
    mark = home.root / "mark"
    running = asyncio.create_task(run(home, parameters={"mark": str(mark)}))
    async with asyncio.timeout(30):
        while not mark.exists() or len(sleepers()) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sleepers() == []


async def test_a_play_for_nobody_is_a_failure(home: Home) -> None:
    home.write("it.yml", "# chargehand:\n#   intent: deploy_it\n- hosts: webservers\n  tasks: []\n")
    home.write("inventory", "[webservers]\nweb1\n")
    with pytest.raises(TaskFailed, match="no host"):
        await run(home, hosts=(hosts_of(["web2"]),), content_hash="")


def test_a_machine_without_ansible_says_so_before_anybody_asks(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    home.write("it.yml", DEPLOY)
    offer = InfraAgent(InfraOptions(home=tmp_path, playbook_dirs=(home.playbooks,))).agent.find("deploy_it")
    assert offer is not None
    assert "needs Ansible" in str(offer.spec.unavailable)
