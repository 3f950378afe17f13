"""The `# chargehand:` header of a playbook or script, as an intent. Pure: text in, `Header` out.

    # chargehand:
    #   intent: deploy_status_page
    #   work_type: deploy_service
    #   parameters:
    #     status_page_port: {type: integer, minimum: 1024, default: 8420, description: Port it listens on}
    #   requires: {commands: [node]}

The header is YAML in the comment lines at the top of the file (after a shebang, `---` or other comments). KEYS and the
two tables below it are the whole format. A playbook without a header is offered as `run_<file name>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue, ValidationError
from ruamel.yaml.nodes import MappingNode, Node

from chargehand.agents import bounded_yaml
from chargehand.agents.infra.risk_words import risk_of_names
from chargehand.catalog import json_schema
from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration, UnreadableText
from chargehand.domain.intents import LONGEST_EXAMPLE, MOST_EXAMPLES, WORK_TYPES, IntentSpec, Resources
from chargehand.domain.risks import Risk

Kind = Literal["playbook", "script"]

KEYS: Mapping[str, str] = {
    "intent": "text",
    "work_type": "text",
    "service": "text",
    "description": "text",
    "examples": "list of texts",
    "parameters": "mapping",
    "outputs": "mapping",
    "resources": "mapping",
    "risk": "text",
    "retry_safe": "true or false",
    "exclusive_keys": "list of texts",
    "requires": "mapping",
    "after": "list of texts",
    "state": "list of texts",
    "dry_run": "true or false",  # scripts only: every playbook has one
}
RESOURCE_KEYS = frozenset(Resources.model_fields)
_PARAMETER_KEYS = """
type description default enum examples required minimum maximum exclusiveMinimum exclusiveMaximum multipleOf
minLength maxLength pattern format items minItems maxItems uniqueItems properties additionalProperties
secret default_secret holds_secrets
"""
PARAMETER_KEYS = frozenset(_PARAMETER_KEYS.split())
OUTPUT_KEYS = PARAMETER_KEYS - {"default", "secret", "default_secret", "holds_secrets"}
SECRET_KEYS = frozenset({"type", "format", "description", "required", "secret", "default_secret"})
NOT_IN_SCHEMAS = frozenset({"secret", "default_secret", "holds_secrets"})  # ours; schemas say it in their own way
RESERVED_FOR_SCRIPTS = frozenset({"dry_run", "parameters_file", "output_file"})  # names of variables scripts get anyway

MOST_SHOWN = 200  # characters of a wrong value in a message

_TYPES: Mapping[str, type] = {"text": str, "mapping": dict, "true or false": bool}
_START = re.compile(r"^#\s*chargehand:\s*$")
_BEFORE = re.compile(r"^(#.*|---\s*|\s*)$")
_PARAMETER_NAME = re.compile(r"[a-z_][a-zA-Z0-9_]*")
_INTENT_LINE = re.compile(r"^\s*intent:\s*([a-z][a-z0-9_]{1,62})\s*$", re.MULTILINE)
_SLOT = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Header:
    """What a file says about itself: the offer, and the programs it needs on the agent's machine."""

    spec: IntentSpec
    commands: tuple[str, ...] = ()


class BadHeader(BadConfiguration):
    """A header is not in the format. `intent` is its intent where that much could be read."""

    code = "bad-header"

    def __init__(self, message: str, *, intent: str | None = None) -> None:
        super().__init__(message, hint=f"A header may have: {', '.join(KEYS)}.")
        self.intent = intent


def parse(text: str, file: str, kind: Kind) -> Header | None:
    """Return the header of a file's text, or None when it has none. Raises `BadHeader` naming file and line."""
    found = _cut(text)
    return _Reader(file, kind, *found).header() if found else None


def without_header(stem: str, play_names: Sequence[str]) -> Header:
    """Return the offer of a playbook that says nothing about itself: never repeated blindly, and nobody knows what it
    can do; its name, or that of a play, may say that it destroys something."""
    words = re.sub(r"[^a-z0-9]+", " ", stem.lower()).strip() or "playbook"
    names = [name for name in play_names if len(name) <= LONGEST_EXAMPLE]  # a longer one is no phrase that anybody says
    examples = [f"run {words}", f"run the {words} playbook", f"execute the playbook {words}", *names]
    spec = IntentSpec(
        intent=fallback_intent(stem),
        work_type="run_playbook",
        description=names[0] if names else f"Run the playbook {stem}",
        examples=tuple(dict.fromkeys(examples))[:MOST_EXAMPLES],
        parameters={"type": "object", "properties": {}, "additionalProperties": False},
        risk=risk_of_names([stem, *play_names], Risk.UNKNOWN),
        dry_run=True,
    )
    return Header(spec)


def fallback_intent(stem: str) -> str:
    """Return the intent of a file that does not name one."""
    return ("run_" + (re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_") or "file"))[:63]


def _is_secret(schema: Mapping[str, Any]) -> bool:
    return schema.get("secret") is True or schema.get("format") == secret_refs.FORMAT


def _cut(text: str) -> tuple[str, int] | None:
    """Return the header's YAML and the number of the line before it (from 1)."""
    # `splitlines` ends lines at U+2028 and U+0085, too, which Ansible does not: a header could begin inside a comment.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for index, line in enumerate(lines):
        if _START.match(line):
            return "\n".join(_body(lines[index + 1 :])), index + 1
        if not _BEFORE.match(line):
            return None
    return None


def _body(lines: Sequence[str]) -> list[str]:
    """Return the comment lines that are indented below `# chargehand:`, without their `#`."""
    body = []
    for line in lines:
        if not re.match(r"^#(\s{2,}|\s*$)", line):
            break
        body.append(line[1:])
    return body


class _Reader:
    """Turns one header into an offer; knows the line of every key."""

    def __init__(self, file: str, kind: Kind, text: str, before: int) -> None:
        self.file, self.kind, self.text, self.before = file, kind, text, before
        self.values: dict[str, Any] = {}
        self.lines: dict[str, int] = {}

    def header(self) -> Header:
        self._read()
        for key, value in self.values.items():
            self._check_key(key, value)
        parameters = self._parameters(self.values.get("parameters", {}))
        outputs = self._outputs(self.values.get("outputs", {}))
        fields = {k: v for k, v in self.values.items() if k not in ("parameters", "outputs", "requires")}
        fields.setdefault("work_type", "run_playbook" if self.kind == "playbook" else "run_automation")
        fields.setdefault("intent", fallback_intent(self.file.rsplit("/", 1)[-1].rsplit(".", 1)[0]))
        fields.setdefault("risk", risk_of_names([fields["intent"]], Risk.CHANGE))
        fields["dry_run"] = self.kind == "playbook" or fields.get("dry_run", False)
        commands, ports = self._requirements(self.values.get("requires", {}))
        fields["exclusive_keys"] = [*fields.get("exclusive_keys", ()), *(f"port:{port}" for port in ports)]
        self._check_choices(fields)
        self._check_slots(parameters)
        try:
            spec = IntentSpec.model_validate(fields | {"parameters": parameters, "outputs": outputs})
        except ValidationError as error:
            first = error.errors()[0]
            raise self.error(str(first["loc"][0]), f"{first['loc'][0]}: {first['msg']}") from error
        return Header(spec, commands)

    def error(self, key: str, message: str) -> BadHeader:
        line = self.lines.get(key, self.before)
        intent = _INTENT_LINE.search(self.text)  # readable even where the YAML as a whole is not
        return BadHeader(f"{self.file} line {line}: {message}", intent=intent[1] if intent else None)

    def _read(self) -> None:
        try:
            node = bounded_yaml.compose(self.text)
            loaded = bounded_yaml.load(self.text)
        except UnreadableText as error:
            self.lines[""] = self.before + (error.line or 1)
            raise self.error("", f"the header is not YAML: {error}") from error
        if not isinstance(loaded, dict) or not isinstance(node, MappingNode):
            raise self.error("", f"the header must be a mapping; allowed keys: {', '.join(sorted(KEYS))}")
        if problem := bounded_yaml.unlike_json(loaded):
            raise self.error("", problem)
        self.values = loaded
        self.lines = self._lines_of(node)

    def _lines_of(self, node: Node) -> dict[str, int]:
        """Return the line of each key, the nested ones as `parameters.name`."""
        lines = {}
        for key, value in node.value:
            lines[key.value] = self.before + 1 + key.start_mark.line
            if isinstance(value, MappingNode):
                lines |= {f"{key.value}.{k.value}": self.before + 1 + k.start_mark.line for k, _ in value.value}
        return lines

    def _check_key(self, key: str, value: object) -> None:
        if key not in KEYS or (key == "dry_run" and self.kind == "playbook"):
            raise self.error(key, f"unknown key {key!r}; allowed: {', '.join(sorted(KEYS))}")
        if KEYS[key] == "list of texts":
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        else:
            fits = isinstance(value, _TYPES[KEYS[key]])
        if not fits:
            shown = repr(value)[:MOST_SHOWN]
            raise self.error(key, f"{key} must be a {KEYS[key]}, not {shown}".replace("a true", "true"))

    def _check_choices(self, fields: Mapping[str, Any]) -> None:
        choices = {"work_type": WORK_TYPES, "risk": tuple(Risk)}
        for key, allowed in choices.items():
            if key in self.values and fields[key] not in allowed:
                raise self.error(key, f"{key} {fields[key]!r} is not one of: {', '.join(allowed)}")
        for key in self.values.get("resources", {}):
            if key not in RESOURCE_KEYS:
                allowed_keys = ", ".join(sorted(RESOURCE_KEYS))
                raise self.error(f"resources.{key}", f"unknown resource {key!r}; allowed: {allowed_keys}")

    def _parameters(self, declared: Mapping[str, Any]) -> dict[str, JsonValue]:
        properties: dict[str, JsonValue] = {}
        required: list[JsonValue] = []
        for name, schema in declared.items():
            properties[name] = self._property(name, schema)
            if schema.get("required", False):
                required.append(name)
        object_schema: dict[str, JsonValue] = {"type": "object", "properties": properties}
        object_schema["additionalProperties"] = False
        if required:
            object_schema["required"] = required
        return object_schema

    def _property(self, name: str, schema: object) -> dict[str, JsonValue]:
        where = f"parameters.{name}"
        if not _PARAMETER_NAME.fullmatch(str(name)) or (self.kind == "script" and name in RESERVED_FOR_SCRIPTS):
            raise self.error(where, f"{name!r} cannot be the name of a parameter (lower_case, not reserved)")
        if not isinstance(schema, dict) or ("type" not in schema and not _is_secret(schema)):
            raise self.error(where, f"parameter {name} must be a mapping with at least a type, or secret: true")
        unknown = sorted(set(map(str, schema)) - PARAMETER_KEYS)
        if unknown:
            allowed = ", ".join(sorted(PARAMETER_KEYS))
            raise self.error(where, f"parameter {name}: unknown key {unknown[0]!r}; allowed: {allowed}")
        if "default_secret" in schema and not _is_secret(schema):
            raise self.error(where, f"parameter {name}: default_secret is for parameters with secret: true")
        for key in ("required", "secret", "holds_secrets"):
            if not isinstance(schema.get(key, False), bool):
                raise self.error(where, f"parameter {name}: {key} must be true or false")
        if _is_secret(schema):
            return self._secret(name, schema)
        rest = {key: value for key, value in schema.items() if key not in ("required", *NOT_IN_SCHEMAS)}
        if schema.get("holds_secrets"):
            rest[secret_refs.HOLDS] = True
        self._check_schema(name, rest)
        return rest

    def _secret(self, name: str, schema: Mapping[str, Any]) -> dict[str, JsonValue]:
        """Return the schema of a parameter that takes a reference; there is no value that one could have rules for."""
        where, default = f"parameters.{name}", schema.get("default_secret")
        if surplus := sorted(set(schema) - SECRET_KEYS):
            allowed = ", ".join(sorted(SECRET_KEYS))
            raise self.error(where, f"parameter {name} is a secret and cannot have {surplus[0]!r}; allowed: {allowed}")
        if schema.get("type", "string") != "string":
            raise self.error(where, f"parameter {name}: a secret is a text, so its type can only be string")
        result: dict[str, JsonValue] = {"type": "string", "format": secret_refs.FORMAT, "writeOnly": True}
        if "description" in schema:
            result["description"] = str(schema["description"])
        if default is not None:
            result["default"] = {"secret": default}
            if secret_refs.reference_in(result["default"]) is None:
                raise self.error(where, f"parameter {name}: default_secret must be the name of a secret, like db_admin")
        return result

    def _outputs(self, declared: Mapping[str, Any]) -> dict[str, JsonValue]:
        """Return the schema of what it gives to later tasks; what is declared is promised unless it says otherwise."""
        properties: dict[str, JsonValue] = {}
        required: list[JsonValue] = []
        for name, schema in declared.items():
            properties[name] = self._output(name, schema)
            if schema.get("required", True):
                required.append(name)
        return {"type": "object", "properties": properties, "required": required} if declared else {}

    def _output(self, name: str, schema: object) -> dict[str, JsonValue]:
        where = f"outputs.{name}"
        if not _PARAMETER_NAME.fullmatch(str(name)):
            raise self.error(where, f"{name!r} cannot be the name of an output (lower_case)")
        if not isinstance(schema, dict) or "type" not in schema:
            raise self.error(where, f"output {name} must be a mapping with at least a type")
        if _is_secret(schema) or secret_refs.takes_secrets(schema):
            raise self.error(where, f"output {name} cannot be a secret: agents hide its value in every report")
        if unknown := sorted(set(map(str, schema)) - OUTPUT_KEYS):
            allowed = ", ".join(sorted(OUTPUT_KEYS))
            raise self.error(where, f"output {name}: unknown key {unknown[0]!r}; allowed: {allowed}")
        if not isinstance(schema.get("required", True), bool):
            raise self.error(where, f"output {name}: required must be true or false")
        rest = {key: value for key, value in schema.items() if key != "required"}
        self._check_form("output", name, rest)
        return rest

    def _check_form(self, kind: str, name: str, schema: dict[str, Any]) -> None:
        try:
            json_schema.check_schema(schema)
        except json_schema.BadSchema as error:
            raise self.error(f"{kind}s.{name}", f"{kind} {name}: {error}") from error

    def _check_schema(self, name: str, schema: dict[str, Any]) -> None:
        self._check_form("parameter", name, schema)
        if "default" in schema:
            problems = json_schema.errors(json_schema.validator(schema), schema["default"])
            if problems:
                message = problems[0].message[:MOST_SHOWN]
                raise self.error(f"parameters.{name}", f"parameter {name}: its default is wrong: {message}")

    def _check_slots(self, parameters: Mapping[str, Any]) -> None:
        for key in ("examples", "exclusive_keys"):
            for text in self.values.get(key, ()):
                for slot in _SLOT.findall(text):
                    if slot not in parameters["properties"]:
                        raise self.error(key, f"{key}: {{{slot}}} in {text!r} is not one of its parameters")

    def _requirements(self, requires: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the programs it needs, and the ports it listens on: two that want one port never run together."""
        commands, ports = requires.get("commands", []), requires.get("ports", [])
        fits = isinstance(commands, list) and isinstance(ports, list) and all(isinstance(port, int) for port in ports)
        if set(requires) - {"commands", "ports"} or not fits:
            raise self.error("requires", "requires must be {commands: [names of programs], ports: [numbers]}")
        return tuple(str(command) for command in commands), tuple(ports)
