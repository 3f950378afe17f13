"""What only real Ansible shows: passwords for become and vault reach it, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from pathlib import Path

import pytest

from chargehand.agents.infra import InfraAgent, InfraOptions
from chargehand.agents.infra.playbooks import ansible_missing, ansible_program
from chargehand.testing import run, started

BECOME, VAULT, LOGIN = "become hunter2", "vault hunter3", "login hunter4"
SECRETS = {"host_sudo": BECOME, "home_vault": VAULT, "login": LOGIN}

PLAYBOOK = """\
# chargehand:
#   intent: deploy_it
#   retry_safe: true
#   parameters: {password: {secret: true, default_secret: login}}
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.shell: |
        stat -c %a "$ANSIBLE_BECOME_PASSWORD_FILE" "$ANSIBLE_VAULT_PASSWORD_FILE" ./variables.yml
        sha256sum < "$ANSIBLE_BECOME_PASSWORD_FILE"
      args: {chdir: "{{ lookup('config', 'BECOME_PASSWORD_FILE') | dirname }}"}
      register: seen
    - ansible.builtin.set_stats:
        data: {modes: "{{ seen.stdout_lines[:3] }}", sum: "{{ seen.stdout_lines[3] }}", word: "{{ operators_word }}",
               length: "{{ operators_word | length }}"}
    - ansible.builtin.set_stats:
        data: {quiet: "{{ lookup('config', 'DEFAULT_NO_TARGET_SYSLOG') }}"}
"""

SCRIPT = """\
#!/bin/sh
# chargehand:
#   intent: wait_for_it
#   retry_safe: true
#   parameters: {password: {secret: true, default_secret: login}}
stat -c 'progress: %a' "$CHARGEHAND_PARAMETERS_FILE"
[ "${CHARGEHAND_PASSWORD#login hunter}" = 4 ] && echo "progress: it is $CHARGEHAND_PASSWORD"
exec sleep 60
"""


def infra(root: Path, **options: str | Path) -> InfraAgent:
    for folder, name, text in (("playbooks", "it.yml", PLAYBOOK), ("scripts", "it.sh", SCRIPT)):
        (root / folder).mkdir()
        (root / folder / name).write_text(text)
        (root / folder / name).chmod(0o755)
    folders = {"playbook_dirs": (root / "playbooks",), "script_dirs": (root / "scripts",)}
    return InfraAgent(InfraOptions(home=root / "home", **folders, **options))  # type: ignore[arg-type]


def traces(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(value.encode() in path.read_bytes() for value in SECRETS.values())]


@pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))
async def test_ansible_gets_its_passwords_and_keeps_none(tmp_path: Path) -> None:
    encrypted, password = tmp_path / "vars.yml", tmp_path / "password"
    encrypted.write_text("operators_word: please\n")
    password.write_text(VAULT)
    vault = [ansible_program().with_name("ansible-vault"), "encrypt", "--vault-password-file", password, encrypted]
    await asyncio.to_thread(subprocess.run, vault, check=True, capture_output=True)
    agent = infra(tmp_path, vars_file=encrypted, become_secret="host_sudo", vault_secret="home_vault").agent

    ran = await run(agent, "deploy_it", timeout=60, secrets=SECRETS, folder=tmp_path / "work")
    assert ran.ok, ran.failure
    assert ran.outputs["modes"] == ["600", "600", "600"]
    assert str(ran.outputs["sum"]).split()[0] == hashlib.sha256(BECOME.encode()).hexdigest()
    assert int(str(ran.outputs["length"])) == len("please"), "it was decrypted"
    assert ran.outputs["word"] == "[secret ansible-vault]"
    assert ran.outputs["quiet"] is True, "modules do not write their arguments to the system's log"
    assert ran.workdir.is_dir()
    assert traces(ran.workdir) == []

    without = await run(agent, "deploy_it", secrets={"login": LOGIN, "host_sudo": BECOME})
    assert without.failure is not None
    assert "this agent does not have the secret home_vault" in without.failure.message


async def test_a_script_that_is_ended_leaves_no_secret_behind(tmp_path: Path) -> None:
    agent = infra(tmp_path).agent
    async with started(agent, "wait_for_it", secrets=SECRETS, folder=tmp_path / "work") as running:
        await running.said("600")
        await running.said("it is [secret login]")
        assert traces(running.workdir) == [str(running.workdir / "parameters.json")]
        running.cancel()
        ran = await running.ended()
    assert ran.failure is not None
    assert ran.failure.kind == "cancelled"
    assert traces(ran.workdir) == []
