"""The format of automation.yml: what it says, what is wrong with it, and what becomes of a value."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue

from chargehand.agents.desktop.actions import ENDING, Action, BadAutomation, command, parse, spec_of
from chargehand.domain.errors import BadParameters

NOTE = """\
actions:
  - intent: show_note
    description: Show a note on the screen
    examples: ["show a note that says {text}"]
    argv: [notify-send, --urgency, "{urgency}", --, "{text}"]
    parameters:
      text: {type: string, required: true, maxLength: 200}
      urgency: {type: string, enum: [low, normal], default: normal}
    risk: read
    retry_safe: true
    exclusive_keys: ["screen:{urgency}"]
    timeout: 5
    requires: {commands: [notify-send], display: true}
"""


def make_action(**fields: Any) -> Action:
    return Action.model_validate({"intent": "do_it", "argv": ["true"]} | fields)


def problem(**fields: Any) -> str:
    [entry] = parse(f"actions: [{ {'intent': 'do_it', 'argv': ['true']} | fields }]", "automation.yml")
    assert entry.action is None
    assert entry.problem is not None
    return entry.problem


def test_every_key_reaches_the_offer() -> None:
    [entry] = parse(NOTE, "automation.yml")
    assert entry.action is not None
    spec = spec_of(entry.action)
    assert (spec.intent, spec.work_type, spec.agent_type, spec.risk) == (
        "show_note",
        "run_automation",
        "desktop",
        "read",
    )
    assert spec.examples == ("show a note that says {text}",)
    assert spec.retry_safe
    assert spec.dry_run
    assert spec.exclusive_keys == ("screen:{urgency}",)
    assert spec.deadlines.run_seconds == 5 + ENDING
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "text": {"type": "string", "maxLength": 200},
            "urgency": {"type": "string", "enum": ["low", "normal"], "default": "normal"},
        },
        "required": ["text"],
        "additionalProperties": False,
    }
    assert entry.action.requires.display


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "actions: []\n"])
def test_an_empty_list_is_a_list(text: str) -> None:
    assert parse(text, "automation.yml") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("actions: [", "automation.yml line 1"),
        ("- intent: x", "must hold one key, actions"),
        ("actions: {}\n", "must hold one key, actions"),
        ("actions: []\nshell: true\n", "must hold one key, actions"),
        ("just words", "must hold one key, actions"),
    ],
)
def test_what_is_no_list_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadAutomation, match=words):
        parse(text, "automation.yml")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"shell": "rm -rf /"}, "shell: Extra inputs"),
        ({"argv": "rm -rf /"}, "argv: Input should be a valid"),
        ({"argv": []}, "argv: "),
        ({"argv": ["sleep", 5]}, "argv.1: Input should be a valid string"),
        ({"argv": ["./mine.sh"]}, "a name on the PATH or a path from /"),
        ({"argv": ["{program}"], "parameters": {"program": {"type": "string", "required": True}}}, "begin with a prog"),
        ({"argv": ["echo", "{text}"]}, "text is not one of its parameters"),
        (
            {"argv": ["echo", "--say={text}"], "parameters": {"text": {"type": "string", "required": True}}},
            "must be an element of its own",
        ),
        ({"argv": ["echo", "{text}"], "parameters": {"text": {"type": "string"}}}, "required or have a default"),
        ({"parameters": {"x": {"type": "object"}}}, "parameters.x.type"),
        ({"parameters": {"x": {"type": "string", "$ref": "http://x"}}}, "parameters.x.$ref"),
        ({"parameters": {"x": {"type": "string", "pattern": "("}}}, "parameter x"),
        ({"parameters": {"x": {"type": "integer", "default": "ten"}}}, "default does not fit"),
        ({"parameters": {"X!": {"type": "string"}}}, "name of a parameter"),
        ({"examples": ["say {words}"]}, "{words}"),
        ({"risk": "none"}, "risk: "),
        ({"timeout": 0}, "timeout: "),
    ],
)
def test_a_wrong_action_says_what_is_wrong(fields: dict[str, Any], words: str) -> None:
    said = problem(**fields)
    assert said.startswith("automation.yml line 1: ")
    assert words in said


def test_a_wrong_action_does_not_take_the_others_along() -> None:
    entries = parse(f"{NOTE}  - intent: broken\n  - just words\n", "automation.yml")
    assert [(entry.intent, entry.action is not None) for entry in entries] == [
        ("show_note", True),
        ("broken", False),
        ("", False),
    ]
    assert "line 14: argv: Field required" in str(entries[1].problem)


def test_two_actions_of_one_intent_are_neither() -> None:
    [entry] = parse("actions: [{intent: twice, argv: [a]}, {intent: twice, argv: [b]}]", "automation.yml")
    assert entry.action is None
    assert "twice" in str(entry.problem)


def say(**parameter: Any) -> Action:
    return make_action(argv=["say", "{text}"], parameters={"text": {"type": "string", "required": True} | parameter})


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ({}, "$(reboot); `reboot` 'and' \"more\"\n", "$(reboot); `reboot` 'and' \"more\"\n"),
        ({}, "", ""),
        ({"type": "integer"}, -5, "-5"),
        ({"type": "number"}, 0.5, "0.5"),
        ({"type": "boolean"}, True, "true"),
        ({"enum": ["-l", "-r"]}, "-l", "-l"),
    ],
)
def test_a_value_is_exactly_one_argument(parameter: dict[str, Any], value: JsonValue, expected: str) -> None:
    assert command(say(**parameter), {"text": value}) == ["say", expected]


@pytest.mark.parametrize("value", ["--help", "-x", "zero\0byte", "x" * 100_001])
def test_a_value_that_could_be_more_than_a_value_is_refused(value: str) -> None:
    with pytest.raises(BadParameters, match="text"):
        command(say(), {"text": value})


def test_after_a_double_dash_nothing_is_an_option() -> None:
    action = make_action(argv=["say", "--", "{text}"], parameters={"text": {"type": "string", "required": True}})
    assert command(action, {"text": "--help"}) == ["say", "--", "--help"]
