"""JSON schemas of strangers, and values of strangers against them: within limits, and in linear time. Pure.

This is the one place where a value meets a schema. Patterns run in RE2; every step of a check is counted, because a few
lines of references to references can stand for millions of steps; and a schema refers to nothing but itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration
from chargehand.domain.patterns import BadPattern, compiled, found_in

MOST_NODES, DEEPEST = 5_000, 40
"""Of a schema: one that people write has some dozen nodes in a few levels."""
MOST_STEPS = 50_000
"""Keywords looked at in one check: half a second's work, and ten times that of the longest list a task may return."""
DEAR = {"$ref": 10, "$dynamicRef": 10}
"""What following a reference costs, in steps."""
MOST_ERRORS = 20  # that are told; nobody reads more

Schema = Mapping[str, Any]
Errors = Iterator[ValidationError]
Keyword = Callable[[Any, Any, Any, Any], Any]

NOTHING = FormatChecker(formats=())
REFERENCES = FormatChecker(formats=())  # other formats are notes to people, as JSON schema has it
REFERENCES.checks(secret_refs.FORMAT)(lambda value: secret_refs.reference_in(value) is not None)

_steps_left: ContextVar[list[int]] = ContextVar("steps left of this check")


class BadSchema(BadConfiguration):
    """A schema is broken, refers to something else, or is too much to check a value by."""

    code = "bad-schema"


def check_schema(schema: Any) -> None:
    """Raise `BadSchema` when this is no schema that values can be checked by."""
    nodes = _counted_nodes(schema)
    if nodes > MOST_NODES:
        raise BadSchema(f"a schema of more than {MOST_NODES:,} parts is too large")
    try:
        Draft202012Validator.check_schema(schema, format_checker=NOTHING)  # a pattern is tried in RE2, below
    except SchemaError as error:
        raise BadSchema(error.message[:500]) from error
    except (RecursionError, OverflowError) as error:
        raise BadSchema("it is too deep, or holds a number that is too large") from error
    _check_patterns(schema)
    if _has_key(schema, "patternProperties") and _has_key(schema, "unevaluatedProperties"):
        raise BadSchema("patternProperties and unevaluatedProperties together cannot be checked in linear time")


def validator(schema: Any) -> Any:
    """Return what `errors` checks values by; with it a schema is looked at once. Raises `BadSchema`."""
    check_schema(schema)
    return _Validator(schema, registry=Registry(), format_checker=REFERENCES)


def errors(validator: Any, value: object) -> list[ValidationError]:
    """Return the first few things that are wrong with a value. Raises `BadSchema` where the check itself fails."""
    token = _steps_left.set([MOST_STEPS])
    try:
        return list(islice(validator.iter_errors(value), MOST_ERRORS))
    except (RecursionError, _TooMuch) as error:
        raise BadSchema("checking a value by it would take too long, or would never end") from error
    except (Unresolvable, BadPattern, OverflowError) as error:
        raise BadSchema(f"it cannot be checked by: {str(error)[:200]}") from error
    finally:
        _steps_left.reset(token)


def fits(schema: Any, value: object) -> bool:
    """Return whether a value fits a schema. Raises `BadSchema`."""
    return not errors(validator(schema), value)


class _TooMuch(Exception):
    """One check takes more steps than any honest one."""


def _counted_nodes(schema: Any) -> int:
    """Return how many parts a schema has, up to one more than it may. Raises `BadSchema` where it is too deep."""
    left, nodes = [(schema, 0)], 0
    while left and nodes <= MOST_NODES:
        node, depth = left.pop()
        nodes += 1
        if depth > DEEPEST:
            raise BadSchema(f"it is nested more than {DEEPEST} levels deep")
        inner = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
        left += [(each, depth + 1) for each in inner]
    return nodes


def _check_patterns(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            _check_patterns(each)
    if not isinstance(schema, Mapping):
        return
    by_pattern = schema.get("patternProperties")
    for pattern in (schema.get("pattern"), *(by_pattern if isinstance(by_pattern, Mapping) else ())):
        if isinstance(pattern, str):
            _check_pattern(pattern)
    for word, each in schema.items():
        if word not in ("default", "const", "enum", "examples"):  # values, not schemas
            _check_patterns(each)


def _has_key(schema: Any, key: str) -> bool:
    if isinstance(schema, list):
        return any(_has_key(each, key) for each in schema)
    return isinstance(schema, Mapping) and (key in schema or any(_has_key(each, key) for each in schema.values()))


def _check_pattern(pattern: str) -> None:
    try:
        compiled(pattern)
    except BadPattern as error:
        raise BadSchema(str(error), hint=error.hint) from error


def _pattern(validator: Any, rule: str, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, str) and not found_in(rule, instance):
        yield ValidationError(f"{instance[:80]!r} does not match {rule!r}")


def _pattern_properties(validator: Any, rule: Schema, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, Mapping):
        for pattern, inner in rule.items():
            for name, value in instance.items():
                if found_in(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, rule: Any, instance: Any, schema: Schema) -> Errors:
    if not isinstance(instance, Mapping):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [name for name in instance if name not in known and not any(found_in(each, name) for each in patterns)]
    if isinstance(rule, Mapping):
        for name in extra:
            yield from validator.descend(instance[name], rule, path=name)
    elif not rule and extra:
        yield ValidationError(f"unexpected: {', '.join(map(repr, extra[:MOST_ERRORS]))}")


def _unique_items(validator: Any, rule: bool, instance: Any, schema: Schema) -> Errors:
    """By their text, once each: comparing every pair takes minutes for what fits into one message."""
    if rule and isinstance(instance, list) and len({_text(item) for item in instance}) != len(instance):
        yield ValidationError("an entry is there twice")


def _text(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    """To a schema 1.0 is 1; to JSON's text it is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _step(keyword: Keyword, steps: int) -> Keyword:
    def counted(validator: Any, rule: Any, instance: Any, schema: Any) -> Any:
        left = _steps_left.get(None)
        if left is not None:
            left[0] -= steps
            if left[0] < 0:
                raise _TooMuch
        return keyword(validator, rule, instance, schema)

    return counted


_LINEAR: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_KEYWORDS: dict[str, Keyword] = {**Draft202012Validator.VALIDATORS, **_LINEAR}
_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {word: _step(keyword, DEAR.get(word, 1)) for word, keyword in _KEYWORDS.items()}
)
