"""What the infra agent finds in its directories, and what it vouches for."""

import os
import shutil
import time
from pathlib import Path

import pytest

from chargehand.agents.infra import InfraAgent, InfraOptions
from chargehand.agents.infra.project import playbook_root
from tests.integration.infra_work import Home

PLAY = "- name: Update everything\n  hosts: localhost\n  tasks: []\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_playbooks_are_offered_and_other_yaml_is_not(home: Home) -> None:
    home.write("update.yml", PLAY)
    home.write("portals.yaml", "# chargehand:\n#   intent: deploy_portals\n" + PLAY)
    home.write("variables.yml", "a: 1\n")
    home.write("tasks.yml", "- debug: {msg: hello}\n")
    home.write("notes.txt", "hello")
    found = home.found()
    assert set(found) == {"run_update", "deploy_portals"}
    assert found["run_update"].unavailable is None
    assert found["run_update"].source.endswith("home lab/playbooks/update.yml")
    assert "Update everything" in found["run_update"].examples


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- hosts: all\n  tasks:\n   - a: [1\n  b: 2\n", "broken YAML at line 4"),
        ("# chargehand:\n#   intent: run_it\n#   exmples: []\n" + PLAY, "it.yml line 3: unknown key 'exmples'"),
        ("# chargehand:\n#   intent: run_it\n#   requires: {commands: [sh, nodde]}\n" + PLAY, "needs nodde, which"),
        ("# chargehand:\n#   intent: run_it\nhosts: all\n", "not a playbook"),
        ("# chargehand:\n#   intent: run_it\n- hosts: localhost\n  vars_files: [../../../secret.yml]\n", None),
    ],
)
def test_what_cannot_run_is_offered_with_the_reason(home: Home, text: str, reason: str | None) -> None:
    home.write("it.yml", text)
    unavailable = home.found()["run_it"].unavailable
    assert unavailable == reason or reason in unavailable


def test_text_that_is_not_text_is_a_reason_too(home: Home) -> None:
    (home.playbooks / "it.yml").write_bytes(b"\xff\xfe- hosts")
    assert home.found()["run_it"].unavailable == "not text in UTF-8"


def test_two_files_of_one_intent_are_not_guessed_between(home: Home) -> None:
    for name in ("a.yml", "b.yml"):
        home.write(name, "# chargehand:\n#   intent: deploy_it\n" + PLAY)
    unavailable = home.found()["deploy_it"].unavailable
    assert "a.yml" in unavailable
    assert "b.yml" in unavailable


def test_a_link_out_of_the_directory_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yml").write_text(PLAY)
    (home.playbooks / "it.yml").symlink_to(tmp_path / "elsewhere.yml")
    home.write("ok.yml", PLAY)
    (tmp_path / "secrets").mkdir()
    assert "leads out of" in home.found()["run_it"].unavailable
    assert home.found()["run_ok"].unavailable is None
    (home.playbooks / "files").symlink_to(tmp_path / "secrets")
    assert "leads out of" in home.found()["run_ok"].unavailable


CONTENT: list[tuple[str, str, bool]] = [
    ("it.yml", "changed", True),
    ("tasks/more.yml", "changed", True),
    ("roles/web/files/deep/page.html", "changed", True),
    ("ansible.cfg", "changed", True),
    ("../roles/shared/tasks/main.yml", "changed", True),
    ("../server/app.py", "changed", True),
    ("../server/new.py", "added", True),
    ("other.yml", "changed", True),
    ("../server", "removed", True),
    ("../empty", "made", True),
    ("../server/app.py", "made executable", True),
    ("../server/link", "linked elsewhere", True),
    ("state/written.json", "changed", False),
    ("../../beside the project.txt", "changed", False),
    ("tasks/__pycache__/x.pyc", "added", False),
    ("tasks/x.pyc", "added", False),
    ("../.git/index", "added", False),
    ("it.retry", "added", False),
    (".it.yml.swp", "added", False),
    ("../.venv/pyvenv.cfg", "added", False),
]


@pytest.mark.parametrize(("name", "event", "noticed"), CONTENT, ids=str)
def test_the_digest_covers_the_whole_project(home: Home, name: str, event: str, noticed: bool) -> None:
    for path, happens, _ in CONTENT:
        if happens == "changed":
            home.write(path, "x: 1\n")
    (home.playbooks / "../server/link").symlink_to("app.py")
    source = "# chargehand:\n#   intent: run_it\n#   state: [state]\n" + PLAY
    home.write("it.yml", source)
    approved = home.found()["run_it"]
    alter(home, name, event, source)
    item = next(item for item in home.discovery.found if item.spec.intent == "run_it")
    snapshots = home.discovery._snapshots
    assert (snapshots.hash_now(item.subject) != approved.content_hash) is noticed
    if noticed:
        name = os.path.relpath(home.playbooks / name, home.playbooks.parent)
        assert f"{name} was " in snapshots.difference(item.subject, approved.bound_hash)
    assert home.found()["run_it"].content_hash == snapshots.hash_now(item.subject)


def alter(home: Home, name: str, event: str, source: str) -> None:
    path = home.playbooks / name
    if event == "removed":
        shutil.rmtree(path)
    elif event == "made":
        path.mkdir()
    elif event == "made executable":
        path.chmod(0o755)
    elif event == "linked elsewhere":
        path.unlink()
        path.symlink_to("../roles")
    else:
        home.write(name, source + "# edited\n" if name == "it.yml" else "x: 2\n")


REACHING = {
    "a file": ("it.yml", "- hosts: all\n  vars_files: [../../far.yml]\n", "it.yml names ../../far.yml"),
    "absolute tasks": ("it.yml", "- hosts: all\n  tasks: [{include_tasks: /etc/hostname}]\n", "names /etc/hostname,"),
    "absolute variables": ("it.yml", "- hosts: all\n  vars_files:\n    - /etc/hostname\n", "names /etc/hostname,"),
    "an absolute role": ("it.yml", "- hosts: all\n  roles: [{role: /etc/x}]\n", "it.yml names /etc/x,"),
    "in a role": ("roles/a/tasks/main.yml", "- copy: {src: ../../../../../far.yml}\n", "a/tasks/main.yml names ../.."),
    "in a list": ("it.yml", "- hosts: all\n  vars_files: [x.yml, /etc/hostname]\n", "it.yml names /etc/hostname,"),
    "below": ("it.yml", "- hosts: localhost\n  vars_files: [vars/x.yml, 'vars/y.yml']\n  roles: [a/b]\n", None),
    "a target": ("it.yml", "- hosts: localhost\n  tasks: [{template: {src: a/b, dest: /etc/hostname}}]\n", None),
    "a program": ("it.yml", "- hosts: localhost\n  tasks: [{script: tools/x.sh /etc/hostname}]\n", None),
    "a source": ("it.yml", "- hosts: all\n  tasks:\n  - template:\n      src: /etc/hostname\n", "/etc/hostname,"),
    "a glob": ("tasks/x.yml", "- debug:\n  with_fileglob: '../../../far*/*'\n", None),
}


@pytest.mark.parametrize("name", REACHING)
def test_what_reaches_out_of_the_project_is_refused_by_name(home: Home, tmp_path: Path, name: str) -> None:
    (tmp_path / "far.yml").write_text("a: 1\n")
    home.write("it.yml", PLAY)
    file, text, reason = REACHING[name]
    home.write(file, text)
    unavailable = home.found()["run_it"].unavailable
    assert unavailable == reason or reason in unavailable


def test_a_path_into_the_project_itself_is_refused_by_name(home: Home) -> None:
    home.write("tasks/x.yml", f"# see {home.playbooks}/y.yml\n")
    home.write("it.yml", PLAY)
    assert home.found()["run_it"].unavailable is None
    home.write("tools/x.sh", f"exec {home.playbooks}/tools/y.sh\n")
    assert f"tools/x.sh names {home.playbooks}/tools/y.sh by its absolute path" in home.found()["run_it"].unavailable


def test_a_playbook_that_reaches_out_stops_no_other(home: Home, tmp_path: Path) -> None:
    (tmp_path / "far.yml").write_text("a: 1\n")
    home.write("it.yml", "- hosts: all\n  vars_files: [../../far.yml]\n")
    home.write("ok.yml", PLAY)
    assert home.found()["run_it"].unavailable
    assert home.found()["run_ok"].unavailable is None


ROOTS = {
    "nothing above": ((), "home lab/playbooks"),
    "settings above": (("home lab/ansible.cfg",), "home lab"),
    "the nearest counts": (("home lab/roles/x", ".git/config"), "home lab"),
    "a repository": ((".git/config",), ""),
    "the file that says so": ((".chargehand-root", "home lab/ansible.cfg"), ""),
    "the file beside": (("home lab/playbooks/.chargehand-root", "home lab/ansible.cfg"), "home lab/playbooks"),
}


@pytest.mark.parametrize("name", ROOTS)
def test_the_project_is_where_it_is_said_to_be(home: Home, tmp_path: Path, name: str) -> None:
    files, root = ROOTS[name]
    for file in files:
        home.write(f"../../{file}", "")
    assert playbook_root(home.playbooks) == tmp_path / root
    assert playbook_root(home.playbooks, home=tmp_path / "home lab" / "agent") == home.playbooks


def test_no_project_is_where_others_may_write(home: Home) -> None:
    home.write("../ansible.cfg", "")
    home.playbooks.parent.chmod(0o777)
    assert playbook_root(home.playbooks) == home.playbooks


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("..", "does not lie in the project"),
        ("/etc", "does not lie in the project"),
        (".", "holds it.yml itself"),
        ("it.yml", "holds it.yml itself"),
        ("roles/web", "would leave out what Ansible runs (roles)"),
        ("filter_plugins", "would leave out"),
    ],
)
def test_state_cannot_hide_what_runs(home: Home, state: str, reason: str) -> None:
    home.write("it.yml", f"# chargehand:\n#   intent: run_it\n#   state: ['{state}']\n" + PLAY)
    assert reason in home.found()["run_it"].unavailable


def test_circles_of_links_and_includes_come_to_an_end(home: Home) -> None:
    home.write("it.yml", "- import_playbook: it.yml\n  vars: {a: tasks/a.yml}\n" + PLAY)
    home.write("tasks/a.yml", "- include_tasks: a.yml\n")
    (home.playbooks / "tasks" / "again").symlink_to(home.playbooks / "tasks")
    assert home.found()["run_it"].unavailable is None


def test_a_rescan_says_whether_anything_differs(home: Home) -> None:
    home.write("it.yml", PLAY)
    assert home.discovery.rescan() is True
    assert home.discovery.rescan() is False
    home.write("it.yml", PLAY + "# edited\n")
    assert home.discovery.rescan() is True
    (home.playbooks / "it.yml").unlink()
    assert home.discovery.rescan() is True
    assert home.discovery.found == ()


def test_what_the_agent_does_by_itself_cannot_be_replaced(home: Home, tmp_path: Path) -> None:
    home.write("evil.yml", "# chargehand:\n#   intent: check_http\n" + PLAY)
    agent = InfraAgent(InfraOptions(home=tmp_path, playbook_dirs=(home.playbooks,))).agent
    assert agent.find("check_http").spec.source == "chargehand"  # type: ignore[union-attr]


def test_the_agent_follows_what_is_on_disk(home: Home, tmp_path: Path) -> None:
    agent = InfraAgent(InfraOptions(home=tmp_path / "agent", playbook_dirs=(home.playbooks,)))
    assert agent.agent.find("run_new") is None
    home.write("new.yml", PLAY)
    assert agent.rescan()
    offer = agent.agent.find("run_new")
    assert offer is not None
    assert offer.content_hash() == offer.spec.content_hash
    assert agent.agent.specializations == ()
    assert agent.agent.find("add_configuration").spec.unavailable  # type: ignore[union-attr] # no roots


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{last}'] * 9)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "hostile",
    [
        f"- hosts: all\n  vars:\n    {BOMB.replace(chr(10), chr(10) + '    ')}\n",
        "# chargehand:\n" + "".join(f"#   {line}\n" for line in BOMB.splitlines()) + PLAY,
        "# chargehand:\n#   intent: run_evil\n#   description: !!int x\n" + PLAY,
        "# chargehand:\n#   intent: run_evil\n#   resources: {cpu_cores: 3000000000}\n" + PLAY,
        "# chargehand:\n#   intent: run_evil\n#   parameters: {a: {type: string, pattern: '(?=x)'}}\n" + PLAY,
        "- hosts: all\n  vars: " + "[" * 20_000 + "\n",
        "- hosts: all\n  vars: {a: &a [*a]}\n",
    ],
)
def test_a_hostile_playbook_makes_itself_unavailable_and_nothing_else(home: Home, hostile: str) -> None:
    home.write("evil.yml", hostile)
    home.write("good.yml", PLAY)
    started = time.process_time()
    found = home.found()
    assert time.process_time() - started < 3.0
    assert found["run_good"].unavailable is None
    assert found["run_evil"].unavailable


def test_what_a_playbook_names_is_hashed_and_never_parsed(home: Home) -> None:
    home.write("good.yml", "- hosts: localhost\n  vars_files: [vars/evil.yml]\n")
    home.write("vars/evil.yml", BOMB)
    began = time.monotonic()
    before = home.found()["run_good"]
    assert before.unavailable is None
    assert time.monotonic() - began < 5
    home.write("vars/evil.yml", BOMB + "# another\n")
    assert home.found()["run_good"].content_hash != before.content_hash


PROMPT = "- hosts: localhost\n  vars_prompt: [{name: release}, {name: really, default: 'yes'}]\n  tasks: []\n"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "it asks for really, release (vars_prompt)"),
        ("release: {type: string, required: true}", "it asks for really (vars_prompt)"),
        ("release: {type: string}\n#     really: {type: string, default: 'no'}", "it asks for release (vars_prompt)"),
        ("release: {type: string, required: true}\n#     really: {type: string, default: 'no'}", None),
    ],
)
@pytest.mark.parametrize("imported", [False, True])
def test_what_asks_for_a_variable_needs_a_parameter_that_answers(
    home: Home, header: str, reason: str | None, imported: bool
) -> None:
    head = f"# chargehand:\n#   intent: run_it\n#   parameters:\n#     {header}\n" if header else ""
    home.write("it.yml", head + ("- import_playbook: parts/asks.yml\n" if imported else PROMPT))
    home.write("parts/asks.yml", PROMPT)
    unavailable = home.found()["run_it"].unavailable
    assert (unavailable is None) if reason is None else str(unavailable).startswith(reason)


@pytest.mark.parametrize(
    ("tasks", "places"),
    [
        ("[{pause: }]", ["it.yml line 3"]),
        ("[{ansible.builtin.pause: {prompt: Sure?}}]", ["it.yml line 3"]),
        ("[{action: pause prompt=Sure}]", ["it.yml line 3"]),
        ("[{block: [{name: x, debug: }], rescue: [{pause: {echo: false}}]}]", ["it.yml line 3"]),
        ("[{include_tasks: parts/more.yml}]", ["parts/more.yml line 2"]),
        ("[{import_role: {name: sure}}]", ["roles/sure/tasks/main.yml line 1"]),
        ("[{pause: {seconds: 3, prompt: Wait}}]", []),
        ("[{pause: minutes=1}]", []),
        ("[{pause: , args: {seconds: 1}}]", []),
        ("[{debug: {msg: pause}}]", []),
        ("[{include_tasks: '{{ what }}.yml'}, {include_tasks: gone.yml}]", []),
    ],
)
def test_a_pause_that_waits_for_a_person_is_noticed(home: Home, tasks: str, places: list[str]) -> None:
    home.write("it.yml", f"- hosts: localhost\n  tasks:\n    {tasks}\n")
    home.write("parts/more.yml", "- {name: x, debug: }\n- pause: {prompt: Sure?}\n")
    home.write("roles/sure/tasks/main.yml", "- pause: {prompt: Sure?}\n")
    found = home.found()["run_it"]
    assert found.unavailable is None
    assert [caution.partition("there: ")[2] for caution in found.cautions] == places
    plain = found.model_copy(update={"cautions": ()})
    assert plain.bound_hash == found.bound_hash, "an upgrade that notices more suspends no grant"
