"""References to secrets: what stands in plans, messages and the database where a value must never stand. Pure.

A parameter whose schema says `"format": "secret"` takes `{"secret": "NAME"}` and nothing else; the agent that does the
work looks the value up on its own machine. Pydantic's `SecretStr` counts as such a parameter. A mapping or list whose
schema says `"holdsSecrets": true` may hold references anywhere in it. These places are found below `properties`,
`additionalProperties`, `items`, `prefixItems`, `anyOf`, `oneOf`, `allOf` and references into the schema itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, JsonValue

from chargehand.domain.masking import MASK
from chargehand.domain.value import Value

NAME = r"^[a-z][a-z0-9_]{0,62}$"  # also a file name and the end of a variable's name, wherever it is kept
FORMAT = "secret"
HOLDS = "holdsSecrets"
HOW_TO = 'say secret:NAME in words, {"secret": "NAME"} in JSON; the value stays on the agent\'s machine'

Schema = Mapping[str, Any]
Fill = Callable[[str], JsonValue]


class SecretRef(Value):
    """A secret by its name."""

    secret: str = Field(pattern=NAME)


def reference_in(value: object) -> str | None:
    """Return the name when the value is a reference and nothing else."""
    if not isinstance(value, dict) or value.keys() != {"secret"}:
        return None
    name = value["secret"]
    return name if isinstance(name, str) and re.fullmatch(NAME, name) else None


def is_secret(schema: Schema) -> bool:
    """Return whether a schema is that of a secret."""
    return schema.get("format") == FORMAT or (schema.get("format") == "password" and schema.get("writeOnly") is True)


def takes_secrets(schema: object) -> bool:
    """Return whether a schema has a place for a secret anywhere in it."""
    if isinstance(schema, Mapping):
        return is_secret(schema) or schema.get(HOLDS) is True or any(map(takes_secrets, schema.values()))
    return isinstance(schema, list) and any(map(takes_secrets, schema))


def may_hold(schema: Schema, parameter: str) -> bool:
    """Return whether a value of this parameter could be looked through for references, at any depth. In doubt, yes."""
    facets = tuple(_facets(schema, schema))
    if any(facet.get(HOLDS) is True for facet in facets):
        return True
    below = _below(facets, parameter, schema)
    refers = any('"$ref"' in json.dumps(facet) for facet in below)
    return any(map(takes_secrets, below)) or (refers and takes_secrets(schema.get("$defs", {})))


def holds_reference(value: JsonValue) -> bool:
    """Return whether a value is a reference, or has one in it."""
    if isinstance(value, dict):
        return reference_in(value) is not None or any(map(holds_reference, value.values()))
    return isinstance(value, list) and any(map(holds_reference, value))


def referring(schema: Any) -> Any:
    """Return the schema of what travels: where it wants a secret, it takes a reference (the format `secret`).

    Rules about the value itself (a pattern, a length) say nothing about its name, and are left out.
    """
    if isinstance(schema, Mapping):
        if is_secret(schema):
            return {"format": FORMAT, "writeOnly": True}
        return {key: referring(item) for key, item in schema.items()}
    return [referring(item) for item in schema] if isinstance(schema, list) else schema


def filled_in(schema: Schema, value: JsonValue, fill: Fill) -> JsonValue:
    """Return the value with every reference that stands in a place for a secret replaced by `fill(name)`."""
    return _filled(tuple(_facets(schema, schema)), value, fill, schema)


def names(schema: Schema, value: JsonValue) -> tuple[str, ...]:
    """Return the names of the secrets that a value refers to, each once, in the order they stand there."""
    found: dict[str, None] = {}
    filled_in(schema, value, found.setdefault)
    return tuple(found)


def without_values(value: JsonValue, schemas: Iterable[object]) -> JsonValue:
    """Return what a model wrote with each value hidden that stands where a secret belongs, there and everywhere else.

    Whoever wrote it kept to no schema, so a place is known by its name alone: any parameter of that name.
    """
    fields = frozenset(name for schema in schemas for name in _secret_fields(schema))
    values = sorted(_values_in(value, fields), key=len, reverse=True)  # one may be a part of another
    return _hidden(value, fields, values)


def _secret_fields(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            yield from (name for name, facts in properties.items() if takes_secrets(facts))
        for part in schema.values():
            yield from _secret_fields(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _secret_fields(part)


def _values_in(value: JsonValue, fields: frozenset[str], within: bool = False) -> Iterator[str]:
    if reference_in(value) is not None:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _values_in(item, fields, within or key in fields)
    elif isinstance(value, list):
        for item in value:
            yield from _values_in(item, fields, within)
    elif isinstance(value, str) and within and value:
        yield value


def _hidden(value: JsonValue, fields: frozenset[str], values: Sequence[str], within: bool = False) -> JsonValue:
    if reference_in(value) is not None:
        return value
    if isinstance(value, dict):
        return {key: _hidden(item, fields, values, within or key in fields) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item, fields, values, within) for item in value]
    if within and value is not None:
        return MASK
    if isinstance(value, str):
        for each in values:
            value = value.replace(each, MASK)
    return value


def _filled(facets: tuple[Schema, ...], value: JsonValue, fill: Fill, root: Schema) -> JsonValue:
    name = reference_in(value)
    if name is not None and any(map(is_secret, facets)):
        return fill(name)
    if any(facet.get(HOLDS) is True for facet in facets):
        return _filled_anywhere(value, fill)
    if isinstance(value, dict):
        return {key: _filled(_below(facets, key, root), item, fill, root) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(_below(facets, place, root), item, fill, root) for place, item in enumerate(value)]
    return value


def _filled_anywhere(value: JsonValue, fill: Fill) -> JsonValue:
    name = reference_in(value)
    if name is not None:
        return fill(name)
    if isinstance(value, dict):
        return {key: _filled_anywhere(item, fill) for key, item in value.items()}
    return [_filled_anywhere(item, fill) for item in value] if isinstance(value, list) else value


def _below(facets: tuple[Schema, ...], key: str | int, root: Schema) -> tuple[Schema, ...]:
    """Return all schemas that apply to one entry of a mapping or a list."""
    below = (_entry(facet, key) for facet in facets)
    return tuple(deeper for schema in below if isinstance(schema, Mapping) for deeper in _facets(schema, root))


def _entry(schema: Schema, key: str | int) -> object:
    if isinstance(key, str):
        properties = schema.get("properties")
        known = isinstance(properties, Mapping) and key in properties
        return properties[key] if known and properties is not None else schema.get("additionalProperties")
    prefix = schema.get("prefixItems")
    return prefix[key] if isinstance(prefix, list) and key < len(prefix) else schema.get("items")


def _facets(schema: Schema, root: Schema, seen: frozenset[str] = frozenset()) -> Iterator[Schema]:
    """Yield a schema and every other one that it says applies to the same value."""
    yield schema
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word) or ():
            if isinstance(part, Mapping):
                yield from _facets(part, root, seen)
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#/") and target not in seen:
        found = _at(root, target)
        if isinstance(found, Mapping):
            yield from _facets(found, root, seen | {target})


def _at(root: Any, pointer: str) -> Any:
    for step in pointer.removeprefix("#/").split("/"):
        root = root.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(root, Mapping) else None
    return root
