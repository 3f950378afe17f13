"""References in the place of secrets: where they are taken, where values are refused, and where they are filled in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, JsonValue, SecretStr

from chargehand.agent import secret
from chargehand.agents.infra.configure import SPEC as ADD_CONFIGURATION
from chargehand.agents.infra.headers import BadHeader, parse
from chargehand.catalog.catalog import check_parameters, exclusive_keys, missing_parameters
from chargehand.cli.show.plan import parameters as plan_text
from chargehand.domain import secret_refs
from chargehand.domain.errors import BadParameters, TaskFailed
from chargehand.domain.intents import IntentSpec
from chargehand.llm.catalogue_match.parameters import extract
from chargehand.llm.catalogue_match.profiles import profile
from chargehand.llm.catalogue_match.words import tokens
from tests.builders import make_spec

SECRET: dict[str, JsonValue] = {"type": "string", "format": "secret", "writeOnly": True}
REFERENCE: JsonValue = {"secret": "db_admin"}
VALUES = {"db_admin": "hunter2", "other": "correct horse"}


class Login(BaseModel):
    """What pydantic makes of the ways to declare a secret."""

    user: str
    password: SecretStr
    token: SecretStr | None = None
    pin: str = secret("db_admin", description="Of the safe")
    key: SecretStr = secret()


def spec(**properties: Any) -> IntentSpec:
    return make_spec(parameters={"type": "object", "properties": properties})


@pytest.mark.parametrize(
    "value", ["hunter2", 4711, {"secret": "Not a name"}, {"secret": "a", "b": 1}, ["hunter2"], None]
)
def test_a_value_in_the_place_of_a_reference_is_refused_and_not_repeated(value: JsonValue) -> None:
    schema: dict[str, JsonValue] = {**SECRET, "minLength": 40, "pattern": "^x"}
    with pytest.raises(BadParameters) as caught:
        check_parameters(spec(password=schema), {"password": value})
    assert str(caught.value).startswith("password takes a reference to a secret, not a value: say secret:NAME")
    for told in (str(caught.value), caught.value.hint):
        assert "hunter2" not in told
        assert "4711" not in told
        assert "Not a name" not in told


def test_a_reference_is_taken_whatever_the_rules_for_the_value() -> None:
    schema: dict[str, JsonValue] = {**SECRET, "minLength": 40, "default": {"secret": "grafana_admin"}}
    assert check_parameters(spec(password=schema), {"password": REFERENCE}) == {"password": REFERENCE}
    assert check_parameters(spec(password=schema), {}) == {"password": {"secret": "grafana_admin"}}
    required = make_spec(parameters={"properties": {"password": schema}, "required": ["password"]})
    assert missing_parameters(required, {}) == ()


def test_values_near_a_secret_are_not_repeated_either() -> None:
    odd = spec(login={"type": "object", "properties": {"password": SECRET}, "maxProperties": 1})
    with pytest.raises(BadParameters) as caught:
        check_parameters(odd, {"login": {"password": "hunter2", "x": "hunter2"}})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(BadParameters, match="its value is not shown"):
        check_parameters(ADD_CONFIGURATION, {"file": "a.yml", "values": "hunter2"})


@pytest.mark.parametrize("field", ["password", "token", "pin", "key"])
def test_fields_of_pydantic_models_take_references_only(field: str) -> None:
    offered = make_spec(parameters=Login.model_json_schema())
    good: dict[str, JsonValue] = {"user": "ann", "password": REFERENCE, "key": REFERENCE}
    assert check_parameters(offered, good)["pin"] == {"secret": "db_admin"}
    assert set(missing_parameters(offered, {})) == {"user", "password", "key"}
    assert check_parameters(offered, {**good, field: {"secret": "other"}})[field] == {"secret": "other"}
    with pytest.raises(BadParameters, match=f"^{field} takes a reference"):
        check_parameters(offered, {**good, field: "hunter2"})


def test_a_default_that_no_agent_looked_up_is_no_value() -> None:
    with pytest.raises(TaskFailed, match="db_admin was not looked up"):
        Login.model_validate({"user": "ann", "password": "x", "key": "y"})


def test_references_are_filled_in_where_the_schema_has_a_place_for_them() -> None:
    schema = {
        "properties": {
            "password": SECRET,
            "note": {"type": "object"},
            "logins": {"type": "array", "items": {"$ref": "#/$defs/login"}},
            "pair": {"prefixItems": [{}, SECRET]},
            "config": {"type": "object", "holdsSecrets": True},
            "more": {"type": "object", "additionalProperties": {"anyOf": [SECRET, {"type": "null"}]}},
        },
        "$defs": {"login": {"properties": {"password": {"allOf": [SECRET]}, "again": {"$ref": "#/$defs/login"}}}},
    }
    other = {"secret": "other"}
    given: Any = {
        "password": REFERENCE,
        "note": REFERENCE,
        "logins": [{"password": other, "again": {"password": REFERENCE}}],
        "pair": [other, other],
        "config": {"smtp": {"password": other}, "list": [REFERENCE, {"secret": "No Name"}], "secret": "kept", "n": 1},
        "more": {"x": other, "y": None},
    }
    assert secret_refs.filled_in(schema, given, VALUES.__getitem__) == {
        "password": "hunter2",
        "note": REFERENCE,
        "logins": [{"password": "correct horse", "again": {"password": "hunter2"}}],
        "pair": [other, "correct horse"],
        "config": {
            "smtp": {"password": "correct horse"},
            "list": ["hunter2", {"secret": "No Name"}],
            "secret": "kept",
            "n": 1,
        },
        "more": {"x": "correct horse", "y": None},
    }
    assert secret_refs.names(schema, given) == ("db_admin", "other")


@pytest.mark.parametrize(
    ("schema", "takes"),
    [
        ({"properties": {"a": {"type": "string", "writeOnly": True}}}, False),
        ({"properties": {"format": {"const": "secret"}, "holdsSecrets": {"type": "boolean"}}}, False),
        ({"properties": {"a": {"items": {"format": "secret"}}}}, True),
        (ADD_CONFIGURATION.parameters, True),
        (Login.model_json_schema(), True),
    ],
)
def test_an_offer_says_whether_it_takes_secrets(schema: dict[str, Any], takes: bool) -> None:
    assert secret_refs.takes_secrets(schema) is takes


def test_a_schema_that_goes_in_circles_ends() -> None:
    schema: dict[str, Any] = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}
    assert secret_refs.names(schema, {"x": REFERENCE}) == ()
    assert secret_refs.names({"properties": {"x": {"$ref": "#/nowhere/at/all"}}}, {"x": REFERENCE}) == ()


def test_a_plan_shows_a_reference_as_people_say_it() -> None:
    assert plan_text({"password": REFERENCE, "config": {"a": REFERENCE}}) == (
        'password = secret:db_admin, config = {"a": {"secret": "db_admin"}}'
    )


def test_an_exclusive_key_may_name_a_secret() -> None:
    offered = make_spec(exclusive_keys=("login:{password}",), parameters={"properties": {"password": SECRET}})
    assert exclusive_keys(offered, {"password": REFERENCE}) == ('login:{"secret": "db_admin"}',)


# --- headers ---------------------------------------------------------------------------------------------------------


def header(parameter: str) -> str:
    return f"# chargehand:\n#   intent: deploy_it\n#   parameters:\n#     password: {parameter}\n- hosts: localhost\n"


@pytest.mark.parametrize(
    ("parameter", "schema"),
    [
        ("{secret: true}", SECRET),
        ("{type: string, format: secret}", SECRET),
        (
            "{secret: true, default_secret: db_admin, description: Of the database}",
            {**SECRET, "default": REFERENCE, "description": "Of the database"},
        ),
        ("{type: object, holds_secrets: true}", {"type": "object", "holdsSecrets": True}),
        ("{type: object, secret: false}", {"type": "object"}),
    ],
)
def test_a_header_marks_a_secret(parameter: str, schema: dict[str, JsonValue]) -> None:
    read = parse(header(parameter), "it.yml", "playbook")
    assert read is not None
    assert read.spec.parameters["properties"] == {"password": schema}


@pytest.mark.parametrize(
    ("parameter", "problem"),
    [
        ("{secret: true, default: hunter2}", "is a secret and cannot have 'default'"),
        ("{secret: true, enum: [hunter2]}", "is a secret and cannot have 'enum'"),
        ("{secret: true, type: integer}", "its type can only be string"),
        ("{secret: true, default_secret: Hunter 2}", "default_secret must be the name of a secret"),
        ("{type: string, default_secret: db_admin}", "default_secret is for parameters with secret: true"),
        ("{secret: 'yes', type: string}", "secret must be true or false"),
        ("{secret: false}", "at least a type, or secret: true"),
    ],
)
def test_a_header_that_gives_a_secret_away_is_refused(parameter: str, problem: str) -> None:
    with pytest.raises(BadHeader, match=problem) as caught:
        parse(header(parameter), "it.yml", "playbook")
    assert "hunter" not in str(caught.value).lower()


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("deploy grafana with password secret:grafana_admin on port 3000", {"port": 3000, "password": "grafana_admin"}),
        ("deploy grafana with secret:Grafana_Admin", {"password": "grafana_admin"}),
        ("deploy grafana, password: secret:a", {"password": "a"}),
        ("deploy grafana with password hunter2", {}),
        ('deploy grafana with password "hunter2"', {}),
        ("deploy grafana with password=hunter2", {}),
        ("deploy grafana with secret:ſ", {}),
    ],
)
def test_only_a_reference_is_taken_from_words(words: str, expected: dict[str, Any]) -> None:
    offered = IntentSpec(
        intent="deploy_grafana",
        work_type="deploy_service",
        examples=("deploy grafana", "deploy grafana with password {password}"),
        parameters={"type": "object", "properties": {"port": {"type": "integer"}, "password": SECRET}},
    )
    found = extract(profile(offered), tokens(words))
    wanted = {name: {"secret": value} if name == "password" else value for name, value in expected.items()}
    assert found.values == wanted
    assert "hunter2" not in " ".join(found.refused)


def test_what_a_model_wrote_is_kept_without_the_values_of_secrets() -> None:
    schema = {
        "type": "object",
        "properties": {"password": SECRET, "login": {"properties": {"pin": SECRET}}, "host": {}},
    }
    answer: JsonValue = {
        "subtasks": [
            {"parameters": {"password": "hunter2", "host": "hunter2.example", "login": {"pin": 1234, "user": "ann"}}},
            {"parameters": {"password": {"secret": "db_admin"}}, "words": "with hunter2 as ever"},
        ],
        "password": ["in the wrong place"],
    }
    assert secret_refs.without_values(answer, [schema, {}, True]) == {
        "subtasks": [
            {"parameters": {"password": "***", "host": "***.example", "login": {"pin": "***", "user": "***"}}},
            {"parameters": {"password": {"secret": "db_admin"}}, "words": "with *** as ever"},
        ],
        "password": ["***"],
    }
