"""An agent looks its secrets up where it is told to, right before the work, and tells nobody."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from chargehand.agent import Agent, Outcome, TaskFailed, Work, secret
from chargehand.agent.secrets.lookup import Chain, Command, Environment, Files, Secrets, sources
from chargehand.domain.errors import BadConfiguration, TaskInterrupted
from chargehand.testing import Harness, run

VALUE = "hunter2-and-more"


class Login(BaseModel):
    user: str = "ann"
    password: SecretStr = secret("db_admin")


def keep(folder: Path, name: str, value: str, *, mode: int = 0o600) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / name
    path.write_bytes(value.encode())
    path.chmod(mode)
    return path


# --- where they are looked for ---------------------------------------------------------------------------------------


async def test_the_first_place_that_has_it_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, "-c", "import sys; print('command ' + sys.argv[1]); print('second line')", "{name}"]
    monkeypatch.setenv("CHARGEHAND_SECRETS_COMMAND", json.dumps(words))
    found = sources(tmp_path)
    assert await found.find("db_admin") == "command db_admin"
    keep(tmp_path / "secrets", "db_admin", "of a file\n")
    assert await found.find("db_admin") == "of a file"
    monkeypatch.setenv("CHARGEHAND_SECRET_DB_ADMIN", "of the environment")
    assert await found.find("db_admin") == "of the environment"


@pytest.mark.parametrize(("text", "value"), [("a b\r\n", "a b"), ("two\nlines\n\n", "two\nlines\n"), (" \n", " ")])
async def test_only_the_last_line_break_of_a_file_goes(tmp_path: Path, text: str, value: str) -> None:
    keep(tmp_path / "secrets", "db_admin", text)
    assert await Files(tmp_path / "secrets").find("db_admin") == value


async def test_what_others_could_read_is_no_secret(tmp_path: Path) -> None:
    files, folder = Files(tmp_path / "secrets"), tmp_path / "secrets"
    assert await files.find("db_admin") is None
    path = keep(folder, "db_admin", VALUE, mode=0o640)
    with pytest.raises(BadConfiguration, match="db_admin is open to others") as caught:
        await files.find("db_admin")
    assert caught.value.hint == f"chmod 600 '{path}'"
    path.chmod(0o400)
    assert await files.find("db_admin") == VALUE
    folder.chmod(0o750)
    with pytest.raises(BadConfiguration, match="secrets is open to others") as caught:
        await files.find("db_admin")
    assert caught.value.hint == f"chmod 700 '{folder}'"
    folder.chmod(0o700)
    keep(folder, "db_admin2", "x" * 64_001)
    with pytest.raises(BadConfiguration, match="more than 64,000 bytes"):
        await files.find("db_admin2")
    (folder / "a_folder").mkdir()
    with pytest.raises(BadConfiguration, match="cannot be read: Is a directory"):
        await files.find("a_folder")


async def test_the_command_has_no_shell_no_settings_and_not_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEHAND_DATABASE_URL", "postgresql://ann:secret@db/x")
    assert await Command(["/bin/echo", "{name}; id"]).find("db_admin") == "db_admin; id"
    shown = await Command(["/bin/sh", "-c", "echo $CHARGEHAND_DATABASE_URL-$1", "sh", "{name}"]).find("db_admin")
    assert shown == "-db_admin"
    assert await Command(["/bin/sh", "-c", f"echo {VALUE}; exit 1", "{name}"]).find("db_admin") is None
    assert await Command(["/bin/true", "{name}"]).find("db_admin") is None
    mark = tmp_path / "pid"
    with pytest.raises(TaskInterrupted, match=r"did not end within 0\.3 s"):
        await Command(["/bin/sh", "-c", f"sleep 60 & echo $! > {mark}; wait", "{name}"], seconds=0.3).find("db_admin")
    with pytest.raises(ProcessLookupError):
        _look_at(int(mark.read_text()))
    with pytest.raises(BadConfiguration, match=r"/no/such/program for secrets cannot be run: No such file"):
        await Command(["/no/such/program", "{name}"]).find("db_admin")


def _look_at(pid: int) -> None:
    os.kill(pid, 0)
    if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
        raise ProcessLookupError  # dead; nobody has asked for its exit code yet


@pytest.mark.parametrize("text", ["", "[]", "[1]", '["pass", "show"]', "pass show", '["pass"', "pass 'show {name}"])
def test_a_command_that_cannot_be_one_is_named(text: str) -> None:
    with pytest.raises(BadConfiguration, match="CHARGEHAND_SECRETS_COMMAND"):
        Command.from_text(text)


def test_a_command_may_be_written_as_words() -> None:
    assert Command.from_text("pass show 'home lab/{name}'").places("db_admin") == (
        "the command pass show 'home lab/db_admin'",
    )


async def test_a_missing_secret_says_where_it_was_looked_for(tmp_path: Path) -> None:
    chain = Chain(Environment({}), Files(tmp_path / "secrets"), Command(["/bin/false", "{name}"]))
    with pytest.raises(TaskFailed) as caught:
        await Secrets(chain).value("db_admin")
    assert str(caught.value) == (
        "this agent does not have the secret db_admin; it looked for the variable CHARGEHAND_SECRET_DB_ADMIN, "
        f"the file {tmp_path}/secrets/db_admin, the command /bin/false db_admin"
    )
    for name in ("../identity.json", "DB", "a b", "x" * 64, ""):
        with pytest.raises(TaskFailed, match="cannot be the name"):
            await Secrets(chain).value(name)


@pytest.mark.parametrize(
    ("value", "problem"),
    [("abc", "fewer than 4"), ("  a  ", "fewer than 4"), ("abcd\0", "not text"), ("ab\udcffcd", "not text")],
)
async def test_a_value_that_could_not_be_hidden_is_not_used(value: str, problem: str) -> None:
    with pytest.raises(TaskFailed, match=problem) as caught:
        await Secrets(Environment({"CHARGEHAND_SECRET_DB_ADMIN": value})).value("db_admin")
    assert value not in str(caught.value)


# --- what the work gets and what leaves the agent --------------------------------------------------------------------


def talkative() -> Agent:
    """An agent whose work puts its secrets everywhere it can."""
    agent = Agent("talkative")

    @agent.work("log_in", risk="read", retry_safe=True)
    async def log_in(work: Work, p: Login) -> Outcome:
        value = p.password.get_secret_value()
        own = await work.secret("api_key")
        await work.progress(f"trying {value}", **{value: own})
        ran = await work.run(["/bin/sh", "-c", 'echo "$1"; echo "$1" | base64', "sh", value], on_line=work.progress)
        logging.getLogger("a.library").error("logged in with %s", value)
        if p.user == "nobody":
            raise TaskFailed(f"{value} is wrong", hint=f"Not {own}.")
        assert work.order.parameters.get("password") in ({"secret": "db_admin"}, {"secret": "other"}, None)
        seen = {"length": len(value), "tail": ran.tail, value: [own]}
        return Outcome(f"in with {value}", outputs=seen, data={"own": own}, resources_used={value: 1.0})

    return agent


SECRETS = {"db_admin": VALUE, "api_key": 'k"\\e/y', "other": "correct horse"}


async def test_work_gets_values_and_its_report_has_none() -> None:
    ran = await run(talkative(), "log_in", {}, secrets=SECRETS)
    assert ran.ok, ran.failure
    assert ran.summary == "in with [secret db_admin]"
    assert ran.outputs["length"] == len(VALUE)
    assert ran.outputs["tail"] == f"[secret db_admin]\n[secret db_admin]{_rest(VALUE)}\n"
    assert ran.messages[:2] == ("trying [secret db_admin]", "[secret db_admin]")
    everything = ran.result.model_dump_json() + repr(ran.progress)
    for value in (VALUE, SECRETS["api_key"], json.dumps(SECRETS["api_key"])[1:-1]):
        assert value not in everything

    named = await run(talkative(), "log_in", {"password": {"secret": "other"}}, secrets=SECRETS)
    assert named.outputs["length"] == len("correct horse")
    failed = await run(talkative(), "log_in", {"user": "nobody"}, secrets=SECRETS)
    assert failed.failure is not None
    assert failed.failure.message == "[secret db_admin] is wrong"
    assert failed.failure.details["hint"] == "Not [secret api_key]."


def _rest(value: str) -> str:
    """What Base64 has after the last character that is all of the value's: part of it and of the line break."""
    whole = base64.b64encode(value.encode() + b"\n").decode()
    return whole[len(value.encode()) * 8 // 6 :]


@pytest.mark.parametrize(
    ("parameters", "secrets", "words"),
    [
        ({}, {}, "this agent does not have the secret db_admin"),
        ({"password": {"secret": "nowhere"}}, SECRETS, "this agent does not have the secret nowhere"),
        ({"password": VALUE}, SECRETS, "password takes a reference to a secret, not a value"),
        ({"user": {"secret": "db_admin"}}, SECRETS, "user must be of type string"),
    ],
)
async def test_without_its_secret_the_work_does_not_begin(
    parameters: dict[str, object], secrets: dict[str, str], words: str
) -> None:
    ran = await run(talkative(), "log_in", parameters, secrets=secrets)  # type: ignore[arg-type]
    assert ran.failure is not None
    assert ran.failure.kind == "permanent"
    assert words in ran.failure.message
    assert ran.messages == ()
    assert VALUE not in ran.result.model_dump_json()


async def test_neither_journal_nor_messages_nor_log_have_a_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in SECRETS.items():
        keep(tmp_path / "secrets", name, f"{value}\n")
    async with Harness(talkative(), home=tmp_path, records=False) as orchestrator:
        order = await orchestrator.order("log_in", {"password": {"secret": "db_admin"}})
        result = await orchestrator.result(order)
        assert result.ok, result.failure
        journal = (tmp_path / "journal" / "journal.jsonl").read_text()
        assert '"parameters":{"password":{"secret":"db_admin"}}' in journal
        assert "in with [secret db_admin]" in journal
        said = "".join(report.model_dump_json() for report in orchestrator.reports)
    assert "logged in with [secret db_admin]" in caplog.text
    for value in (VALUE, SECRETS["api_key"], json.dumps(SECRETS["api_key"])[1:-1]):
        assert value not in journal + said + caplog.text
