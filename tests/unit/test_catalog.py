"""The catalog: one answer to "what can be asked for", and the check of untrusted parameters."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.catalog.catalog import check_parameters, exclusive_keys, merge, missing_parameters
from chargehand.domain.errors import BadConfiguration, BadParameters
from tests.builders import make_catalog, make_spec

PORT = {"type": "integer", "minimum": 1, "maximum": 65535, "default": 3001}
PAGE = make_spec(
    "deploy_status_page",
    parameters={
        "type": "object",
        "properties": {
            "status_page_port": PORT,
            "host": {"type": "string"},
            "level": {"enum": ["low", "high"]},
            "retries": {"anyOf": [{"type": "integer", "maximum": 5}, {"type": "null"}], "default": None},
            "password": {"type": "string", "minLength": 8, "writeOnly": True},
        },
        "required": ["host"],
    },
)


def test_defaults_are_filled_in():
    checked = check_parameters(PAGE, {"host": "alpha"})
    assert checked == {"host": "alpha", "status_page_port": 3001, "retries": None}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"host": "a", "status_page_port": 70000}, "status_page_port must be at most 65535 (it is 70000)"),
        ({"host": "a", "status_page_port": "80"}, 'status_page_port must be of type integer (it is "80")'),
        ({"host": "a", "level": "mid"}, 'level must be one of low, high (it is "mid")'),
        ({"host": "a", "retries": 9}, "retries must be at most 5 (it is 9)"),
        ({"host": "a", "password": "hunter2"}, "password must have at least 8 characters (its value is not shown)"),
        ({"host": "a", "prot": 1}, "deploy_status_page takes no parameter prot"),
        ({}, "host is missing"),
        ({"host": "a\0b"}, "host holds a value that is not valid JSON"),
        ({"host": "\ud800"}, "host holds a value that is not valid JSON"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_allowed(parameters, message):
    with pytest.raises(BadParameters) as caught:
        check_parameters(PAGE, parameters)
    assert str(caught.value) == message
    assert "status_page_port (integer, from 1, to 65535, default 3001); host (string, required)" in caught.value.hint
    assert "retries (integer, to 5, default null)" in caught.value.hint


def test_every_problem_is_told_at_once():
    with pytest.raises(BadParameters, match=r"level must be .*; status_page_port must be at least 1 \(it is 0\)"):
        check_parameters(PAGE, {"host": "a", "status_page_port": 0, "level": "mid"})


def test_an_intent_without_parameters_says_so():
    with pytest.raises(BadParameters) as caught:
        check_parameters(make_spec(), {"host": "a"})
    assert caught.value.hint == "deploy_service_a takes no parameters."


def test_a_nested_parameter_is_named_by_its_path():
    item = {"type": "object", "required": ["url"], "properties": {"url": {"type": "string"}}}
    spec = make_spec(parameters={"portals": {"type": "array", "items": item}})
    with pytest.raises(BadParameters, match=r"^portals\.1\.url is missing$"):
        check_parameters(spec, {"portals": [{"url": "http://a"}, {}]})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_the_database_would_refuse_are_refused(number):
    with pytest.raises(BadParameters, match="not valid JSON"):
        check_parameters(make_spec(parameters={"share": {"type": "number"}}), {"share": number})


def test_a_long_or_unprintable_value_is_cut_in_the_message():
    with pytest.raises(BadParameters) as caught:
        check_parameters(PAGE, {"host": "a", "status_page_port": "\x1b[31m" + "x" * 5_000, "\x1b[2J": 1})
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "schema", [{"$ref": "http://127.0.0.1:9/outside.json"}, {"type": "nonsense"}, {"type": "string", "pattern": "("}]
)
def test_a_broken_schema_is_its_authors_fault_and_fetches_nothing(schema):
    with pytest.raises(BadConfiguration, match="the parameter schema of deploy_service_a is broken"):
        check_parameters(make_spec(parameters={"a": schema}), {"a": "x"})


def test_a_schema_may_refer_to_itself_and_allow_more():
    spec = make_spec(
        parameters={
            "properties": {"port": {"$ref": "#/$defs/port"}},
            "$defs": {"port": PORT},
            "additionalProperties": {"type": "string"},
        }
    )
    assert check_parameters(spec, {"port": 1, "any": "text"}) == {"port": 1, "any": "text"}
    with pytest.raises(BadParameters, match=r"^port must be at most 65535"):
        check_parameters(spec, {"port": 70000})


def test_missing_parameters_are_the_required_ones_without_a_default():
    schema = {"properties": {"a": {}, "b": {"default": 1}, "c": {}}, "required": ["c", "b", "a"]}
    assert missing_parameters(make_spec(parameters=schema), {"a": 1}) == ("c",)
    assert missing_parameters(make_spec(), {}) == ()


def test_exclusive_keys_have_their_slots_filled_in():
    spec = make_spec(exclusive_keys=("service:page", "host:{host}", "port:{port}"))
    assert exclusive_keys(spec, {"host": "alpha", "port": 80}) == ("host:alpha", "port:80", "service:page")


def test_a_list_gives_one_exclusive_key_per_element_and_an_open_slot_stays():
    spec = make_spec(exclusive_keys=("host:{hosts}", "file:{path}"))
    assert exclusive_keys(spec, {"hosts": ["b", "a", "b"]}) == ("file:{path}", "host:a", "host:b")


def test_a_slot_is_a_name_not_a_format_expression():
    spec = make_spec(exclusive_keys=("{host.__class__}", "{0}", "{host}"))
    assert exclusive_keys(spec, {"host": "{port}", "port": 1}) == ("{0}", "{host.__class__}", "{port}")


def test_an_available_offer_wins_then_the_first_by_content_hash():
    broken = make_spec(content_hash="a", unavailable="needs node")
    first, second = make_spec(content_hash="b"), make_spec(content_hash="c")
    for offers in permutations([broken, second, first]):
        assert merge(offers).specs == (first,)
    assert merge([broken]).get("deploy_service_a") == broken


@settings(max_examples=20)
@given(st.permutations(["deploy_a", "deploy_b", "restart_c", "check_d"]))
def test_the_digest_does_not_depend_on_the_order_of_offers(names):
    catalog = make_catalog(*names)
    assert catalog.intents == ("check_d", "deploy_a", "deploy_b", "restart_c")
    assert catalog.digest == make_catalog("deploy_a", "deploy_b", "restart_c", "check_d").digest


def test_the_digest_changes_with_any_offer():
    assert make_catalog("deploy_a").digest != make_catalog(make_spec("deploy_a", risk="read")).digest
    assert merge([]).digest != make_catalog("deploy_a").digest


def test_an_unknown_intent_is_none():
    assert make_catalog("deploy_a").get("deploy_b") is None
