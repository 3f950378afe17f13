"""What can be asked for: the union of what agents offer, and the check of parameters against an intent's schema.

Parameters come from models and from people, schemas from agents: both are untrusted. A schema can refer only to
itself, so checking never fetches anything. Where a schema wants a secret, only a reference to one is taken.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import Any, cast

from jsonschema.exceptions import ValidationError, best_match
from pydantic import JsonValue

from chargehand.catalog import hosts, json_schema
from chargehand.catalog.versions import Offered, Version, by_intent, conflict
from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration, BadParameters
from chargehand.domain.intents import IntentSpec

Parameters = Mapping[str, JsonValue]

SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")
SHOWN_CHARACTERS = 60  # of a value in a message: enough to recognise it, too little to flood a terminal
MOST_KEYS = 500  # of one template: lists of two parameters multiply, and every key is a row that must be taken
LONGEST_KEY = 2_000  # bytes: PostgreSQL indexes no more than 2,700
MOST_CHOICES, LONGEST_RULE = 50, 300  # of a schema's own words in a message: choices, and characters of each


@dataclass(frozen=True)
class Catalog:
    """The intents that can be asked for, one spec each. `unite` makes one from the offers of agents.

    `versions` are those of intents that agents offer differently, the first of which is in `specs`; `contested` says of
    these, in words, how the offers differ.
    """

    specs: tuple[IntentSpec, ...] = ()
    versions: Mapping[str, tuple[Version, ...]] = field(default_factory=dict)
    contested: Mapping[str, str] = field(default_factory=dict)

    def get(self, intent: str) -> IntentSpec | None:
        """Return the spec of an intent, None when nobody offers it."""
        return self._by_intent.get(intent)

    def offered_as(self, intent: str, there: Collection[str]) -> IntentSpec | None:
        """Return the spec to plan by: the first version whose content hash is among those that are `there`, or `get`.

        None when nobody offers it.
        """
        of_intent = self.versions.get(intent, ())
        return next((spec for spec, _ in of_intent if spec.content_hash in there), self.get(intent))

    @property
    def intents(self) -> tuple[str, ...]:
        """The names of all intents, in the catalog's order."""
        return tuple(self._by_intent)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 over all specs: the same offers give the same digest, in whatever order they arrived."""
        specs = [spec.model_dump(mode="json") for spec in sorted(self.specs, key=lambda spec: spec.intent)]
        return hashlib.sha256(json.dumps(specs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def _by_intent(self) -> dict[str, IntentSpec]:
        return {spec.intent: spec for spec in self.specs}


def unite(offers: Iterable[Offered]) -> Catalog:
    """Unite the granted offers of all agents, sorted by intent (see `versions` for intents that several offer).

    Nothing depends on who was first to arrive, so every process sees the same catalog.
    """
    given = list(offers)
    found = by_intent(given)
    several = {intent: of_intent for intent, of_intent in found.items() if len(of_intent) > 1}
    differ = {intent: conflict(offer for offer in given if offer.spec.intent == intent) for intent in several}
    return Catalog(tuple(of_intent[0].spec for of_intent in found.values()), several, differ)


def merge(specs: Iterable[IntentSpec]) -> Catalog:
    """Unite offers of which nothing is known but what they say."""
    return unite(Offered(spec) for spec in specs)


def check_parameters(
    spec: IntentSpec, parameters: Parameters, later: Collection[str] = frozenset()
) -> dict[str, JsonValue]:
    """Return the parameters with the schema's defaults filled in; those that come `later` may be missing.

    A secret must be a reference (`secretref`): a value in its place is refused, and not repeated in the message.
    Raises `BadParameters` naming each parameter that is missing, unknown or unfit, and what is allowed;
    `BadConfiguration` when the schema itself is broken, which only the agent's author can mend.
    """
    if later:
        spec = _less(spec, later)
    filled = {**_defaults(spec), **parameters}
    problems = [*_unstorable(filled), *_violations(spec, filled)]
    problems += [] if problems else hosts.problems(spec, filled)
    if problems:
        raise BadParameters("; ".join(problems), hint=_allowed(spec))
    exclusive_keys(spec, filled)  # what locks too much is unfit, too
    return filled


def _less(spec: IntentSpec, later: Collection[str]) -> IntentSpec:
    """Without these parameters: neither a value nor a default may stand where something else is to come."""
    required = spec.parameters.get("required")
    left = {name: schema for name, schema in _properties(spec).items() if name not in later}
    needed = [name for name in required if name not in later] if isinstance(required, list) else []
    schema = {**spec.parameters, "properties": left, "required": needed}
    return spec.model_copy(update={"parameters": schema})


def missing_parameters(spec: IntentSpec, parameters: Parameters) -> tuple[str, ...]:
    """Return the required parameters that have neither a value nor a default, in the schema's order."""
    given = {*_defaults(spec), *parameters}
    required = spec.parameters.get("required")
    return tuple(str(name) for name in required if name not in given) if isinstance(required, list) else ()


def exclusive_keys(spec: IntentSpec, parameters: Parameters) -> tuple[str, ...]:
    """Fill the `{parameter}` slots of the spec's exclusive keys. A list gives one key per element.

    A slot without a value stays as it is written: all work that leaves the target open then excludes each other.
    Raises `BadParameters` where the values would lock too much.
    """
    return tuple(sorted({key for template in spec.exclusive_keys for key in _filled(template, parameters)}))


def _filled(template: str, parameters: Parameters) -> Iterator[str]:
    slots = sorted(set(SLOT.findall(template)) & parameters.keys())
    choices = [_texts(parameters[slot]) for slot in slots]
    if prod(map(len, choices)) > MOST_KEYS:
        raise BadParameters(f"{', '.join(slots)} would lock more than {MOST_KEYS} things at once", hint="Ask in parts.")
    for values in product(*choices):
        key = _fill(template, dict(zip(slots, values, strict=True)))
        if len(key.encode(errors="replace")) > LONGEST_KEY:
            raise BadParameters(f"{', '.join(slots)} is too long for the name of what is locked ({template})")
        yield key


def _fill(template: str, values: Mapping[str, str]) -> str:
    return SLOT.sub(lambda slot: values.get(slot[1], slot[0]), template)


def _texts(value: JsonValue) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item if isinstance(item, str) else json.dumps(item, sort_keys=True) for item in values]


def _properties(spec: IntentSpec) -> dict[str, dict[str, JsonValue]]:
    properties = spec.parameters.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: schema if isinstance(schema, dict) else {} for name, schema in properties.items()}


def _defaults(spec: IntentSpec) -> dict[str, JsonValue]:
    return {name: schema["default"] for name, schema in _properties(spec).items() if "default" in schema}


def _unstorable(parameters: Parameters) -> list[str]:
    """JSON schema lets through what PostgreSQL's jsonb refuses: NaN, infinity, NUL, lone surrogates."""
    return [f"{name} holds a value that is not valid JSON" for name in parameters if not _storable(parameters[name])]


def _storable(value: JsonValue) -> bool:
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, float):
        return float("-inf") < value < float("inf")
    if isinstance(value, list):
        return all(map(_storable, value))
    return not isinstance(value, dict) or all(_storable(key) and _storable(item) for key, item in value.items())


def _violations(spec: IntentSpec, parameters: Parameters) -> list[str]:
    # What a schema does not name is refused unless it says otherwise: a misspelt parameter must not be ignored.
    schema = {"additionalProperties": False, **spec.parameters, "type": "object"}
    try:
        errors = json_schema.errors(_validator(json.dumps(schema)), parameters)
    except json_schema.BadSchema as error:
        raise BadConfiguration(
            f"the parameter schema of {spec.intent} is broken: {error}",
            hint=f"Its agent must offer a schema of JSON Schema draft 2020-12 without outside references{_of(spec)}.",
        ) from error
    return sorted({_problem(spec, _innermost(error)) for error in errors})


@lru_cache(maxsize=1000)  # checking a schema costs 1.5 ms, a hundred times what checking parameters does
def _validator(schema: str) -> Any:
    parsed = json.loads(schema)
    json_schema.check_schema(parsed)
    return json_schema.validator(secret_refs.referring(parsed))


def _of(spec: IntentSpec) -> str:
    return f" ({spec.source})" if spec.source else ""


def _innermost(error: ValidationError) -> ValidationError:
    """Of an `anyOf` the alternative that came closest: an optional number is a number, for the reader."""
    of_secret = (each for each in error.context or () if _wants_secret(each))
    return next(of_secret, None) or cast("ValidationError", best_match([error]))


def _wants_secret(error: ValidationError) -> bool:
    return error.validator == "format" and error.validator_value == secret_refs.FORMAT


PROBLEMS = {  # JSON schema keyword -> what to tell; {rule} is the keyword's value in the schema
    "maximum": "must be at most {rule}",
    "minimum": "must be at least {rule}",
    "exclusiveMaximum": "must be below {rule}",
    "exclusiveMinimum": "must be above {rule}",
    "multipleOf": "must be a multiple of {rule}",
    "type": "must be of type {rule}",
    "enum": "must be one of {rule}",
    "const": "must be {rule}",
    "pattern": "must match {rule}",
    "format": "must be a {rule}",
    "minLength": "must have at least {rule} characters",
    "maxLength": "must have at most {rule} characters",
    "minItems": "must have at least {rule} entries",
    "maxItems": "must have at most {rule} entries",
    "uniqueItems": "must not hold an entry twice",
}


def _problem(spec: IntentSpec, error: ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    if _wants_secret(error):
        return f"{where} takes a reference to a secret, not a value: {secret_refs.HOW_TO}"
    if error.validator == "required":
        given = cast("Mapping[str, object]", error.instance)
        absent = [name for name in cast("list[str]", error.validator_value) if name not in given]
        return f"{_inside(where, ', '.join(absent))} is missing"
    if error.validator in ("additionalProperties", "unevaluatedProperties") and not error.validator_value:
        known = cast("Mapping[str, Mapping[str, object]]", error.schema).get("properties", {})
        unknown = [str(name) for name in cast("Mapping[str, object]", error.instance) if name not in known]
        return f"{spec.intent} takes no parameter {_inside(where, ', '.join(map(_clip, unknown)))}"
    rule = PROBLEMS.get(str(error.validator), "does not fit its schema").format(rule=_rule(error.validator_value))
    return f"{where or 'the parameters'} {rule} ({_shown(error)})"


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _rule(value: object) -> str:
    values = value if isinstance(value, list) else [value]
    told = [item if isinstance(item, str) else json.dumps(item, default=str) for item in values[:MOST_CHOICES]]
    more = [f"and {len(values) - MOST_CHOICES} more"] if len(values) > MOST_CHOICES else []
    return ", ".join([*(_clip(item, LONGEST_RULE) for item in told), *more])


HIDDEN = ("writeOnly", "$ref", secret_refs.HOLDS)


def _shown(error: ValidationError) -> str:
    """What the value is, unless its schema marks it, or may mark a part of it, as not to be shown (a password)."""
    marked = any(word in str(part.schema) for part in (error, error.parent) if part for word in HIDDEN)
    return "its value is not shown" if marked else f"it is {_clip(json.dumps(error.instance, default=str))}"


def _clip(text: str, most: int = SHOWN_CHARACTERS) -> str:
    printable = "".join(character if character.isprintable() else "?" for character in text[: most + 1])
    return printable if len(printable) <= most else printable[: most - 3] + "..."


BOUNDS = {"minimum": "from", "maximum": "to", "pattern": "matching", "default": "default"}


def _allowed(spec: IntentSpec) -> str:
    required = spec.parameters.get("required")
    required = required if isinstance(required, list) else []
    takes = [_described(name, _plain(schema), name in required) for name, schema in _properties(spec).items()]
    return f"{spec.intent} takes: {'; '.join(takes)}." if takes else f"{spec.intent} takes no parameters."


def _plain(schema: Parameters) -> Parameters:
    """An optional value (`anyOf` something and null) reads like the something."""
    choices = schema.get("anyOf")
    choices = choices if isinstance(choices, list) else []
    something = [choice for choice in choices if isinstance(choice, dict) and choice.get("type") != "null"]
    return {**(something[0] if something else {}), **schema}


def _described(name: str, schema: Parameters, required: bool) -> str:
    kind = "reference to a secret" if secret_refs.is_secret(schema) else schema.get("type")
    facts = [_rule(fact) for fact in (kind, schema.get("enum")) if fact is not None]
    facts += [f"{text} {_rule(schema[word])}" for word, text in BOUNDS.items() if word in schema]
    facts += ["required"] if required and "default" not in schema else []
    return f"{name} ({', '.join(facts)})" if facts else name
