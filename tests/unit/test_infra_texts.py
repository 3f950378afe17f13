"""Small texts of the infra agent: variables for Ansible, diffs without secrets, variables for scripts, the checks."""

import pytest
from jsonschema import Draft202012Validator

from chargehand.agents.infra.checks import CHECKS
from chargehand.agents.infra.configure import SPEC
from chargehand.agents.infra.diffs import clip, redact, unified
from chargehand.agents.infra.scripts import as_text
from chargehand.agents.infra.variables import variables_file
from chargehand.domain.errors import TaskFailed


def test_no_text_of_a_parameter_can_become_a_template() -> None:
    text = variables_file({"a": "{{ x }}", "b": {"c": ["{{ y }}", 1, True, None, 1e-7]}}, local=False)
    assert text == ('---\n"a": !unsafe "{{ x }}"\n"b": {"c": [!unsafe "{{ y }}", 1, true, null, !!float "1e-07"]}\n')


def test_odd_characters_cannot_leave_their_quotes() -> None:
    text = variables_file({"a": '"\nb: 1\\ \u2028😀'}, local=False)
    assert text.splitlines() == ["---", r'"a": !unsafe "\U00000022\U0000000Ab: 1\U0000005C \U00002028\U0001F600"']


def test_local_runs_name_the_interpreter_and_no_parameters_are_an_empty_mapping() -> None:
    assert "{{ ansible_playbook_python }}" in variables_file({}, local=True)
    assert variables_file({}, local=False) == "---\n{}\n"


@pytest.mark.parametrize(
    "line",
    [
        "password: hunter2",
        "  DB_PASSWORD=hunter2",
        '"api_key": "hunter2",',
        "secret = hunter2",
        "url: http://bob:hunter2@host/",
        "+auth_token: hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_do_not_reach_a_diff(line: str) -> None:
    assert "hunter2" not in redact(line)
    assert "hunter2" not in unified("", f"a: 1\n{line}\n", "f")


def test_a_diff_shows_what_changed_and_says_when_that_is_a_secret() -> None:
    assert unified("a: 1\nb: 2\n", "a: 1\nb: 3\n", "f").splitlines()[-2:] == ["-b: 2", "+b: 3"]
    assert "only values of secrets" in unified("password: a\n", "password: b\n", "f")
    assert unified("a\n", "a\n", "f") == ""
    assert redact("port: 80\ntitle: My page") == "port: 80\ntitle: My page"


def test_clipping_says_how_much_is_missing() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcdef", 3) == "abc... (3 more characters)"


def test_parameters_reach_scripts_as_text() -> None:
    assert [as_text("p", v) for v in ("$(id)", 3, True, None, [1, "a"])] == ["$(id)", "3", "true", "", '[1, "a"]']
    for bad in ("a\0b", "x" * 200_000):
        with pytest.raises(TaskFailed, match="parameter p"):
            as_text("p", bad)


@pytest.mark.parametrize("spec", [*CHECKS, SPEC], ids=lambda spec: str(spec.intent))
def test_what_we_offer_ourselves_is_complete(spec) -> None:  # type: ignore[no-untyped-def]
    Draft202012Validator.check_schema(spec.parameters)
    properties = spec.parameters["properties"]
    slots = {part.split("}")[0] for text in spec.examples for part in text.split("{")[1:]}
    assert slots <= set(properties)
    assert len(spec.examples) >= 6
    assert spec.retry_safe
