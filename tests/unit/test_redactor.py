"""Values are hidden however they are spelt; what is not a secret stays."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import shlex
import subprocess
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from chargehand.agent.secrets.redactor import MAY_BE_CUT, LogFilter, Redactor
from chargehand.agents.infra.variables import variables_file
from chargehand.cli.terminal.logfile import Masked
from chargehand.domain.masking import without_passwords

VALUES = ("hunter2", 'pa\'ss "w\\rd"/ü&<b>', "correct horse battery staple +/=?", "日本語のパスワード", "a" * 5 + "ab")
KEY = (
    "-----BEGIN PRIVATE KEY-----\n" + "\n".join(f"MIIEvQIBADANBgkqhkiG9w{n}0BAQEFAASC" for n in range(5)) + "\n-----END"
)

SPELT: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "base32": lambda v: base64.b32encode(v.encode()).decode().rstrip("=")[: len(v.encode()) * 8 // 5],
    "base32 inside": lambda v: base64.b32encode(b"ab" + v.encode() + b"xyz").decode(),
    "hexadecimal with colons": lambda v: v.encode().hex(":"),
    "hexadecimal in C": lambda v: ", ".join(f"0x{byte:02X}" for byte in v.encode()),
    "hexadecimal escapes": lambda v: "".join(f"\\x{byte:02x}" for byte in v.encode()),
    "hexadecimal dump": lambda v: v.encode().hex(" ", 2),
    "two lines": lambda v: f"{v[: len(v) // 2]}\n    {v[len(v) // 2 :]}",
    "two lines in json": lambda v: json.dumps(f"{v[:2]}\n{v[2:]}", ensure_ascii=False) if v.isalnum() else v,
    "json": json.dumps,
    "json, not escaped": lambda v: json.dumps(v, ensure_ascii=False),
    "json in json": lambda v: json.dumps(json.dumps({"a": v})),
    "python": repr,
    "yaml": lambda v: "'" + v.replace("'", "''") + "'",
    "given to Ansible": lambda v: variables_file({"x": v}),
    "shell": shlex.quote,
    "url": lambda v: "https://u:" + quote(v, safe="") + "@h/",
    "path": quote,
    "form": lambda v: "p=" + quote_plus(v),
    "html": html.escape,
    "hex": lambda v: v.encode().hex(),
    "HEX": lambda v: v.encode().hex().upper(),
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 of a line": lambda v: base64.b64encode(v.encode() + b"\n").decode(),
    "base64 of a login": lambda v: base64.b64encode(b"ann:" + v.encode() + b"@h").decode(),
    "base64 of another login": lambda v: base64.b64encode(b"bob.x:" + v.encode()).decode(),
    "base64 for URLs": lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
}


def knowing(*values: str) -> Redactor:
    made = Redactor()
    for number, value in enumerate(values):
        made.learn(f"s{number}", value)
    return made


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("spelt", SPELT)
def test_every_spelling_is_hidden(value: str, spelt: str) -> None:
    text = SPELT[spelt](value)
    hidden = knowing(value).text(f"before {text} after")
    assert value not in hidden
    assert "[secret s0]" in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    if spelt.startswith(("base64", "hex", "HEX", "plain")):  # nothing of it but what was put around
        assert len(hidden) < len("before  after") + len("[secret s0]") + 14


def test_what_shells_and_tools_make_of_it_is_hidden() -> None:
    value = "it's a $ecret"
    script = 'printf "%q\n" "$1"; printf %s "$1" | base64; printf %s "$1" | od -An -tx1 | tr -d " \n"'
    said = subprocess.run(["bash", "-c", script, "sh", value], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"\[secret s0\]\n\[secret s0\]\w?=*\n\[secret s0\]", knowing(value).text(said))


def test_a_long_secret_is_hidden_line_by_line() -> None:
    hidden = knowing(KEY)
    assert "MIIEv" not in hidden.text(" | ".join(line.strip() for line in KEY.splitlines()))
    wrapped = base64.encodebytes(KEY.encode()).decode()
    assert [line for line in hidden.text(wrapped).splitlines() if len(line) > 20] == []
    assert hidden.text("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_what_was_cut_off_is_hidden_too() -> None:
    hidden = knowing("hunter2-and-more")
    filler = "x" * MAY_BE_CUT
    assert hidden.text(f"{filler}hunter2-an") == f"{filler}[secret s0]"
    assert hidden.text(f"\ufffdand-more{filler}") == f"[secret s0]{filler}"
    assert hidden.text(f"{filler}hun") == f"{filler}hun", "three characters may be anything"
    assert hidden.text("we meet the hunter") == "we meet the hunter", "a short text was not cut"


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_value_that_is_split_over_two_lines_is_never_shown_by_half(cut: int) -> None:
    value = "s3cr3t-Passw0rd"
    hidden = knowing(value)
    first, second = hidden.line(f"the password is {value[:cut]}"), hidden.line(f"  {value[cut:]} and more ")
    shown = max(first.endswith(value[:cut]) and cut, value[cut:] in second and len(value) - cut)
    assert shown < (len(value) + 1) / 2
    assert first.startswith("the password is ")
    assert second.endswith(" and more ")


def test_a_line_that_only_looks_like_a_part_is_left_as_it_is() -> None:
    hidden = knowing("homelab-2026-x")
    assert hidden.line("all of my homelab is up") == "all of my homelab is up"
    assert hidden.line("I live in my home") == "I live in my home"


def test_secrets_that_overlap_leave_nothing_of_either() -> None:
    assert knowing("abcdef", "defghi").text("xabcdefghix") == "x[secret s0]x"
    assert knowing("abcd", "abcdefgh").text("abcdefgh abcd") == "[secret s1] [secret s0]"


def test_json_is_hidden_in_keys_texts_and_numbers() -> None:
    hidden = knowing("hunter2", "471147").value({"hunter2": [471147, 4711470, True, None, 1.5, {"a": "to hunter2"}]})
    assert hidden == {"[secret s0]": ["[secret s1]", 4711470, True, None, 1.5, {"a": "to [secret s0]"}]}


def test_logs_are_hidden_with_their_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    log, only = logging.getLogger("some.library"), LogFilter(knowing("hunter2"))
    caplog.handler.addFilter(only)
    try:
        log.warning("login %s failed for %d", "hunter2", 7)
        log.warning("does not fit: %d", "hunter2")
        log.warning("fine: %s", "yes")
        try:
            raise ValueError("bad password hunter2")
        except ValueError:
            log.exception("it failed")
    finally:
        caplog.handler.removeFilter(only)
    assert "hunter2" not in caplog.text
    assert "login [secret s0] failed for 7" in caplog.text
    assert "fine: yes" in caplog.text
    assert "ValueError: bad password [secret s0]" in caplog.text


def test_the_log_of_the_command_line_has_no_passwords_of_connections() -> None:
    try:
        raise ValueError("no such host: amqp://ann:hunter2@broker/")
    except ValueError as error:
        about = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "at %s", ("postgresql://ann:hunter2@db/x",), about)
    text = Masked("%(message)s").format(record)
    assert text.startswith("at postgresql://ann:***@db/x\n")
    assert text.endswith("ValueError: no such host: amqp://ann:***@broker/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ann:hunter2@db:5432/x", "postgresql://ann:***@db:5432/x"),
        ("amqps://u:p%40ss@h/", "amqps://u:***@h/"),
        ("amqp://u:p@ss/word@h:5672/v", "amqp://u:***@h:5672/v"),
        ("amqp://u:12345@h", "amqp://u:***@h"),
        ("postgresql+asyncpg://:x@h", "postgresql+asyncpg://:***@h"),
        ('database "ann:hunter2@db/x" does not exist', 'database "ann:***@db/x" does not exist'),
        ("postgresql://ann@h/x?password=zz&sslmode=on", "postgresql://ann@h/x?password=***&sslmode=on"),
        ("host=a password='a b' dbname=c", "host=a password=*** dbname=c"),
        ("joined with che1.eyJhZ2VudF9pZCI6", "joined with che1.***"),
        ("https://x.y:8443/a@b", "https://x.y:8443/a@b"),
        ("see https://x.y:8443 or mail a@b.c", "see https://x.y:8443 or mail a@b.c"),
        ("nothing: here@all", "nothing: here@all"),
    ],
)
def test_passwords_of_connections_are_hidden_by_their_form(text: str, expected: str) -> None:
    assert without_passwords(text) == expected
