"""What runs is what was approved: an edit of any file after the approval stops the work, and names the file.

Each layout is an ordinary one of Ansible's. Guessing by parsing what a playbook uses missed the first eleven.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import py_compile
import sys
from pathlib import Path
from typing import Any

import pytest

from chargehand.agents.infra import InfraAgent, InfraOptions
from chargehand.agents.infra.playbooks import ansible_missing
from chargehand.domain.errors import ContentChanged
from chargehand.testing import Ran, run, started
from tests.integration.infra_work import Home

real_ansible = pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))

PLAYBOOK = """\
# chargehand:
#   intent: deploy_it
#   retry_safe: true
#   state: [../made/here]
#   parameters: {mark: {type: string}, go: {type: string}, base: {type: string}}
- import_playbook: ../other/site.yml
- name: Deploy it
  hosts: all
  gather_facts: false
  vars: {path: ../words/path, steps: "{{ query('ansible.builtin.fileglob', '../steps/*') }}"}
  roles: [shared]
  tasks:
    - copy: {content: began, dest: "{{ mark }}", mode: "0600"}
    - wait_for: {path: "{{ go }}", timeout: 60}
      when: go is defined
    - include_vars: file=../v.yml
    - include_tasks: "{{ computed }}.yml"
    - include_tasks: "{{ item }}"
      with_fileglob: ../steps/*
    - copy: {src: ../words/copied, dest: "{{ mark }}.copied", mode: "0600"}
    - shell: bash ./tools/h.sh
      args: {chdir: "{{ playbook_dir }}"}
      register: tool
    - template: {src: ../templates/outer.j2, dest: "{{ mark }}.templated", mode: "0600"}
    - include_role: {name: shared, tasks_from: "{{ 'more' }}"}
    - set_fact: {shown: "{{ 'x' | shown }}"}
    - copy: {content: "{{ tool.stdout }}", dest: "{{ playbook_dir }}/../made/here/tool", mode: "0600"}
    - set_stats:
        data:
          used:
            - "{{ lookup('file', '../words/looked_up') }}"
            - "{{ lookup('file', path) }}"
            - "{{ [from_vars, from_role, from_more, from_step, from_group, from_computed, from_operator] | join(' ') }}"
            - "{{ tool.stdout }} {{ lookup('file', mark ~ '.copied') }} {{ lookup('file', mark ~ '.templated') }}"
            - "{{ shown }} {{ lookup('file', '../words/link') }}"
"""

GOOD = "good"
FILTER = "class FilterModule:\n    def filters(self): return {{'shown': lambda x: '{}'}}\n"

FILES: dict[str, str] = {
    "playbooks/it.yml": PLAYBOOK,
    "playbooks/ansible.cfg": "[defaults]\nroles_path = ../roles\n",
    "other/site.yml": "- hosts: all\n  gather_facts: false\n  tasks: [{set_fact: {from_group: '{{ group_word }}'}}]\n",
    "other/group_vars/all.yml": f"group_word: {GOOD}\n",
    "roles/shared/tasks/main.yml": f"- set_fact: {{from_role: {GOOD}}}\n",
    "roles/shared/tasks/more.yml": f"- set_fact: {{from_more: {GOOD}}}\n",
    "roles/shared/meta/main.yml": "dependencies: []\n",
    "steps/a.yml": f"- set_fact: {{from_step: {GOOD}}}\n",
    "words/looked_up": GOOD,
    "words/path": GOOD,
    "words/copied": GOOD,
    "words/linked": GOOD,
    "v.yml": f"from_vars: {GOOD}\ncomputed: named_so\n",
    "playbooks/named_so.yml": f"- set_fact: {{from_computed: {GOOD}}}\n",
    "playbooks/tools/h.sh": f"echo {GOOD}\n",
    "playbooks/templates/outer.j2": "{% include 'inner.j2' %}",
    "playbooks/templates/inner.j2": GOOD,
    "playbooks/filter_plugins/shown.py": FILTER.format(GOOD),
}

SCRIPT = """\
#!{python}
# chargehand:
#   intent: run_the_script
#   retry_safe: true
import helper, os, pathlib, subprocess
here = pathlib.Path(__file__).parent
lines = [helper.WORD, (here / "data.txt").read_text(), subprocess.check_output([here / "lib" / "tool"], text=True)]
pathlib.Path(os.environ["CHARGEHAND_OUTPUT_FILE"]).write_text('{{"used": "%s"}}' % " ".join(map(str.strip, lines)))
"""

LAYOUTS = [
    # the eleven that were missed
    "roles/shared/tasks/main.yml",  # roles_path = ../roles
    "other/group_vars/all.yml",  # beside an imported playbook
    "steps/a.yml",  # with_fileglob: ../steps/*
    "words/looked_up",  # lookup('file', '../x')
    "words/copied",  # copy: src=../x
    "v.yml",  # include_vars: file=../v.yml
    "playbooks/tools/h.sh",  # shell: bash ./tools/h.sh
    "words/path",  # a variable that is named path
    "scripts/helper.py",  # a script's import
    # (an absolute include_tasks and a forged .pyc: below)
    # others
    "playbooks/named_so.yml",  # include_tasks of a name that is put together
    "playbooks/templates/inner.j2",  # a template that a template includes
    "roles/shared/tasks/more.yml",  # tasks_from
    "roles/shared/meta/main.yml",  # a role's dependencies
    "other/site.yml",  # an imported playbook
    "playbooks/ansible.cfg",
    "playbooks/filter_plugins/shown.py",  # a plugin
    "scripts/data.txt",  # what a script reads
    "scripts/lib/tool",  # what a script runs
    "../inventory/hosts",  # the inventory, outside of the project
    "../inventory/group_vars/all.yml",  # what belongs to it
    "../inventory/host_vars/box.yml",
    "../operators.yml",  # CHARGEHAND_ANSIBLE_VARS
]

ADDED = [
    "playbooks/roles/shared",  # goes before the one of roles_path
    "playbooks/group_vars/all.yml",
    "playbooks/library/copy.py",  # a module of the same name
    "steps/b.yml",
    "ansible.cfg",
    "roles/shared/defaults",
    "scripts/json.py",  # goes before Python's own
]


class Project:
    """A project with everything in it, its inventory beside it, and an agent."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.root, self.mark, self.go = root / "home lab", root / "mark", root / "go"
        for name, text in FILES.items():
            self.write(name, text)
        (self.root / "words" / "link").symlink_to("linked")
        script = self.write("scripts/it.py", SCRIPT.format(python=sys.executable))
        tool = self.write("scripts/lib/tool", f"#!/bin/sh\necho {GOOD}\n")
        self.write("scripts/helper.py", f"WORD = '{GOOD}'\n")
        self.write("scripts/data.txt", GOOD)
        script.chmod(0o755)
        tool.chmod(0o755)
        inventory = f"box ansible_connection=local ansible_python_interpreter={sys.executable}\n"
        hosts = self.write("../inventory/hosts", inventory)
        self.write("../inventory/group_vars/all.yml", "a: 1\n")
        self.write("../inventory/host_vars/box.yml", "b: 1\n")
        operators = self.write("../operators.yml", f"from_operator: {GOOD}\n")
        folders = {"playbook_dirs": (self.root / "playbooks",), "script_dirs": (self.root / "scripts",)}
        self.options = InfraOptions(home=root / "agent", inventory=hosts, vars_file=operators, **folders)  # type: ignore[arg-type]
        self.infra = InfraAgent(self.options)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    async def run(self, intent: str, **parameters: Any) -> Ran:
        """Run what was approved when the agent last looked."""
        values = {"mark": str(self.mark), **parameters} if intent == "deploy_it" else {}
        return await run(self.infra.agent, intent, values, timeout=200, folder=self.home.root / "work")

    @property
    def ran_anything(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def intent_of(name: str) -> str:
    return "run_the_script" if name.startswith("scripts/") else "deploy_it"


def assert_refused(ran: Ran, name: str, event: str) -> None:
    assert ran.failure is not None
    assert ran.failure.kind == "content_changed"
    shown = name.removeprefix("../inventory/").removeprefix("../").removeprefix("scripts/")
    assert f"{shown} was {event}" in ran.failure.message
    assert "nothing was run" in ran.failure.message


@pytest.mark.parametrize("name", LAYOUTS)
async def test_an_edit_after_the_approval_is_refused_by_name(project: Project, name: str) -> None:
    path = project.root / name
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")  # as long as before ...
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # ... and as old
    assert_refused(await project.run(intent_of(name)), name, "changed")
    assert not project.ran_anything


@pytest.mark.parametrize("name", ADDED)
async def test_a_file_that_was_added_is_refused_by_name(project: Project, name: str) -> None:
    project.write(name if Path(name).suffix else f"{name}/main.yml", "")
    assert_refused(await project.run(intent_of(name)), name, "added")
    assert not project.ran_anything


async def test_other_changes_are_refused_by_name_too(project: Project) -> None:
    (project.root / "words" / "link").unlink()
    (project.root / "words" / "link").symlink_to("path")
    assert_refused(await project.run("deploy_it"), "words/link", "changed")
    project.infra.rescan()
    (project.root / "scripts" / "lib" / "tool").chmod(0o644)
    assert_refused(await project.run("run_the_script"), "lib/tool", "changed")
    (project.root / "words" / "link").unlink()
    assert_refused(await project.run("deploy_it"), "words/link", "removed")


async def test_the_name_is_still_known_to_another_life_of_the_agent(project: Project) -> None:
    approved = project.infra.agent.find("deploy_it").spec.bound_hash  # type: ignore[union-attr]
    project.write("v.yml", "x: 1\n")
    later = InfraAgent(project.options)
    assert later.agent.find("deploy_it").difference(approved) == "v.yml was changed"  # type: ignore[union-attr,misc]


def test_an_absolute_include_is_refused_by_name(project: Project) -> None:
    for path, said in (("/etc/hostname", "outside of the project"), (f"{project.root}/v.yml", "by its absolute path")):
        project.write("playbooks/it.yml", PLAYBOOK + f"    - include_tasks: {path}\n")
        project.infra.rescan()
        unavailable = project.infra.agent.find("deploy_it").spec.unavailable  # type: ignore[union-attr]
        assert unavailable is not None
        assert f"it.yml names {path}" in unavailable
        assert said in unavailable


def forge(source: Path, text: str) -> None:
    """Put another program's byte code where Python looks for that of `source`, as if it came from it."""
    honest, status = source.read_text(), source.stat()
    source.write_text(text.ljust(len(honest)))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    py_compile.compile(str(source), cfile=importlib.util.cache_from_source(str(source)), doraise=True)
    source.write_text(honest)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


@real_ansible
async def test_a_run_is_not_touched_by_edits_meanwhile(project: Project) -> None:
    plugin = project.root / "playbooks/filter_plugins/shown.py"
    forge(plugin, FILTER.format("EVIL"))
    spec = importlib.util.spec_from_file_location("shown", plugin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.FilterModule().filters()["shown"]("x") == "EVIL", "the forgery is a good one"

    values = {"mark": str(project.mark), "go": str(project.go)}
    async with started(
        project.infra.agent, "deploy_it", values, timeout=200, folder=project.home.root / "work"
    ) as running:
        async with asyncio.timeout(120):
            while not project.mark.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        for path in [*project.root.rglob("*"), project.options.inventory, project.options.vars_file]:
            if path.is_file() and not path.is_symlink():  # type: ignore[union-attr]
                path.write_bytes(path.read_bytes().replace(GOOD.encode(), b"EVIL"))  # type: ignore[union-attr]
        project.go.touch()
        ran = await running.ended()
    assert ran.ok, ran.failure
    assert " ".join(ran.outputs["used"]).split() == [GOOD] * 14  # type: ignore[arg-type]
    assert (project.root / "made/here/tool").read_text() == GOOD, "what it may write is the real thing"
    assert not (ran.workdir / "snapshot").exists()


@real_ansible
async def test_a_path_put_together_while_it_runs_does_not_reach_the_project(project: Project) -> None:
    tasks = [
        '- include_vars: "{{ base }}/v.yml"',
        "- set_fact: {got: \"{{ lookup('file', base ~ '/words/path') }}\"}",
        "- set_fact: {got: \"{{ lookup('pipe', 'cat \\\"' ~ base ~ '/words/path\\\"') }}\"}",
        '- copy: {src: "{{ base }}/words/path", dest: "{{ mark }}"}',
        "- include_vars: \"{{ playbook_dir }}/{{ [up, up] | join('/') }}/operators.yml\"",
    ]
    play = PLAYBOOK.split("- import_playbook", maxsplit=1)[0]
    play += "- hosts: all\n  vars: {up: ..}\n  gather_facts: false\n  tasks:\n"
    for number, task in enumerate(tasks):
        play += f"    - block:\n        {task}\n      rescue:\n"
        play += f'        - copy: {{content: "{{{{ ansible_failed_result }}}}", dest: "{{{{ mark }}}}.{number}"}}\n'
    project.write("playbooks/it.yml", play)
    project.infra.rescan()
    ran = await project.run("deploy_it", base=str(project.root))
    assert ran.ok, ran.failure
    told = [Path(f"{project.mark}.{number}") for number in range(len(tasks))]
    said = [path.read_text() if path.exists() else "nothing failed" for path in told]
    assert [words for words in said[:4] if "lies in the project itself" not in words] == []
    assert "operators.yml" in said[4]
    assert not project.ran_anything

    project.write(
        "playbooks/it.yml", play.split("    - block", maxsplit=1)[0] + "    - include_tasks: '{{ base }}/v.yml'\n"
    )
    project.infra.rescan()
    ran = await project.run("deploy_it", base=str(project.root))
    assert "lies in the project itself" in ran.failure.message  # type: ignore[union-attr]


async def test_a_script_runs_from_its_copy(project: Project) -> None:
    forge(project.root / "scripts" / "helper.py", "WORD = 'EVIL'\n")
    ran = await project.run("run_the_script")
    assert ran.ok, ran.failure
    assert ran.outputs["used"] == "good good good"


async def test_what_is_edited_while_it_is_copied_is_refused_by_name(project: Project) -> None:
    found = next(item for item in project.infra.discovery.found if item.spec.intent == "deploy_it")
    snapshots, folder = project.infra.snapshots, project.home.root / "copy"
    read = snapshots.read

    def late(*arguments: Any) -> Any:
        parts = read(*arguments)
        project.write("words/path", "EVIL")
        return parts

    snapshots.read = late  # type: ignore[method-assign]  # the moment between reading and copying
    with pytest.raises(ContentChanged, match="words/path was changed"):
        snapshots.copy(found.subject, found.spec.bound_hash, folder)


def test_a_copy_for_what_was_approved_under_other_terms_is_not_made(project: Project, tmp_path: Path) -> None:
    found = next(item for item in project.infra.discovery.found if item.spec.intent == "deploy_it")
    other = found.spec.model_copy(update={"retry_safe": not found.spec.retry_safe})
    for approved in (found.spec.content_hash, other.bound_hash):
        with pytest.raises(ContentChanged):
            project.infra.snapshots.copy(found.subject, approved, tmp_path / "copy")
    assert project.infra.snapshots.copy(found.subject, found.spec.bound_hash, tmp_path / "copy").file.exists()


def test_a_large_tree_is_not_read_every_time(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargehand.agents.infra.snapshots.SLOW", 0.0)
    before = project.infra.agent.find("deploy_it").spec.content_hash  # type: ignore[union-attr]
    project.infra.rescan()
    project.write("v.yml", "x: 1\n")
    project.infra.rescan()
    assert project.infra.agent.find("deploy_it").spec.content_hash == before  # type: ignore[union-attr]


WRITES = """\
# chargehand:
#   intent: write_it
#   state: [../files/certs]
- hosts: localhost
  gather_facts: false
  tasks:
    - copy: {content: new, dest: ../files/certs/web.pem, mode: "0600"}
"""
READS = """\
# chargehand:
#   intent: read_it
- hosts: localhost
  gather_facts: false
  tasks: [{set_stats: {data: {found: "{{ lookup('file', '../files/certs/web.pem') }}"}}}]
"""


@pytest.fixture
def two(project: Project) -> Project:
    """Two playbooks of one project: what one of them writes the other one reads."""
    project.write("playbooks/write.yml", WRITES)
    project.write("playbooks/read.yml", READS)
    inventory = f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n"
    project.write("../inventory/hosts", f"box ansible_connection=local\n{inventory}")
    project.infra.rescan()
    return project


@real_ansible
async def test_a_step_that_writes_what_it_declares_does_not_change_the_next_one(two: Project) -> None:
    assert (await two.run("write_it")).failure is None
    ran = await two.run("read_it")
    assert ran.failure is None
    assert ran.outputs["found"] == "new"
    two.infra.rescan()
    approved = two.infra.agent.find("read_it").spec.bound_hash  # type: ignore[union-attr]
    two.write("files/certs/web.pem", "newer")
    two.infra.rescan()
    assert two.infra.agent.find("read_it").spec.bound_hash == approved  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["files/key.pem", "files/certs.txt"])
async def test_a_step_that_writes_what_nobody_declares_is_named_with_the_file(two: Project, name: str) -> None:
    two.write(name, "x")
    assert_refused(await two.run("read_it"), name, "added")


async def test_a_program_among_what_others_write_is_content(two: Project) -> None:
    two.write("files/certs/run.sh", "x").chmod(0o755)
    assert_refused(await two.run("read_it"), "files/certs/run.sh", "added")


async def test_what_is_on_offer_is_content_whatever_another_one_declares(two: Project) -> None:
    two.write("scripts/greedy.sh", "#!/bin/sh\n# chargehand:\n#   intent: be_greedy\n#   state: [lib]\n").chmod(0o755)
    two.write("playbooks/greedy.yml", WRITES.replace("write_it", "greedy").replace("../files/certs", ".."))
    two.infra.rescan()
    found = {item.subject.name: item.subject for item in two.infra.discovery.found}
    assert found["playbooks/read.yml"].beside == ("files/certs", "made/here", "scripts/lib")
    assert found["greedy.sh"].beside == ("lib",)
    two.write("playbooks/read.yml", READS + "# more\n")
    assert_refused(await two.run("read_it"), "playbooks/read.yml", "changed")


RUNS = "{{ lookup('pipe', 'touch MARK') }}"
SMUGGLED = {
    "tasks": ("include_tasks: '{{ base }}/it'", "- command: touch MARK\n"),
    "variables": ("include_vars: '{{ base }}/it'", f'x: "{RUNS}"\n'),
    "a template": ("template: {src: '{{ base }}/it', dest: 'MARK.out', mode: '0600'}", RUNS),
    "a looked up template": ("debug: {msg: \"{{ lookup('template', base ~ '/it') }}\"}", RUNS),
    "a script": ("script: '{{ base }}/it'", "#!/bin/sh\ntouch MARK\n"),
}


@real_ansible
@pytest.mark.parametrize("where", ["state", "outside", "another's state"])
@pytest.mark.parametrize("what", sorted(SMUGGLED))
async def test_code_that_nobody_hashed_is_not_run(project: Project, what: str, where: str) -> None:
    """What lies where work may write, or outside of the project, is in no approval: data at most, never code."""
    task, content = SMUGGLED[what]
    inside = where != "outside"
    folder = project.root / "playbooks" / "work" if inside else project.home.root / "elsewhere"
    base = "{{ playbook_dir }}/work" if inside else str(folder)
    state = "#   state: [work]\n"
    if where == "another's state":
        project.write("playbooks/o.yml", f"# chargehand:\n#   intent: other\n{state}- hosts: all\n  tasks: []\n")
        state = ""
    project.write(
        "playbooks/smuggle.yml",
        f"# chargehand:\n#   intent: smuggle\n{state}"
        f"- hosts: all\n  gather_facts: false\n  vars: {{base: '{base}'}}\n  tasks:\n"
        f"    - {task}\n    - debug: {{msg: '{{{{ x | default(1) }}}}'}}\n".replace("MARK", str(project.mark)),
    )
    folder.mkdir(parents=True)
    project.infra.rescan()
    (folder / "it").write_text(content.replace("MARK", str(project.mark)))
    ran = await project.run("smuggle")
    assert ran.failure is not None
    told = str(ran.failure)  # who looks for a script, or catches what a lookup meets, tells less than we do
    assert "nothing there is run or read as code" in told or "Could not find or access" in told or "/it" in told
    assert not project.ran_anything


@real_ansible
async def test_data_of_a_state_directory_may_be_read(project: Project) -> None:
    project.write(
        "playbooks/reads.yml",
        "# chargehand:\n#   intent: read_it\n#   state: [work]\n- hosts: all\n  gather_facts: false\n  tasks:\n"
        "    - copy: {src: work/data, dest: MARK, mode: '0600'}\n"
        "    - debug: {msg: \"{{ lookup('file', 'work/data') }}\"}\n".replace("MARK", str(project.mark)),
    )
    project.write("playbooks/work/data", "{{ only data }}")
    project.infra.rescan()
    ran = await project.run("read_it")
    assert ran.failure is None
    assert project.mark.read_text() == "{{ only data }}"


@pytest.mark.parametrize("path", ["Roles/x", "Templates", "ansible.cfg", "INVENTORY", "linked"])
def test_what_ansible_runs_cannot_be_state_in_any_letters_or_by_a_link(project: Project, path: str) -> None:
    (project.root / "playbooks" / "real").mkdir()
    (project.root / "playbooks" / "linked").symlink_to("real")
    project.write("playbooks/s.yml", f"# chargehand:\n#   intent: so\n#   state: [{path}]\n- hosts: all\n  tasks: []\n")
    project.infra.rescan()
    offer = project.infra.agent.find("so")
    assert offer is not None
    assert f"state: {path}" in (offer.spec.unavailable or "")
