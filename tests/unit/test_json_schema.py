"""Schemas of strangers: checking by them ends, and says what is wrong."""

import time
from contextlib import suppress
from typing import Any

import pytest

from chargehand.catalog.catalog import check_parameters
from chargehand.catalog.json_schema import BadSchema, check_schema, errors, fits, validator
from chargehand.catalog.outputs import unfit
from chargehand.domain.errors import BadConfiguration, BadParameters
from tests.builders import make_spec

DOUBLING = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
EVIL = "^(a+)+$"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"$defs": {**DOUBLING, "d40": {}}, "$ref": "#/$defs/d0"},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"multipleOf": 1e-320},
    ],
)
def test_a_check_that_would_not_end_is_a_broken_schema_or_an_answer(schema: dict[str, Any]) -> None:
    started = time.process_time()
    with suppress(BadSchema):
        errors(validator(schema), 10**400)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "(?=a)"},
        {"patternProperties": {"(?!a)": {}}},
        {"items": {"properties": {"a": {"pattern": "["}}}},
        {"patternProperties": {"^a": {}}, "unevaluatedProperties": False},
        {"enum": [[0]] * 6_000},
        {"type": "text"},
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused_when_it_is_offered(schema: dict[str, Any]) -> None:
    with pytest.raises(BadSchema):
        check_schema(schema)


def test_depth_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(1_000):
        schema = {"items": schema}
    with pytest.raises(BadSchema, match="deep"):
        check_schema(schema)


@pytest.mark.parametrize(
    "schema", [{"pattern": EVIL}, {"propertyNames": {"pattern": EVIL}}, {"patternProperties": {EVIL: False}}]
)
def test_patterns_run_in_linear_time_wherever_they_stand(schema: dict[str, Any]) -> None:
    text = "a" * 50_000 + "!"
    started = time.process_time()
    errors(validator(schema), text)
    errors(validator({**schema, "additionalProperties": False}), {text: 1})
    assert time.process_time() - started < 1.0


def test_entries_are_compared_by_what_they_mean_and_once_each() -> None:
    unique = {"uniqueItems": True}
    assert fits(unique, [1, True, "1", [1], {"a": 1}])
    assert not fits(unique, [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}])
    started = time.process_time()
    assert fits(unique, [{"n": n} for n in range(20_000)])
    assert time.process_time() - started < 2.0, "comparing every pair takes minutes"


def test_unknown_names_are_found_beside_patterns() -> None:
    schema = {"properties": {"a": {}}, "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}
    assert fits(schema, {"a": 1, "x-b": 2})
    assert not fits(schema, {"b": 1})
    assert not fits(schema, {"x-b": "no"})
    assert not fits({"additionalProperties": {"type": "integer"}}, {"b": "no"})


def test_parameters_and_outputs_are_checked_by_it() -> None:
    spec = make_spec(parameters={"name": {"type": "string", "pattern": "^[a-z]+$"}})
    with pytest.raises(BadParameters, match="must match"):
        check_parameters(spec, {"name": "web\n"})
    with pytest.raises(BadConfiguration, match="cannot be run"):
        check_parameters(make_spec(parameters={"name": {"pattern": "(?=a)"}}), {"name": "a"})
    outputs = {"type": "object", "properties": {"url": {"type": "string", "pattern": EVIL}}}
    assert unfit(make_spec(outputs=outputs), {"url": "a" * 5_000 + "!"})


@pytest.mark.parametrize(
    "hosts", ["all", "web*", "a:b", "!x", "a,b", "~web.*", "web[1:3]", "&a", "", "ALL", ["web1", "*"]]
)
def test_a_pattern_for_hosts_is_refused(hosts: object) -> None:
    spec = make_spec(parameters={"host": {}, "port": {}}, exclusive_keys=("host:{host}",))
    with pytest.raises(BadParameters, match="name of a host"):
        check_parameters(spec, {"host": hosts})  # type: ignore[dict-item]


@pytest.mark.parametrize("host", ["web1", "db-1.example.org", "10.0.0.1", "fe80::1", "bücher.example", ["a", "b"]])
def test_names_and_addresses_of_hosts_are_taken(host: object) -> None:
    assert check_parameters(make_spec(parameters={"host": {}}), {"host": host})  # type: ignore[dict-item]


def test_what_would_lock_everything_is_refused() -> None:
    spec = make_spec(parameters={"a": {}, "b": {}}, exclusive_keys=("x:{a}:{b}",))
    with pytest.raises(BadParameters, match="would lock more"):
        check_parameters(spec, {"a": [str(n) for n in range(1_000)], "b": [str(n) for n in range(1_000)]})
    with pytest.raises(BadParameters, match="too long"):
        check_parameters(spec, {"a": "x" * 3_000, "b": ""})
