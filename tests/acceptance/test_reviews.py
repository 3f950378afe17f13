"""What a person does while the models are down, and when they are back: as programs, on real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chargehand.testing.llm import ScriptedServer, says
from tests.acceptance.command import Command, write_playbook
from tests.postgres import require_postgres, throwaway_home

GREET = "write the greeting"
WISHES = [f"make the {plot} plot behind the house presentable" for plot in ("left", "right")]
SUBTASK = {"order": 1, "name": "Greet", "intent": "write_greeting", "confidence": 0.9}


@pytest.fixture
def llm() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def cli(llm: ScriptedServer) -> Iterator[Command]:
    require_postgres()
    with throwaway_home("h") as home:
        playbooks = home.parent / "p"
        playbooks.mkdir()
        tasks = "    - name: Say it\n      ansible.builtin.debug: {msg: hello}\n"
        write_playbook(playbooks, "write_greeting", tasks, {}, GREET, "write a greeting", "put the greeting there")
        absent = home.parent / "absent"
        absent.mkdir()
        (absent / "sklearn.py").write_text("raise ImportError('as where the extra `words` is not installed')\n")
        settings = {
            "CHARGEHAND_LLM_LOCAL_URL": llm.url,
            "CHARGEHAND_LLM_LOCAL_MODEL": "small",
            "PYTHONPATH": os.pathsep.join([str(absent), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        yield Command(home, playbooks, **settings)


def test_what_no_model_could_plan_is_written_in_an_editor_or_read_again_by_one_command(
    cli: Command, llm: ScriptedServer, tmp_path: Path
) -> None:
    llm.script({}, otherwise=says({"subtasks": [{**SUBTASK, "intent": "greet_everybody"}]}))
    assert [cli("plan", wish).code for wish in WISHES] == [3, 3]
    waiting = cli("reviews", "--json").value["reviews"]
    assert [review["context"]["wording"] for review in waiting] == WISHES
    assert {tried["tier"] for tried in waiting[0]["context"]["tried"]} == {"local", "embedded"}

    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\ncp "$1" "$0.seen"\nsed -i s/greet_everybody/write_greeting/ "$1"\n')
    editor.chmod(0o755)
    written = cli("review", str(waiting[0]["review_id"]), "--edit", "--json", EDITOR=str(editor)).value
    assert (written["status"], written["plan"]["tasks"][0]["intent"]) == ("awaiting_approval", "write_greeting")
    assert written["plan"]["ruling"]["action"] == "ask"
    seen = Path(f"{editor}.seen").read_text()
    assert f"#   {WISHES[0]}" in seen
    assert "#   write_greeting()" in seen

    unsaved = cli("review", str(waiting[1]["review_id"]), "--edit", EDITOR="true")
    assert f"You write the subtasks of “{WISHES[1]}” in true." in unsaved.out
    assert "nothing runs before you agree to it" in unsaved.out
    editor.write_text('#!/bin/sh\ntouch "$0.opened"\n')
    planned = cli("review", written["request_id"], "--edit", EDITOR=str(editor))
    assert (planned.code, Path(f"{editor}.opened").exists()) == (2, False), "refused before anything is written"

    llm.script({}, otherwise=says({"subtasks": [SUBTASK]}))
    resumed = cli("reviews", "--resume", "--json")
    assert (resumed.code, list(resumed.value["requests"].values())) == (0, ["awaiting_approval"])
