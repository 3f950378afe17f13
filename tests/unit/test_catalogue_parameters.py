"""Parameters taken from the words: only what is said, in the unit and the range of the schema."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from chargehand.domain.intents import IntentSpec
from chargehand.llm.catalogue_match.parameters import Found, extract
from chargehand.llm.catalogue_match.profiles import profile
from chargehand.llm.catalogue_match.words import tokens

TEXT: dict[str, JsonValue] = {"type": "string"}


def found(words: str, *examples: str, **properties: dict[str, JsonValue]) -> Found:
    spec = IntentSpec(
        intent="do_work",
        work_type="custom_work",
        examples=examples,
        parameters={"type": "object", "properties": dict(properties)},
    )
    return extract(profile(spec), tokens(words))


def number(**rules: JsonValue) -> dict[str, JsonValue]:
    return {"type": "integer", **rules}


def test_slots_of_the_examples_come_first() -> None:
    got = found("please bounce nginx on web-1", "restart {service} on {host}", service=TEXT, host=TEXT)
    assert got.values == {"service": "nginx", "host": "web-1"}


@pytest.mark.parametrize(
    ("words", "properties", "expected"),
    [
        ("deploy kuma on port 8421", {"port": number()}, {"port": 8421}),
        ("deploy kuma with port=8421", {"port": number()}, {"port": 8421}),
        ("run 3 replicas", {"replicas": number()}, {"replicas": 3}),
        ("check https://a.example/x", {"url": TEXT}, {"url": "https://a.example/x"}),
        ("wait 2 minutes", {"timeout_seconds": number()}, {"timeout_seconds": 120}),
        ("give it 2 GB", {"memory_mb": number()}, {"memory_mb": 2048}),
        ("warn at 90%", {"threshold": number(description="percent in use")}, {"threshold": 90}),
        ("use a red theme", {"theme": {"enum": ["red", "dark blue"]}}, {"theme": "red"}),
        ("make it dark blue", {"theme": {"enum": ["red", "dark blue"]}}, {"theme": "dark blue"}),
        ("restore /srv/dump.sql", {"file": TEXT}, {"file": "/srv/dump.sql"}),
        ('title it "My page"', {"title": TEXT}, {"title": "My page"}),
        ("create a user called anna", {"name": TEXT}, {"name": "anna"}),
        ("reboot the machine on atlas", {"host": TEXT}, {"host": "atlas"}),
        ("probe a.example:80", {"endpoint": TEXT}, {"endpoint": "a.example:80"}),
        ("check web-1 and web-2", {"hosts": {"type": "array", "items": TEXT}}, {"hosts": ["web-1", "web-2"]}),
        ("install it with force", {"force": {"type": "boolean"}}, {"force": True}),
    ],
)
def test_values_are_found_by_kind_and_name(
    words: str, properties: dict[str, dict[str, JsonValue]], expected: dict[str, JsonValue]
) -> None:
    assert found(words, **properties).values == expected


@pytest.mark.parametrize(
    ("words", "examples", "properties"),
    [
        ("restart nginx 3 times", (), {"port": number()}),  # a number of something else
        ("deploy kuma on the server", (), {"host": TEXT}),  # no name
        ("open it on the firewall", (), {"host": TEXT}),  # a thing, no machine
        ("restart everything", ("restart {service}",), {"service": TEXT}),
        ("restart it", ("restart {service}",), {"service": TEXT}),
        ("restart my big thing", ("restart {service}",), {"service": TEXT}),
        ("reboot nginx", ("reboot {host}",), {"host": TEXT}),  # a plain word may be a service
        ("copy a.example b.example", (), {"source": TEXT, "target": TEXT}),  # which is which
        ("wait 5 minutes", (), {"timeout": number()}),  # in what unit the parameter is nobody knows
        ("use a green theme", (), {"theme": {"enum": ["red"]}}),
    ],
)
def test_nothing_is_invented(
    words: str, examples: tuple[str, ...], properties: dict[str, dict[str, JsonValue]]
) -> None:
    assert found(words, *examples, **properties).values == {}


def test_like_parameters_are_told_apart_by_their_own_words() -> None:
    ports = {"dashboard_port": number(), "library_port": number()}
    examples = ("run the library on port {library_port}", "run the dashboard on port {dashboard_port}")
    assert found("run the library on port 8555", *examples, **ports).values == {"library_port": 8555}
    assert found("run it on port 8555", *examples, **ports).values == {}


def test_a_value_out_of_range_is_said_not_used() -> None:
    got = found("deploy kuma on port 99999", port=number(maximum=65535))
    assert got.values == {}
    assert got.refused == ["port cannot be 99999"]
