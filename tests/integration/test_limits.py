"""Words that name a place limit the run: from the sentence over the plan to the machines, with real Ansible."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from chargehand.agent import Outcome
from chargehand.agents.infra import InfraAgent, InfraOptions
from chargehand.agents.infra.playbooks import ansible_missing
from chargehand.catalog.catalog import Catalog
from chargehand.domain.llm import Reply
from chargehand.planning.planner import PlanFacts, make_plan
from chargehand.understanding.nlu import Thresholds, read_reply
from chargehand.understanding.questions import build_ask
from tests.builders import NOW, make_agent, make_id
from tests.integration.infra_work import make_work

pytestmark = pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))
CASE = Path(__file__).parents[1] / "cases" / "ansible" / "limit"


@pytest.fixture
def agent(tmp_path: Path) -> InfraAgent:
    """An agent over the case `limit`: three hosts, all of them this machine."""
    folder = tmp_path / "limit"
    shutil.copytree(CASE, folder)
    inventory = folder / "hosts.ini"
    inventory.write_text(inventory.read_text().replace("/usr/bin/python3", sys.executable))
    (tmp_path / "marks").mkdir()
    update = folder / "update.yml"
    home = "{{ lookup('env', 'HOME') }}/chargehand-cases"
    update.write_text(update.read_text().replace(home, str(tmp_path / "marks")))
    for path in (folder, *folder.rglob("*")):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    infra = InfraAgent(InfraOptions(home=tmp_path / "agent", playbook_dirs=(folder,)))
    infra.rescan()
    return infra


def plan(agent: InfraAgent, text: str, source: str) -> Any:
    """What a model's answer to this text becomes: a question, or the task of a plan."""
    specs = tuple(offer.spec for offer in agent.agent.offers)
    spec = next(each for each in specs if each.source.endswith(source))
    assert spec.unavailable is None, spec.unavailable
    subtask = {"order": 1, "name": text, "intent": spec.intent, "confidence": 0.97, "words": text}
    ask = build_ask(make_id("request"), text, Catalog(specs))
    got = read_reply(Reply(tier="local", model="m", value={"subtasks": [subtask]}), ask, Thresholds())
    if got.ambiguities:
        return got.ambiguities
    pool = {spec.intent: [make_agent(intent=spec.intent, content_hash=spec.content_hash)]}
    return make_plan(got, Catalog(specs), pool, PlanFacts(make_id("plan"), [make_id("task")], NOW)).tasks[0]


@pytest.mark.parametrize(
    ("text", "source", "names"),
    [
        ("Run the update playbook on web1", "update.yml", ["web1"]),
        ("update the web servers", "update.yml", ["web1", "web2"]),
        ("update all servers except db1", "update.yml", ["web1", "web2"]),
        ("update all servers", "update.yml", ["db1", "web1", "web2"]),
        ("renew the certificates on web2", "web.yml", ["web2"]),
    ],
)
def test_the_plan_is_for_the_hosts_that_the_words_name(
    agent: InfraAgent, text: str, source: str, names: list[str]
) -> None:
    task = plan(agent, text, source)
    assert [name for part in task.hosts for name in part.names] == names


@pytest.mark.parametrize(
    ("text", "source"), [("renew the certificates on db1", "web.yml"), ("update web9", "update.yml")]
)
def test_a_place_that_a_playbook_is_not_for_is_a_question(agent: InfraAgent, text: str, source: str) -> None:
    assert "none of the hosts that it is for" in plan(agent, text, source)[0]


async def test_only_the_machines_that_the_words_name_are_touched(agent: InfraAgent, tmp_path: Path) -> None:
    task = plan(agent, "Run the update playbook on web1", "update.yml")
    offer = agent.agent.find(task.intent)
    assert offer is not None
    order = {"parameters": {}, "content_hash": offer.spec.bound_hash, "hosts": task.hosts}
    outcome = await offer.call(make_work(tmp_path / "work", **order))
    assert isinstance(outcome, Outcome)
    assert [path.name for path in (tmp_path / "marks").iterdir()] == ["a-marks-web1"]
