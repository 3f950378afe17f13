"""What a task returns against what a later one takes: whatever is called compatible must always fit."""

from __future__ import annotations

from typing import Any

import pytest

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
