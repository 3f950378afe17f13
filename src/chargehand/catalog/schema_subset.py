"""Is every value of schema A (a task's output) valid under B (a later task's parameter)? Pure.

`mismatch` proves it keyword by keyword, and what it cannot prove it denies. It knows the keywords of RULES; a schema
with others (`not`, `if`, `patternProperties`) is compatible only with itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from chargehand.catalog import json_schema

Schema = Mapping[str, Any]

_SAYS_NOTHING = """
title description default examples deprecated readOnly writeOnly format contentMediaType contentEncoding
$comment $schema $id $defs definitions
"""
SAYS_NOTHING = frozenset(_SAYS_NOTHING.split())
"""Keywords that refuse no value; formats are notes to people, as JSON schema has it."""

EVERY_TYPE = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
NUMBERS = frozenset({"integer", "number"})
MOST_NODES, DEEPEST = 2_000, 40  # of a schema written out: one that people write has some dozen, in a few levels


class NotPlain(Exception):
    """A schema refers to something outside itself, to itself in a circle, or to so much that nobody wrote it."""


def written_out(schema: object, root: object) -> Any:
    """Return a schema with what it refers to (`#/$defs/...` of `root`) in the place of the references.

    Raises `NotPlain`.
    """
    return _Writing(root).out(schema, (), 0)


def mismatch(output: Any, parameter: Any) -> str | None:
    """Return why a value that fits `output` might not fit `parameter`; None when each does. Both are written out."""
    if parameter in (True, {}) or output is False or _text(output) == _text(parameter):
        return None
    if parameter is False:
        return "nothing fits there"
    output = {} if output is True else output
    choices = _choices(output)
    if choices is not None:
        return next((f"it may be {json.dumps(each)}" for each in choices if not _fits(each, parameter)), None)
    for word in ("anyOf", "oneOf"):
        if word in output:
            rest = {key: value for key, value in output.items() if key != word}
            found = (mismatch(_both(rest, each), parameter) for each in output[word])
            return next((problem for problem in found if problem), None)
    return _first_problem(output, parameter)


class _Writing:
    """Counts what it writes: a few lines of references to references can stand for millions."""

    def __init__(self, root: object) -> None:
        self._root, self._nodes = root, 0

    def out(self, schema: object, within: tuple[str, ...], depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES or depth > DEEPEST:
            raise NotPlain("it is too large")
        if isinstance(schema, list):
            return [self.out(each, within, depth + 1) for each in schema]
        if not isinstance(schema, Mapping):
            return schema
        target = schema.get("$ref")
        left = {"$defs", "$ref"} if isinstance(target, str) else {"$defs"}
        plain = {key: self.out(value, within, depth + 1) for key, value in schema.items() if key not in left}
        if not isinstance(target, str):
            return plain
        if target in within:
            raise NotPlain(f"{target} refers to itself")
        found = self.out(_at(self._root, target), (*within, target), depth + 1)
        return {**plain, "allOf": [*plain.get("allOf", ()), found]} if plain else found


def _at(root: Any, pointer: str) -> object:
    if not pointer.startswith("#/"):
        raise NotPlain(f"{pointer} is not in it")
    for step in pointer.removeprefix("#/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(root, Mapping) or name not in root:
            raise NotPlain(f"{pointer} is not in it")
        root = root[name]
    return root


def _text(schema: Any) -> str:
    """To Python 1 is True; to a schema it is not."""
    return json.dumps(schema, sort_keys=True)


def _choices(output: Schema) -> list[Any] | None:
    """Return all values that fit, where there are few; they can be tried one by one."""
    if "const" in output:
        return [output["const"]]
    if "enum" in output:
        return list(output["enum"])
    small: dict[str, list[Any]] = {"boolean": [True, False], "null": [None]}
    return small.get(str(output.get("type")))


def _fits(value: Any, parameter: Any) -> bool:
    return json_schema.fits(parameter, value)


def _both(one: Any, other: Any) -> Any:
    """Return what is known of a value that fits both: where they speak of the same keyword, the other's alone."""
    if one is False or other is False:
        return False
    return {**({} if one is True else one), **({} if other is True else other)}


def _first_problem(output: Any, parameter: Schema) -> str | None:
    for each in output.get("allOf", ()):
        output = _both(output, each)
        if output is False:
            return None
    for word, rule in parameter.items():
        if word not in SAYS_NOTHING and (problem := _problem(word, rule, output, parameter)):
            return problem
    return None


def _problem(word: str, rule: Any, output: Schema, parameter: Schema) -> str | None:
    compare = COMPARED.get(word)
    if compare is not None:
        return compare(rule, output, parameter)
    known = RULES.get(word)
    if known is None:
        return f"what is said there with {word} cannot be compared"
    kind, holds = known
    if not any(_may_be(output, each) for each in kind.split()) or holds(rule, output):
        return None
    return f"it may break the rule {word}: {json.dumps(rule)}"


def _problem_of_all(rule: Any, output: Schema, _: Schema) -> str | None:
    return next((problem for each in rule if (problem := mismatch(output, each))), None)


def _problem_of_any(rule: Any, output: Schema, _: Schema) -> str | None:
    problems = [mismatch(output, each) for each in rule]
    return None if None in problems else problems[0]


def _types(output: Schema) -> frozenset[str]:
    said = output.get("type", EVERY_TYPE)
    return frozenset([said] if isinstance(said, str) else said)


def _may_be(output: Schema, kind: str) -> bool:
    return kind in _types(output)


def _problem_of_items(rule: Any, output: Schema, _: Schema) -> str | None:
    if not _may_be(output, "array"):
        return None
    if "prefixItems" in output:
        return "what is said there with prefixItems cannot be compared"
    return mismatch(output.get("items", True), rule)


def _problem_of_entries(_: Any, output: Schema, parameter: Schema) -> str | None:
    """Compare each entry that an object may have with what is said of it on the other side."""
    if not _may_be(output, "object"):
        return None
    if "patternProperties" in output:
        return "what is said there with patternProperties cannot be compared"
    given, taken = output.get("properties", {}), parameter.get("properties", {})
    others, other_rule = output.get("additionalProperties", True), parameter.get("additionalProperties", True)
    pairs: Iterator[tuple[Any, Any]] = (
        (given.get(name, others), taken.get(name, other_rule)) for name in {**given, **taken}
    )
    found = (mismatch(one, other) for one, other in (*pairs, (others, other_rule)))
    return next((problem for problem in found if problem), None)


def _type_holds(rule: Any, output: Schema) -> bool:
    allowed = {rule} if isinstance(rule, str) else set(rule)
    return _types(output) <= allowed | ({"integer"} if "number" in allowed else set())


def _at_least(*words: tuple[str, bool]) -> Callable[[Any, Schema], bool]:
    """Whether one of these keywords of the output is as large; the flag: it must be larger."""
    return lambda rule, output: any(
        word in output and (output[word] > rule or (not strict and output[word] == rule)) for word, strict in words
    )


def _at_most(*words: tuple[str, bool]) -> Callable[[Any, Schema], bool]:
    return lambda rule, output: any(
        word in output and (output[word] < rule or (not strict and output[word] == rule)) for word, strict in words
    )


def _same(word: str) -> Callable[[Any, Schema], bool]:
    return lambda rule, output: bool(output.get(word) == rule)


def _multiple_holds(rule: Any, output: Schema) -> bool:
    step = output.get("multipleOf", 1 if _types(output) & NUMBERS == {"integer"} else None)
    return isinstance(step, int) and isinstance(rule, int) and step % rule == 0  # of others rounding could err


COMPARED: dict[str, Callable[[Any, Schema, Schema], str | None]] = {
    # keyword -> why it might not hold, given its rule, the output's schema and the parameter's
    "allOf": _problem_of_all,
    "anyOf": _problem_of_any,
    "items": _problem_of_items,
    "properties": _problem_of_entries,
    "additionalProperties": _problem_of_entries,
}
RULES: dict[str, tuple[str, Callable[[Any, Schema], bool]]] = {
    # keyword -> the types of values it is about, and whether the output says as much
    "type": (" ".join(EVERY_TYPE), _type_holds),
    "minimum": ("integer number", _at_least(("minimum", False), ("exclusiveMinimum", False))),
    "maximum": ("integer number", _at_most(("maximum", False), ("exclusiveMaximum", False))),
    "exclusiveMinimum": ("integer number", _at_least(("exclusiveMinimum", False), ("minimum", True))),
    "exclusiveMaximum": ("integer number", _at_most(("exclusiveMaximum", False), ("maximum", True))),
    "multipleOf": ("integer number", _multiple_holds),
    "minLength": ("string", _at_least(("minLength", False))),
    "maxLength": ("string", _at_most(("maxLength", False))),
    "pattern": ("string", _same("pattern")),
    "minItems": ("array", _at_least(("minItems", False))),
    "maxItems": ("array", _at_most(("maxItems", False))),
    "uniqueItems": ("array", lambda rule, output: not rule or output.get("uniqueItems") is True),
    "minProperties": ("object", _at_least(("minProperties", False))),
    "maxProperties": ("object", _at_most(("maxProperties", False))),
    "required": ("object", lambda rule, output: set(rule) <= set(output.get("required", ()))),
    "enum": (" ".join(EVERY_TYPE), lambda rule, output: False),  # what has few values was tried above
    "const": (" ".join(EVERY_TYPE), lambda rule, output: False),
}
