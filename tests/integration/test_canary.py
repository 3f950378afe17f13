"""A canary secret is used by all kinds of work, which print it, fail with it and give it on. It is found nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

import asyncpg
import pytest
from pydantic import JsonValue

from chargehand.agents.infra.playbooks import ansible_missing
from chargehand.app import application
from chargehand.app.application import Application, open_application
from chargehand.app.worker import worker_beside
from chargehand.broker import memory
from chargehand.broker.memory import MemoryBroker
from chargehand.domain.risks import Risk
from chargehand.settings import Settings
from tests.acceptance.command import PATIENCE, Command
from tests.world import WrittenModel, decomposition

pytestmark = pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))

CANARY = 'Kanarienvogel-7f3a/+"gelb"\'$x'
MASK = "[secret canary]"
REFERENCE: JsonValue = {"secret": "canary"}

PLAYBOOK = """\
# chargehand:
#   intent: leak_play
#   description: Leak it with a playbook
#   examples: [leak it with a playbook, let the playbook leak it, "leak it with {password} in a playbook"]
#   retry_safe: true
#   parameters:
#     password: {secret: true, default_secret: canary}
#     folder: {type: string}
#     fail: {type: boolean, default: false}
- name: Leak it
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Look at every command line
      ansible.builtin.shell: "cat /proc/[0-9]*/cmdline > '{{ folder | default('.') }}/argv' 2>/dev/null || true"
    - name: Print {{ password }}
      ansible.builtin.debug: {msg: "it is {{ password }}"}
    - name: Let a program print it
      ansible.builtin.command: {argv: [sh, -c, 'echo "$P"; echo "$P" | base64 >&2; exit 3']}
      environment: {P: "{{ password }}"}
      ignore_errors: true
    - name: Write it
      ansible.builtin.copy:
        content: "{{ (password + ' ' + (password | b64encode) + ' ' + (password | urlencode) + '\\n') * 300 }}"
        dest: "{{ folder | default('.') }}/written"
        mode: "0600"
    - name: Give it on
      ansible.builtin.set_stats:
        data:
          summary: "done with {{ password }}"
          plain: "{{ password }}"
          nested: {list: ["{{ password }}", "{{ password | b64encode }}"]}
          login: "{{ ('ann:' + password) | b64encode }}"
          quoted: "{{ password | quote }}"
          json: "{{ password | to_json }}"
          url: "https://ann:{{ password | urlencode }}@example.invalid/"
    - name: Fail with it
      ansible.builtin.fail: {msg: "no luck with {{ password }} {{ 'x' * 430 }} {{ password }}"}
      when: fail | default(false)
"""

SCRIPT = """\
#!/bin/sh
# chargehand:
#   intent: backup_mail
#   description: Back up the mail
#   examples: [back up the mail, make a backup of the mail, save our mail, "back up the mail with password {password}"]
#   retry_safe: true
#   parameters:
#     password: {secret: true, required: true}
#     fail: {type: boolean, default: false}
echo "progress: working with $CHARGEHAND_PASSWORD"
cat "$CHARGEHAND_PARAMETERS_FILE"
printf %s "$CHARGEHAND_PASSWORD" | base64
cp "$CHARGEHAND_PARAMETERS_FILE" "$CHARGEHAND_OUTPUT_FILE"
[ "$CHARGEHAND_FAIL" = true ] || exit 0
for n in 1 2 3 4 5 6 7 8 9; do for m in 1 2 3 4 5 6 7 8 9; do printf '%s, %s, ' "$CHARGEHAND_PASSWORD" $n; done; done
echo "no luck with $CHARGEHAND_PASSWORD"
exit 3
"""


class Recording(MemoryBroker):
    """Keeps every message that was ever published."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[bytes] = []

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> list[BaseException | None]:
        self.published += [body for _, body in messages]
        return await super().publish(messages)


def traces(value: str) -> set[str]:
    """Return what would show that somebody had the value: spellings made here, and every piece of eight characters."""
    plain = {value, json.dumps(value)[1:-1], json.dumps(json.dumps(value))[3:-3], repr(value)[1:-1], shlex.quote(value)}
    coded = {quote(value, safe=""), quote_plus(value), value.encode().hex()}
    for before in ("", "a", "ab"):  # without its ends, which depend on what stands around it
        coded.add(base64.b64encode((before + value + "abc").encode()).decode()[4:-8])
    pieces = {value[at : at + 8] for at in range(len(value) - 7)}
    return {*plain, *coded, *pieces}


def test_the_traces_are_what_tools_print() -> None:
    said = subprocess.run(
        ["sh", "-c", 'printf %s "ann:$0" | base64 -w0', CANARY], capture_output=True, text=True, check=True
    )
    assert any(trace in said.stdout for trace in traces(CANARY))


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    playbooks, scripts, configs = tmp_path / "books" / "playbooks", tmp_path / "scripts", tmp_path / "configs"
    for folder in (playbooks, scripts, configs):
        folder.mkdir(parents=True)
    (playbooks / "leak.yml").write_text(PLAYBOOK)
    (scripts / "leak.sh").write_text(SCRIPT)
    (scripts / "leak.sh").chmod(0o755)
    (configs / "app.yml").write_text("# kept\nsmtp:\n  host: mail\n  login: old\n")
    (configs / "app.ini").write_text("[smtp]\nlogin = old\n")
    secrets = tmp_path / "home" / "agents" / "infra-1" / "secrets"
    secrets.mkdir(mode=0o700, parents=True)
    (secrets / "canary").touch(0o600)
    (secrets / "canary").write_text(f"{CANARY}\n")
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        playbooks=(playbooks,),
        scripts=(scripts,),
        config_roots=(configs,),
        auto_approve=frozenset({Risk.READ, Risk.CHANGE}),
        heartbeat_seconds=0.5,
        sweep_seconds=0.2,
    )


@asynccontextmanager
async def desk(settings: Settings, model: WrittenModel, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """The real thing on one machine; its model answers what the test wrote, its broker forgets nothing."""
    monkeypatch.setattr(memory, "open_broker", lambda *_: Recording())
    monkeypatch.setattr(application, "tiers", lambda _: {"embedded": model})
    async with open_application(settings) as app, worker_beside(app) as worker:
        await asyncio.wait_for(worker.holding.wait(), 30)
        yield app


@contextmanager
def log_in(folder: Path) -> Iterator[None]:
    """Write everything that is logged to a file, as the command line does."""
    folder.mkdir(parents=True)
    handler, root = logging.FileHandler(folder / "test.log"), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield
    root.removeHandler(handler)
    root.setLevel(before)
    handler.close()


def asked(model: WrittenModel, words: str, intent: str, **parameters: JsonValue) -> str:
    """Have these words understood as this intent with these parameters; return the words, which say the values."""
    words = " ".join([words, *(text for text in said(parameters) if CANARY not in text)])
    answer: dict[str, Any] = dict(decomposition(intent))
    answer["subtasks"][0]["parameters"] = parameters
    model.answers[words] = answer
    return words


def said(value: JsonValue) -> Iterator[str]:
    """Yield the texts in a value as a person would say them."""
    if isinstance(value, dict) and set(value) == {"secret"}:
        yield f"secret:{value['secret']}"
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from said(inner)
    elif isinstance(value, str):
        yield value


async def ended(app: Application, request_id: UUID) -> str:
    async with asyncio.timeout(90):
        while (row := await app.queries.request(request_id))["status"] in ("accepted", "decomposing", "running"):
            await app.changed(1)
    return str(row["status"])


async def everything_in(database_url: str) -> dict[str, str]:
    """Return every row of every table as text, the bytes in it as the text they are."""
    connection = await asyncpg.connect(database_url)
    try:
        names = await connection.fetch(
            "SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        return {row["name"]: "\n".join(map(_as_text, await _rows(connection, row["name"]))) for row in names}
    finally:
        await connection.close()


async def _rows(connection: Any, table: str) -> list[Any]:
    rows = await connection.fetch(f"SELECT t.*, row_to_json(t)::text AS as_json FROM {table} AS t")
    return list(rows)


def _as_text(row: Any) -> str:
    return " ".join(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row.values())


def files_below(folder: Path) -> dict[str, str]:
    """Return the text of every file but the secrets themselves."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    return {str(path): path.read_bytes().decode("latin-1") for path in paths}


def found(texts: dict[str, str]) -> dict[str, list[str]]:
    """Return in which texts the canary left a trace, and which."""
    sought = sorted(traces(CANARY))
    return {name: hits for name, text in texts.items() if (hits := [trace for trace in sought if trace in text])}


def commands(settings: Settings, *arguments: tuple[str, ...]) -> dict[str, str]:
    """Run command lines beside each other and return what each of them said."""
    command = Command(
        settings.home,
        settings.playbooks[0],
        CHARGEHAND_SCRIPTS=str(settings.scripts[0]),
        CHARGEHAND_DATABASE_URL=str(settings.database_url),
        CHARGEHAND_AUTO_APPROVE="read,change",
    )
    started = {" ".join(line): command.start(*line) for line in arguments}
    return {line: "".join(process.communicate(timeout=PATIENCE)) for line, process in started.items()}


GOOD: dict[str, tuple[str, dict[str, JsonValue]]] = {
    "play": ("leak_play", {}),
    "rehearsal": ("leak_play", {}),
    "script": ("backup_mail", {"password": REFERENCE}),
    "yaml": ("add_configuration", {"file": "app.yml", "values": {"smtp": {"login": REFERENCE, "more": [REFERENCE]}}}),
    "ini": ("add_configuration", {"file": "app.ini", "values": {"smtp": {"login": REFERENCE}}}),
}
BAD: dict[str, tuple[str, dict[str, JsonValue]]] = {
    "failure": ("leak_play", {"fail": True}),
    "exit": ("backup_mail", {"password": REFERENCE, "fail": True}),
    "nowhere": ("backup_mail", {"password": {"secret": "nowhere"}}),
}


async def test_the_canary_is_found_nowhere(
    settings: Settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHARGEHAND_SECRET_CANARY", raising=False)
    model, ids = WrittenModel(), {}
    with log_in(settings.home / "log"):
        async with desk(settings, model, monkeypatch) as app:
            for name, (intent, parameters) in {**GOOD, **BAD}.items():
                folder = {"folder": str(tmp_path)} if intent == "leak_play" else {}
                words = asked(model, name, intent, **parameters, **folder)
                ids[name] = await app.engine.submit(words, requester="ann", dry_run=name == "rehearsal")
            words = asked(model, "a model that gives it away", "backup_mail", password=CANARY)
            refused = await app.engine.submit(words, requester="ann")
            assert {name: await ended(app, ids[name]) for name in GOOD} == dict.fromkeys(GOOD, "completed")
            assert {name: await ended(app, ids[name]) for name in BAD} == dict.fromkeys(BAD, "failed")
            assert await ended(app, refused) == "in_review"
            broker = app.broker
            assert isinstance(broker, Recording)
            published = b"\n".join(broker.published).decode("latin-1")
    shown = commands(
        settings,
        ("run", "back up the mail with password secret:canary"),
        ("status",),
        ("why", str(ids["play"])),
        ("logs", str(ids["failure"])),
    )

    assert CANARY in (tmp_path / "written").read_text(), "the work had it"
    assert CANARY in (tmp_path / "configs" / "app.ini").read_text()
    rows, files = await everything_in(database_url), files_below(settings.home)
    argv = (tmp_path / "argv").read_bytes().decode("latin-1")
    assert found({**rows, **files, **shown, "messages": published, "command lines": argv}) == {}

    # It would have been found: everything that was searched did hold what stands in its place.
    assert "ansible-playbook" in argv
    assert published.count(MASK) > 20
    assert {name for name, text in rows.items() if MASK in text} >= {"public.attempts", "public.events"}
    assert {name: text for name, text in shown.items() if MASK not in text and name != "status"} == {}
    assert [name for name in files if name.endswith("journal.jsonl")]
    assert [name for name, text in files.items() if name.endswith("test.log") and "attempt" in text]
    assert not [name for name in files if "/work/" in name], "the directories of attempts are gone"
