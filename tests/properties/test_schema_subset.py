"""Whatever is called compatible always fits: drawn schemas and values, tried with a validator."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chargehand.catalog.schema_subset import mismatch

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


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, SCHEMAS, VALUES, st.randoms(use_true_random=False), st.booleans())
def test_whatever_fits_the_output_fits_the_parameter(
    output: Any, other: Any, value: Any, chance: random.Random, related: bool
) -> None:
    parameter = _looser(output, chance) if related else other
    if mismatch(output, parameter) is None and Draft202012Validator(output).is_valid(value):
        assert Draft202012Validator(parameter).is_valid(value)
