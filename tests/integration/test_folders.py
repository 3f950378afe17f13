"""What is ours stays ours, whatever the umask is; and what others could have written is refused, by name."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from chargehand import folders
from chargehand.agent import Agent
from chargehand.agent.runtime.runtime import AgentRuntime
from chargehand.agents.infra.discovery import Discovery
from chargehand.agents.infra.snapshots import Snapshots
from chargehand.app.application import open_application
from chargehand.app.doctor import examine
from chargehand.app.worker import worker_beside
from chargehand.broker.memory import MemoryBroker
from chargehand.domain.errors import BadConfiguration
from chargehand.settings import Settings

ROOT = os.geteuid() == 0
PLAY = "# chargehand:\n#   intent: say_hello\n- hosts: localhost\n  tasks: []\n"
SCRIPT = "#!/bin/sh\n# chargehand:\n#   intent: say_script\ntrue\n"
STRANGER = 60_000


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_ones(home: Path) -> list[str]:
    """Everything that somebody else than its owner may write, however deep."""
    found = [home, *home.rglob("*")]
    return [
        f"{p} {stat.filemode(p.lstat().st_mode)}" for p in found if not p.is_symlink() and p.lstat().st_mode & 0o022
    ]


async def test_nothing_in_a_home_can_be_written_by_others_even_under_umask_000(
    no_umask: None, tmp_path: Path, database_url: str
) -> None:
    home, playbooks = tmp_path / "above" / "home", tmp_path / "playbooks"
    folders.make(playbooks, 0o755)
    folders.write(playbooks / "hello.yml", PLAY.encode(), 0o644)
    settings = Settings(home=home, database_url=database_url, playbooks=(playbooks,))
    async with open_application(settings) as app, worker_beside(app) as worker:
        await worker.staffed.wait()
        request_id = await app.submit("say hello", requester="ann")
        while not app.heads.last().position:
            await app.changed(0.2)
    assert request_id
    assert (home / "agents" / "infra-1" / "journal").is_dir()
    assert (home / "agents" / "infra-1" / "manifests").is_dir()
    assert open_ones(tmp_path / "above") == []
    assert home.stat().st_mode & 0o777 == (0o711 if ROOT else 0o700)
    assert (home / "agents").stat().st_mode & 0o777 == 0o700
    folders.check_home(home)


@pytest.mark.parametrize("place", [".", "agents", "agents/infra-1", "agents/infra-1/journal", "cache", "log", "x.json"])
async def test_a_home_that_others_may_write_is_refused_by_name(tmp_path: Path, database_url: str, place: str) -> None:
    home = tmp_path / "home"
    folders.make_home(home)
    for folder in ("agents/infra-1/journal", "cache", "log"):
        folders.make(home / folder)
    folders.write(home / "x.json", b"{}")
    folders.check_home(home)
    opened = home / place
    opened.chmod(0o777)
    settings = Settings(home=home, database_url=database_url)
    with pytest.raises(BadConfiguration, match="can be written by everybody") as caught:
        async with open_application(settings):
            pytest.fail("it must not be opened")
    assert str(opened) in str(caught.value)
    assert "chmod -R go-w" in caught.value.hint
    found = next(check for check in await examine(settings) if check.name == "home")
    assert (found.state, str(opened) in found.found) == ("fail", True)


def test_a_directory_above_the_home_counts_and_a_sticky_one_is_taken(tmp_path: Path) -> None:
    home = tmp_path / "above" / "home"
    folders.make_home(home)
    home.parent.chmod(0o1777)
    folders.check_home(home)
    home.parent.chmod(0o777)
    with pytest.raises(BadConfiguration, match="above can be written by everybody"):
        folders.check_home(home)


async def test_an_agent_does_not_start_in_a_home_that_others_may_write(tmp_path: Path) -> None:
    folders.make(tmp_path / "agent")
    (tmp_path / "agent").chmod(0o757)
    runtime = AgentRuntime(
        Agent("greeter"), MemoryBroker(), agent_id=str(uuid4()), key=b"k" * 32, home=tmp_path / "agent"
    )
    with pytest.raises(BadConfiguration, match="can be written by everybody"):
        await runtime.start()
    assert list((tmp_path / "agent").iterdir()) == []


@pytest.mark.skipif(not ROOT, reason="gives files away")
class TestRoot:
    @pytest.mark.parametrize("place", [".", "agents", "master.key"])
    def test_what_belongs_to_somebody_else_is_refused(self, tmp_path: Path, place: str) -> None:
        home = tmp_path / "home"
        folders.make_home(home)
        folders.make(home / "agents")
        folders.write(home / "master.key", b"k" * 32)
        folders.check_home(home)
        os.chown(home / place, STRANGER, -1)
        with pytest.raises(BadConfiguration, match=f"belongs to user {STRANGER}"):
            folders.check_home(home)

    def test_a_group_that_is_not_roots_may_write_nothing(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        folders.make_home(home)
        folders.make(home / "agents", 0o770)
        folders.check_home(home)
        os.chown(home / "agents", -1, STRANGER)
        with pytest.raises(BadConfiguration, match=f"can be written by group {STRANGER}"):
            folders.check_home(home)

    @pytest.mark.parametrize("place", [".", "ansible.cfg", "roles/x/tasks", "playbooks", "playbooks/hello.yml", ".."])
    def test_content_of_somebody_else_is_not_run(self, tmp_path: Path, place: str) -> None:
        project = a_project(tmp_path / "above" / "project")
        assert unavailable(project) is None
        os.chown((project / place).resolve(), STRANGER, -1)
        assert f"belongs to user {STRANGER}" in (unavailable(project) or "")


def a_project(root: Path) -> Path:
    for folder in ("playbooks", "roles/x/tasks", "inventory", "scripts", "files/state"):
        (root / folder).mkdir(parents=True)
    (root / "playbooks/hello.yml").write_text(PLAY)
    (root / "roles/x/tasks/main.yml").write_text("[]\n")
    (root / "inventory/hosts").write_text("localhost\n")
    (root / "ansible.cfg").write_text("[defaults]\n")
    return root


def unavailable(project: Path) -> str | None:
    """Return why the playbook of a project is not offered."""
    discovery = Discovery([project / "playbooks"], [])
    discovery.rescan()
    (found,) = discovery.found
    return found.spec.unavailable


@pytest.mark.parametrize(
    "place",
    [
        "playbooks",
        "playbooks/hello.yml",
        ".",
        "roles",
        "roles/x/tasks",
        "roles/x/tasks/main.yml",
        "inventory/hosts",
        "..",
    ],
)
def test_a_playbook_that_others_could_have_changed_is_refused_by_name(tmp_path: Path, place: str) -> None:
    project = a_project(tmp_path / "above" / "project")
    assert unavailable(project) is None
    opened = (project / place).resolve()
    opened.chmod(opened.stat().st_mode | 0o002)
    assert f"{opened} can be written by everybody" in (unavailable(project) or "")


def test_a_sticky_directory_is_taken_above_a_project_and_not_in_it(tmp_path: Path) -> None:
    """In one above, entries are their owners'. In the project itself anybody could add one."""
    project = a_project(tmp_path / "above" / "project")
    project.parent.chmod(0o1777)
    assert unavailable(project) is None
    (project / "roles").chmod(0o1777)
    assert "roles can be written by everybody" in (unavailable(project) or "")


def test_what_a_playbook_may_write_is_no_content(tmp_path: Path) -> None:
    project = a_project(tmp_path / "above" / "project")
    header = PLAY.replace("say_hello\n", "say_hello\n#   state: [../files/state]\n")
    (project / "playbooks/hello.yml").write_text(header)
    (project / "files/state").chmod(0o777)
    assert unavailable(project) is None


def test_an_inventory_elsewhere_counts(tmp_path: Path) -> None:
    project, elsewhere = a_project(tmp_path / "project"), tmp_path / "elsewhere"
    shutil.move(project / "inventory", elsewhere)
    discovery = Discovery([project / "playbooks"], [], snapshots=Snapshots(inventory=elsewhere))
    discovery.rescan()
    assert discovery.found[0].spec.unavailable is None
    (elsewhere / "hosts").chmod(0o666)
    discovery.rescan()
    assert "hosts can be written by everybody" in (discovery.found[0].spec.unavailable or "")


@pytest.mark.parametrize("place", [".", "..", "say.sh"])
def test_a_script_counts_with_all_directories_above(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "above" / "scripts"
    folder.mkdir(parents=True)
    (folder / "say.sh").write_text(SCRIPT)
    (folder / "say.sh").chmod(0o755)
    discovery = Discovery([], [folder])
    discovery.rescan()
    assert discovery.found[0].spec.unavailable is None
    opened = (folder / place).resolve()
    opened.chmod(0o777)
    discovery.rescan()
    assert f"{opened} can be written by everybody" in (discovery.found[0].spec.unavailable or "")
