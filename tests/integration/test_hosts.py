"""The hosts are in the plan, and a host that was not there then is not touched. Real inventories, real Ansible.

All hosts are this machine under other names; each play writes the name of its host into a file.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from chargehand.agent import Outcome
from chargehand.agents.infra import InfraAgent, InfraOptions, asking, inventories
from chargehand.agents.infra.playbooks import ansible_missing
from chargehand.catalog.catalog import check_parameters
from chargehand.catalog.targets import targeted
from chargehand.domain.errors import BadParameters, ContentChanged
from chargehand.domain.hosts import Hosts, hosts_of
from chargehand.domain.intents import IntentSpec
from tests.integration.infra_work import Home, make_work

pytestmark = pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))

LOCAL = f"[all:vars]\nansible_connection=local\nansible_python_interpreter={sys.executable}\n"
TOUCH = "    - shell: \"echo {{ inventory_hostname }} >> '{{ mark }}'\"\n"


def play(hosts: str, *tasks: str, header: str = "") -> str:
    """A playbook `touch_it`, for these hosts, that writes the name of each."""
    parameters = f"#   parameters: {{mark: {{type: string}}{header}}}\n"
    body = f"- hosts: {hosts}\n  gather_facts: false\n  tasks:\n{TOUCH}{''.join(tasks)}"
    return f"# chargehand:\n#   intent: touch_it\n#   retry_safe: true\n{parameters}{body}"


class Fleet:
    """A project `home lab` with one playbook, and an agent that is made when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.root, self.mark = root, root / "mark"
        self.options: dict[str, Any] = {}
        self._infra: InfraAgent | None = None

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        return self.home.write(name, text, mode)

    @property
    def infra(self) -> InfraAgent:
        if self._infra is None:
            options = {"home": self.root / "agent", "playbook_dirs": (self.home.playbooks,), **self.options}
            self._infra = InfraAgent(InfraOptions(**options))
        return self._infra

    @property
    def spec(self) -> IntentSpec:
        self.infra.rescan()
        return self.infra.agent.find("touch_it").spec  # type: ignore[union-attr]

    @property
    def hosts(self) -> list[str]:
        spec = self.spec
        assert spec.unavailable is None, spec.unavailable
        assert spec.targets is not None
        return list(spec.targets.always.names)

    def plan(self, **parameters: Any) -> tuple[Hosts, ...]:
        """The hosts of a plan that is made now."""
        spec = self.spec
        return targeted(spec, check_parameters(spec, {"mark": str(self.mark), **parameters}))

    async def run(self, hosts: tuple[Hosts, ...], **parameters: Any) -> Outcome:
        offer = self.infra.agent.find("touch_it")
        assert offer is not None
        given = offer.check({"mark": str(self.mark), **parameters})
        order = {"parameters": given, "content_hash": offer.spec.bound_hash, "hosts": hosts}
        outcome = await offer.call(make_work(self.root / "work", **order))
        assert isinstance(outcome, Outcome)
        return outcome

    @property
    def touched(self) -> list[str]:
        return sorted(self.mark.read_text().split()) if self.mark.exists() else []


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(inventories, "EVERY", 0.0)
    monkeypatch.setattr(inventories, "SHARE", 0)
    return Fleet(tmp_path)


def cloud(fleet: Fleet, *answers: dict[str, Any]) -> Path:
    """A dynamic inventory: a program that gives what stands in a file, which others may change at any time."""
    vary(fleet, *answers)
    script = f"#!/bin/sh\necho asked >> '{fleet.root}/asked'\ncat '{fleet.root}/cloud.json'\n"
    path = fleet.write("../../cloud", script, 0o755)
    fleet.options["inventory"] = path
    return path


def vary(fleet: Fleet, *answers: dict[str, Any]) -> None:
    (fleet.root / "cloud.json").write_text(said(*answers))


def said(*answers: dict[str, Any]) -> str:
    all_vars = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    whole: dict[str, Any] = {"_meta": {"hostvars": {}}, "all": {"vars": all_vars}}
    for answer in answers:
        whole |= answer
    return json.dumps(whole)


async def test_only_the_hosts_of_the_plan_are_touched(fleet: Fleet) -> None:
    """A dynamic inventory changes after the approval, and again while the playbook runs."""
    cloud(fleet, {"web": {"hosts": ["web1", "web2"]}, "db": {"hosts": ["db1"]}})
    later = said({"web": {"hosts": ["web4", "web2"]}, "web2": {"hosts": ["web5"]}})
    fleet.write(
        "it.yml",
        play(
            "web",
            f"    - copy: {{content: '{later}', dest: '{fleet.root}/cloud.json'}}\n      run_once: true\n",
            "    - meta: refresh_inventory\n",
            "    - add_host: {name: made, groups: web, ansible_connection: local}\n",
        )
        + "- import_playbook: more.yml\n",
    )
    fleet.write("more.yml", play("[web, made]").partition("- hosts")[2].join(["- hosts", ""]))
    assert fleet.hosts == ["web1", "web2"]
    approved = fleet.plan()
    # web3 is new, web1 has gone, and a group has the name of a host: as a pattern of --limit it would add web3
    vary(fleet, {"web": {"hosts": ["web2", "web3"]}, "web2": {"hosts": ["web3"]}})
    ran = await fleet.run(approved)
    assert fleet.touched == ["web2", "web2"]
    assert "not touched, because the plan does not name them: made, web3, web4" in ran.summary
    assert "not there any more: web1" in ran.summary
    assert ran.data["hosts_gone"] == {"count": 1, "names": ["web1"]}
    assert fleet.spec.content_hash, "what a dynamic inventory says is not content"


async def test_what_a_program_says_is_asked_for_seldom(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud(fleet, {"web": {"hosts": ["web1"]}})
    fleet.write("it.yml", play("web"))
    assert fleet.hosts == ["web1"]
    monkeypatch.setattr(inventories, "EVERY", 60.0)
    vary(fleet, {"web": {"hosts": ["web2"]}})
    asked = (fleet.root / "asked").read_text()
    assert fleet.hosts == ["web2"]
    assert fleet.hosts == ["web2"]
    fleet._infra = None  # another process
    assert fleet.hosts == ["web2"]
    assert (fleet.root / "asked").read_text() == asked + "asked\n"


def test_a_program_that_gives_no_answer_makes_the_playbook_unavailable(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LIMIT", 3)
    monkeypatch.setattr(inventories, "EVERY", 60.0)
    pid = fleet.root / "pid"
    fleet.options["inventory"] = fleet.write(
        "../../cloud", f"#!/bin/sh\nsleep 300 &\necho $! > '{pid}'\nsleep 300\n", 0o755
    )
    fleet.write("it.yml", play("web"))
    fleet.write("other.yml", "- hosts: localhost\n  tasks: []\n")
    began = time.monotonic()
    assert "cloud: it gave no answer within 3 s" in str(fleet.spec.unavailable)
    assert time.monotonic() - began < 30
    assert fleet.infra.agent.find("run_other").spec.unavailable is None  # type: ignore[union-attr]
    while psutil.pid_exists(int(pid.read_text())):  # its children end with it
        assert time.monotonic() - began < 60
        time.sleep(0.1)


async def test_ten_thousand_hosts_fit_into_an_offer_and_an_order(fleet: Fleet) -> None:
    names = [f"host{number:05}.example.org" for number in range(10_000)]
    fleet.options["inventory"] = fleet.write("../../hosts", "\n".join(names) + "\n")
    fleet.write("it.yml", play("all"))
    spec = fleet.spec
    assert len(spec.model_dump_json()) < 3_000
    assert spec.targets is not None
    assert spec.targets.always == hosts_of(names)
    order = fleet.plan()
    assert len(order[0].model_dump_json()) < 300
    found = next(item for item in fleet.infra.discovery.found if item.spec.intent == "touch_it")
    assert fleet.infra.inventories._lists.names(order[0].digest) == names
    fleet._infra = None
    fleet.options["home"] = fleet.root / "another agent"
    began = time.process_time()
    assert fleet.spec.targets == spec.targets
    assert fleet.infra.agent.find("touch_it").spec.content_hash == found.spec.content_hash  # type: ignore[union-attr]
    assert time.process_time() - began < 5
    other = hosts_of([*names, "one.more"])
    with pytest.raises(ContentChanged, match="does not know all of its hosts"):
        await fleet.run((other,))
    with pytest.raises(ContentChanged, match="the plan names no hosts"):
        await fleet.run(())
    assert not fleet.mark.exists()


BY_VALUE = ", target: {type: string}, targets: {type: array, items: {type: string}, default: [db1]}"
STRANGE = [
    "web*",
    "all:!db",
    "~.*",
    "@/etc/hosts",
    "web1,web2",
    "!web1",
    "&web",
    "web[0]",
    "nobody",
    "",
    "web1 ",
    "WEB1",
]


async def test_a_value_is_a_host_or_a_group_and_never_more(fleet: Fleet) -> None:
    fleet.options["inventory"] = fleet.write("../../hosts", f"[web]\nweb1\nweb2\n[db]\ndb1\n{LOCAL}")
    fleet.write(
        "it.yml",
        play('"{{ target }}"', header=BY_VALUE) + play('"{{ targets }}"').partition("\n- ")[2].join(["- ", ""]),
    )
    spec = fleet.spec
    assert spec.unavailable is None
    assert fleet.plan(target="web1") == (hosts_of(["web1", "db1"]),)
    for given in STRANGE:
        with pytest.raises(BadParameters, match="neither a host nor a group") as caught:
            fleet.plan(target=given)
        assert "Write the name of a host: db1, web1, web2; a group: all, web, db." in caught.value.hint
    with pytest.raises(BadParameters, match="must be given"):
        targeted(spec, {})
    parameters: dict[str, Any] = {"target": "web", "targets": ["web1", "db1"]}
    assert fleet.plan(**parameters) == (hosts_of(["web1", "web2", "db1"]),)
    await fleet.run(fleet.plan(**parameters), **parameters)
    assert fleet.touched == ["db1", "web1", "web1", "web2"]


LIST, TWO = {"hosts": "web1\n"}, {"hosts": "web1\nweb2\n"}
DIRECTORY = {"../inventory/one.ini": "web1\n", "../inventory/two.yml": "all: {hosts: {web2: }}\n"}
SETTINGS = {
    "ansible.cfg": "[defaults]\ninventory = there/prod, there/more\n",
    "there/prod": "web1\n",
    "there/more": "web2\n",
    "hosts": "[bad\n",
}
PLUGIN = {"hosts.yml": "plugin: evil\n", "inventory_plugins/evil.py": "open('RAN', 'w')\n"}
NAMED_LIKE_A_GOOD_ONE = {
    "ansible.cfg": "[defaults]\ninventory_plugins = inventory_plugins\n",
    "inventory_plugins/ini.py": "open('RAN', 'w')\n",
    **LIST,
}
UNKNOWN = "cannot be known when a plan is made"

OWN: dict[str, tuple[dict[str, str], str, str | list[str]]] = {
    "none": ({}, "all", "there is no inventory: write `hosts: localhost` for this machine"),
    "a list": (TWO, "all", ["web1", "web2"]),
    "above the playbook": (DIRECTORY, "all", ["web1", "web2"]),
    "this machine only": ({}, "localhost", ["localhost"]),
    "this machine by its address": ({}, "127.0.0.1", ["localhost"]),
    "this machine among others": (LIST, "'all,localhost'", ["localhost", "web1"]),
    "not this machine": (LIST, "all", ["web1"]),
    "settings": (SETTINGS, "all", ["web1", "web2"]),
    "settings elsewhere": ({"ansible.cfg": "[defaults]\ninventory = /etc/hosts\n"}, "all", "not a file in the project"),
    "two": ({**LIST, "inventory.yml": ""}, "all", "holds inventory.yml and hosts: say which"),
    "nobody": (LIST, "db", "no host of the inventory is one that it is for (db)"),
    "a lookup": (LIST, "\"{{ lookup('pipe', 'touch RAN') }}\"", UNKNOWN),
    "a variable": (LIST, "'{{ other }}'", UNKNOWN),
    "a default": (TWO, "\"{{ other | default('web2') }}\"", ["web2"]),
    "twice": (TWO, "all\n  hosts: web1", ["web1"]),
    "a pattern for nobody": (LIST, "web1[7]", "No hosts matched the subscripted pattern"),
    "a pattern that is none": (LIST, "'~['", ["web1"]),  # so Ansible reads it
    "broken": ({"hosts": "[web\nweb1\n"}, "all", "the inventory "),
    "a bomb": ({"hosts": "web[1:900000000]\n"}, "all", "the inventory "),
    "a program": ({"hosts": "#!/bin/sh\ntouch RAN\necho '{}'\n"}, "all", "so name it: CHARGEHAND_INVENTORY="),
    "a plugin": (PLUGIN, "all", "so name it: CHARGEHAND_INVENTORY="),
    "a plugin of the name of a good one": (NAMED_LIKE_A_GOOD_ONE, "all", ["web1"]),
    "a name that is none": ({"hosts.yml": 'all: {hosts: {"web 1": {}}}\n'}, "all", "a name that is none"),
    "an import outside": (LIST, "web1\n- import_playbook: ../../far.yml", "far.yml"),
    "imports in a circle": (LIST, "web1\n- import_playbook: it.yml", ["web1"]),
}


@pytest.mark.parametrize("name", OWN)
def test_the_inventory_of_the_project_counts_and_runs_nothing(
    fleet: Fleet, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, hosts, expected = OWN[name]
    monkeypatch.chdir(fleet.root)
    monkeypatch.setattr(asking, "LIMIT", 8)
    monkeypatch.setattr(inventories, "EVERY", 60.0)
    fleet.write("../../far.yml", "- hosts: all\n")
    for file, text in files.items():
        fleet.write(file, text, 0o755 if text.startswith("#!") else 0o644)
    fleet.write("it.yml", f"# chargehand:\n#   intent: touch_it\n- hosts: {hosts}\n")
    if isinstance(expected, str):
        assert expected in str(fleet.spec.unavailable)
    else:
        assert fleet.hosts == expected
    assert not list(fleet.root.rglob("RAN"))


def test_another_edit_of_an_inventory_is_another_answer(fleet: Fleet) -> None:
    path = fleet.write("hosts", "web1\n")
    fleet.write("it.yml", play("all"))
    assert fleet.hosts == ["web1"]
    before = fleet.spec.content_hash
    path.write_text("web2\n")
    assert fleet.hosts == ["web2"]
    assert fleet.spec.content_hash != before
    path.write_text("web1\n")
    assert fleet.hosts == ["web1"]
    assert fleet.spec.content_hash == before


def test_a_program_that_others_may_write_is_not_asked(fleet: Fleet) -> None:
    cloud(fleet, {"web": {"hosts": ["web1"]}}).chmod(0o757)
    fleet.write("it.yml", play("web"))
    assert "can be written by everybody" in str(fleet.spec.unavailable)
    assert not (fleet.root / "asked").exists()
