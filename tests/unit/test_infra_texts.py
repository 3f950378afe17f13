"""Small texts of the infra agent: variables for Ansible, diffs without secrets, variables for scripts, the checks."""

import pytest
from jsonschema import Draft202012Validator
from pydantic import JsonValue

from chargehand.agents.infra.checks import CHECKS
from chargehand.agents.infra.configure import SPEC
from chargehand.agents.infra.diffs import clip, redact, unified
from chargehand.agents.infra.scripts import as_text
from chargehand.agents.infra.variables import variables_file
from chargehand.domain.errors import BadParameters, TaskFailed


def test_no_text_of_a_parameter_can_become_a_template() -> None:
    text = variables_file({"a": "{{ x }}", "b": {"{{ k }}": ["{{ y }}", 1, True, None, 1e-7, "8080"]}})
    assert text.splitlines() == [
        "--- !unsafe",
        '{? "a" : "{{ x }}",',
        '? "b" : {? "{{ k }}" : ["{{ y }}", 1, true, null, !!float "1e-07", "8080"]}}',
    ]


def test_odd_characters_cannot_leave_their_quotes() -> None:
    text = variables_file({"a": '"\nb: 1\\ \u2028😀'})
    assert text.splitlines() == ["--- !unsafe", r'{? "a" : "\U00000022\U0000000Ab: 1\U0000005C \U00002028\U0001F600"}']


@pytest.mark.parametrize(
    "parameters", [{"a b": 1}, {"{{ x }}": 1}, {"a": "x\0"}, {"a": [{"\ud800": 1}]}, {"a": {"b": {"c": ["\udfff"]}}}]
)
def test_what_could_not_arrive_as_it_is_is_refused(parameters: dict[str, JsonValue]) -> None:
    with pytest.raises(BadParameters):
        variables_file(parameters)


def test_no_parameters_are_an_empty_mapping() -> None:
    assert variables_file({}) == "--- !unsafe\n{}\n"


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
