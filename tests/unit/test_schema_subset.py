"""What a task returns against what a later one takes: whatever is called compatible must always fit."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chargehand.catalog.schema_subset import MOST_NODES, NotPlain, mismatch, written_out

TEXT, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
URL = {"type": "string", "pattern": "^https?://"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
PORTALS = {
    "type": "array",
    "items": {"type": "object", "properties": {"name": TEXT, "port": PORT}, "required": ["name"]},
}


@pytest.mark.parametrize(
    ("output", "parameter"),
    [
        (TEXT, TEXT),
        (TEXT, {}),
        (TEXT, True),
        (INTEGER, NUMBER),
        (URL, TEXT),
        (URL, {**URL, "description": "where it answers", "format": "uri"}),
        (PORT, {"type": "integer", "minimum": 0}),
        (PORT, {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 65536}),
        ({"type": "integer", "multipleOf": 10}, {"type": "integer", "multipleOf": 5}),
        ({"enum": ["http", "https"]}, {"type": "string", "maxLength": 5}),
        ({"const": 80}, PORT),
        ({"type": "boolean"}, {"type": ["boolean", "null"]}),
        (TEXT, {"anyOf": [TEXT, {"type": "null"}]}),
        ({"anyOf": [PORT, {"const": 0}]}, {"type": "integer", "maximum": 65535}),
        (TEXT, {"minimum": 5}),  # it is about numbers only
        (PORTALS, {"type": "array", "items": {"type": "object"}}),
        (PORTALS, {"type": "array", "items": {"type": "object", "required": ["name"]}}),
        ({"allOf": [PORT, {"description": "of the web server"}]}, PORT),
        (
            {"type": "object", "properties": {"port": PORT}, "additionalProperties": False},
            {"type": "object", "additionalProperties": INTEGER},
        ),
    ],
)
def test_what_always_fits_is_compatible(output: Any, parameter: Any) -> None:
    assert mismatch(output, parameter) is None


@pytest.mark.parametrize(
    ("output", "parameter", "reason"),
    [
        (TEXT, INTEGER, 'it may break the rule type: "integer"'),
        (NUMBER, INTEGER, 'it may break the rule type: "integer"'),
        ({}, TEXT, 'it may break the rule type: "string"'),
        (TEXT, URL, 'it may break the rule pattern: "^https?://"'),
        (INTEGER, PORT, "it may break the rule minimum: 1"),
        ({"type": ["string", "null"]}, TEXT, 'it may break the rule type: "string"'),
        ({"enum": ["http", "ftp"]}, {"enum": ["http", "https"]}, 'it may be "ftp"'),
        ({"const": 1}, {"const": True}, "it may be 1"),
        (TEXT, {"enum": ["http"]}, 'it may break the rule enum: ["http"]'),
        ({"anyOf": [TEXT, INTEGER]}, TEXT, 'it may break the rule type: "string"'),
        (TEXT, {"not": {"const": "x"}}, "what is said there with not cannot be compared"),
        (PORTALS, {"type": "array", "items": {"required": ["port"]}}, 'it may break the rule required: ["port"]'),
        (
            {"type": "object", "properties": {"port": PORT}},
            {"type": "object", "properties": {"port": PORT}, "additionalProperties": False},
            "nothing fits there",
        ),
        ({"type": "object"}, {"type": "object", "properties": {"a": TEXT}}, 'it may break the rule type: "string"'),
        (
            {"type": "object", "patternProperties": {"^x": INTEGER}, "additionalProperties": False},
            {"type": "object", "additionalProperties": TEXT},
            "what is said there with patternProperties cannot be compared",
        ),
        (
            {"properties": {"a": {"const": 1}}, "type": "object"},
            {"properties": {"a": {"const": True}}, "type": "object"},
            "it may be 1",
        ),
    ],
)
def test_what_may_not_fit_is_named(output: Any, parameter: Any, reason: str) -> None:
    assert mismatch(output, parameter) == reason


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.sampled_from([0.5, 2.0, 7.5])
    | st.sampled_from(["", "a", "abcd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=4,
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "minimum": st.integers(-2, 9), "maximum": st.integers(0, 12), "exclusiveMinimum": st.integers(-2, 9),
        "exclusiveMaximum": st.integers(0, 12), "multipleOf": st.sampled_from([1, 2, 4]),
        "minLength": st.integers(0, 3), "maxLength": st.integers(1, 4), "pattern": st.sampled_from(["^a", "b"]),
        "minItems": st.integers(0, 2), "maxItems": st.integers(0, 3), "uniqueItems": st.booleans(),
        "minProperties": st.integers(0, 2), "maxProperties": st.integers(0, 3),
        "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
    },
)  # fmt: skip
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
KINDS = st.fixed_dictionaries({}, optional={"type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True)})
CHOICES = st.fixed_dictionaries({"enum": st.lists(VALUES, min_size=1, max_size=3)}) | st.fixed_dictionaries(
    {"const": VALUES}
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    entries = st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    parts = st.fixed_dictionaries(
        {},
        optional={
            "items": inner, "properties": entries, "additionalProperties": inner, "patternProperties": entries,
            "prefixItems": st.lists(inner, min_size=1, max_size=2), "not": inner,
            **{word: st.lists(inner, min_size=1, max_size=2) for word in ("anyOf", "oneOf", "allOf")},
        },
    )  # fmt: skip
    return st.builds(lambda *found: {k: v for each in found for k, v in each.items()}, KINDS, RULES, parts)


SCHEMAS = st.recursive(
    st.booleans() | CHOICES | st.builds(lambda one, other: {**one, **other}, KINDS, RULES), _larger, max_leaves=4
)


def _looser(schema: Any, chance: random.Random) -> Any:
    """A schema that takes more: compatible pairs are rare among unrelated ones."""
    if not isinstance(schema, dict):
        return schema
    return {key: _looser(value, chance) for key, value in schema.items() if chance.random() < 0.7}


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, SCHEMAS, VALUES, st.randoms(use_true_random=False), st.booleans())
def test_whatever_fits_the_output_fits_the_parameter(
    output: Any, other: Any, value: Any, chance: random.Random, related: bool
) -> None:
    parameter = _looser(output, chance) if related else other
    if mismatch(output, parameter) is None and Draft202012Validator(output).is_valid(value):
        assert Draft202012Validator(parameter).is_valid(value)


def test_references_are_replaced_by_what_they_refer_to() -> None:
    root = {"$defs": {"Port": PORT, "Ports": {"type": "array", "items": {"$ref": "#/$defs/Port"}}}}
    assert written_out({"$ref": "#/$defs/Ports"}, root) == {"type": "array", "items": PORT}
    described = written_out({"$ref": "#/$defs/Port", "description": "its port"}, root)
    assert mismatch(PORT, described) is None
    assert mismatch(described, PORT) is None
    assert written_out({"properties": {"definitions": TEXT, "$ref": TEXT}}, {}) == {
        "properties": {"definitions": TEXT, "$ref": TEXT}
    }


@pytest.mark.parametrize(
    "root",
    [
        {"$defs": {"A": {"items": {"$ref": "#/$defs/A"}}}},
        {"$defs": {"A": {"$ref": "https://example.org/schema"}}},
        {"$defs": {"A": {"$ref": "#/$defs/Z"}}},
        {"$defs": {"A": {"allOf": [{"$ref": "#/$defs/B"}] * 10}, "B": {"allOf": [{"$ref": "#/$defs/C"}] * 10},
                   "C": {"allOf": [TEXT] * (MOST_NODES // 100)}}},
    ],
)  # fmt: skip
def test_what_refers_outside_in_a_circle_or_to_millions_is_not_read(root: Any) -> None:
    with pytest.raises(NotPlain):
        written_out({"$ref": "#/$defs/A"}, root)
