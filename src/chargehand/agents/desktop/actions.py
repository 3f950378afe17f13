"""The format of `automation.yml`: a list of named actions, each one program with its arguments. Pure.

    actions:
      - intent: show_note
        description: Show a note on the screen
        examples: ["show a note that says {text}", "put {text} on my screen"]
        argv: [notify-send, --, "{text}"]
        parameters:
          text: {type: string, required: true, maxLength: 200}
        risk: change
        requires: {commands: [notify-send], display: true}

The classes below are the whole format. `{parameter}` stands for a value only where it is a whole element of `argv`, and
there is no shell, so a value is always exactly one argument.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, JsonValue, ValidationError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from chargehand.agents import bounded_yaml
from chargehand.catalog import json_schema
from chargehand.domain.errors import BadConfiguration, BadParameters, UnreadableText
from chargehand.domain.intents import Deadlines, IntentSpec, Resources
from chargehand.domain.risks import Risk
from chargehand.domain.value import Value

SLOT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
INTENT = re.compile(r"^[a-z][a-z0-9_]{1,62}$")
PARAMETER = re.compile(r"[a-z_][a-zA-Z0-9_]*")
MAX_ARGUMENT = 100_000
"""Bytes: Linux takes no more than 128 KiB in one argument."""
ENDING = 15
"""Seconds an action that took too long may take to be ended, before its agent's own deadline ends it."""


class Parameter(Value):
    """One parameter: a JSON schema of a single value, and whether it must be given."""

    type: Literal["string", "integer", "number", "boolean"]
    description: str | None = None
    default: JsonValue = None
    required: bool = False
    enum: tuple[JsonValue, ...] | None = Field(default=None, min_length=1)
    examples: tuple[JsonValue, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    multipleOf: float | None = None
    minLength: int | None = None
    maxLength: int | None = None
    pattern: str | None = None

    @property
    def schema_(self) -> dict[str, JsonValue]:
        return self.model_dump(mode="json", exclude={"required"}, exclude_none=True)


class Requires(Value):
    """What the machine must have: programs on the PATH, and a graphical session."""

    commands: tuple[str, ...] = ()
    display: bool = False


class Action(Value):
    """One thing the agent may do. `timeout` in seconds."""

    intent: str = Field(pattern=INTENT.pattern)
    description: str = ""
    examples: tuple[str, ...] = ()
    argv: tuple[str, ...] = Field(min_length=1)
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    risk: Risk = Risk.CHANGE
    retry_safe: bool = False
    exclusive_keys: tuple[str, ...] = ()
    timeout: int = Field(default=60, ge=1, le=86_400)
    requires: Requires = Requires()


@dataclass(frozen=True)
class Entry:
    """One entry of the list: an action, or the intent it was meant for and what is wrong with it."""

    intent: str
    action: Action | None = None
    problem: str | None = None


class BadAutomation(BadConfiguration):
    """A list of actions is not in the format, or could have been written by somebody else."""

    code = "bad-automation"


def parse(text: str, file: str) -> tuple[Entry, ...]:
    """Read a list of actions. One that is wrong is an entry with a problem, and the others still count.

    Raises `BadAutomation` naming file and line when it is no such list at all.
    """
    try:
        node = bounded_yaml.compose(text)
        loaded = bounded_yaml.load(text)
    except UnreadableText as error:
        raise BadAutomation(f"{file} line {error.line or 1}: {error}") from error
    if loaded is None:
        return ()
    if not isinstance(loaded, dict) or set(loaded) != {"actions"} or not isinstance(loaded["actions"], list):
        raise BadAutomation(f"{file} must hold one key, actions, with a list", hint="See docs/desktop.md.")
    lines = _lines(node)
    entries = (_entry(item, f"{file} line {line}") for item, line in zip(loaded["actions"], lines, strict=True))
    return tuple(_unique(entries, file))


def spec_of(action: Action) -> IntentSpec:
    """Return the action as an offer, without what only the machine can tell (content hash, availability)."""
    required: list[JsonValue] = [name for name, parameter in action.parameters.items() if parameter.required]
    schema: dict[str, JsonValue] = {
        "type": "object",
        "properties": {name: parameter.schema_ for name, parameter in action.parameters.items()},
        "required": required,
        "additionalProperties": False,
    }
    return IntentSpec(
        intent=action.intent,
        work_type="run_automation",
        agent_type="desktop",
        description=action.description,
        examples=action.examples,
        parameters=schema,
        resources=Resources(estimated_duration_seconds=min(action.timeout, 10)),
        risk=action.risk,
        retry_safe=action.retry_safe,
        exclusive_keys=action.exclusive_keys,
        deadlines=Deadlines(run_seconds=action.timeout + ENDING),
        dry_run=True,  # it says what would be run
    )


def command(action: Action, parameters: Mapping[str, JsonValue]) -> list[str]:
    """Return the program and its arguments. Raises `BadParameters` for a value that cannot be one argument."""
    argv: list[str] = []
    for element in action.argv:
        slot = SLOT.fullmatch(element)
        argv.append(_argument(action, slot[1], parameters[slot[1]], "--" in argv) if slot else element)
    return argv


def _argument(action: Action, name: str, value: JsonValue, after_options: bool) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if "\0" in text or len(text.encode()) > MAX_ARGUMENT:
        raise BadParameters(f"{name} cannot be an argument of a program: it is too long or holds a zero byte")
    listed = action.parameters[name].enum is not None  # the operator has chosen these values
    if isinstance(value, str) and text.startswith("-") and not after_options and not listed:
        raise BadParameters(
            f"{name} must not begin with '-': {action.argv[0]} could take it for an option",
            hint=f'Where {action.argv[0]} knows it, put "--" before {{{name}}} in the argv of {action.intent}.',
        )
    return text


def _entry(item: object, where: str) -> Entry:
    intent = str(item.get("intent")) if isinstance(item, dict) else ""
    try:
        action = Action.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the action"
        return Entry(intent, problem=f"{where}: {place}: {first['msg']}")
    problem = next(_problems(action), None)
    return Entry(intent, problem=f"{where}: {problem}") if problem else Entry(intent, action)


def _problems(action: Action) -> Iterator[str]:
    """Yield what a schema cannot say."""
    yield from _program_problems(action.argv[0])
    for name, parameter in action.parameters.items():
        yield from _parameter_problems(name, parameter)
    for element in action.argv:
        yield from _slot_problems(action, element)
    for text in (*action.examples, *action.exclusive_keys):
        for name in SLOT.findall(text):
            if name not in action.parameters:
                yield f"{{{name}}} in {text!r} is not one of its parameters"


def _program_problems(program: str) -> Iterator[str]:
    if not program or SLOT.search(program):
        yield "argv must begin with a program, not with a parameter"
    elif "/" in program and not program.startswith("/"):
        yield f"the program {program} must be a name on the PATH or a path from /"


def _parameter_problems(name: str, parameter: Parameter) -> Iterator[str]:
    if not PARAMETER.fullmatch(name):
        yield f"{name!r} cannot be the name of a parameter (lower_case)"
    schema = parameter.schema_
    try:
        fits = parameter.default is None or json_schema.fits(schema, parameter.default)
        json_schema.check_schema(schema)
    except json_schema.BadSchema as error:
        yield f"parameter {name}: {error}"
    else:
        if not fits:
            yield f"parameter {name}: its default does not fit its own schema"


def _slot_problems(action: Action, element: str) -> Iterator[str]:
    if "\0" in element:
        yield "argv holds a zero byte"
    for name in SLOT.findall(element):
        parameter = action.parameters.get(name)
        if parameter is None:
            yield f"{element!r} in argv: {name} is not one of its parameters"
        elif not SLOT.fullmatch(element):
            yield f"{element!r} in argv: {{{name}}} must be an element of its own"
        elif not parameter.required and parameter.default is None:
            yield f"parameter {name} is used in argv, so it must be required or have a default"


def _unique(entries: Iterator[Entry], file: str) -> Iterator[Entry]:
    """Yield one entry per intent; of two that claim one, neither may be guessed to be meant."""
    by_intent: dict[str, list[Entry]] = {}
    for entry in entries:
        by_intent.setdefault(entry.intent, []).append(entry)
    for intent, claims in by_intent.items():
        yield claims[0] if len(claims) == 1 else Entry(intent, problem=f"{file} lists {intent or 'no intent'} twice")


def _lines(node: Node | None) -> list[int]:
    """Return the line of each action, from 1."""
    assert isinstance(node, MappingNode)
    for key, value in node.value:
        if isinstance(key, ScalarNode) and key.value == "actions" and isinstance(value, SequenceNode):
            return [item.start_mark.line + 1 for item in value.value]
    return []
