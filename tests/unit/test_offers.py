"""What an offer binds to, and what several offers of one intent come to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.catalog.catalog import unite
from chargehand.catalog.versions import Offered, conflict, differences, versions
from chargehand.domain.intents import NO_TERMS, IntentSpec, Resources
from chargehand.domain.risks import Risk
from tests.builders import make_spec

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SPEC = make_spec("restart_wiki")
OTHERWISE = {
    "intent": "restart_other",
    "work_type": "other",
    "agent_type": "desktop",
    "description": "other",
    "service": "wiki",
    "examples": ("other",),
    "parameters": {"type": "object", "properties": {"x": {}}},
    "outputs": {"type": "object"},
    "resources": Resources(cpu_cores=2),
    "variants": ({"name": "small", "resources": {}},),
    "risk": Risk.DESTROY,
    "retry_safe": True,
    "exclusive_keys": ("host:a",),
    "after": ("stop_wiki",),
    "state": ("files",),
    "dry_run": True,
    "deadlines": {"run_seconds": 5.0},
}
"""Another value for every term of `SPEC`."""


def changed(**fields: object) -> IntentSpec:
    return IntentSpec.model_validate({**SPEC.model_dump(), **fields})


def test_every_field_is_a_term_but_three() -> None:
    assert set(OTHERWISE) == set(IntentSpec.model_fields) - NO_TERMS
    assert set(SPEC.terms) == set(OTHERWISE)


@pytest.mark.parametrize("name", OTHERWISE)
def test_every_term_is_bound_with_the_content(name: str) -> None:
    other = changed(**{name: OTHERWISE[name]})
    assert other.bound_hash != SPEC.bound_hash
    assert differences(SPEC.terms, other.terms).startswith(name.replace("_", " "))


def test_the_content_is_bound_and_where_it_lies_is_not() -> None:
    assert changed(content_hash="other").bound_hash != SPEC.bound_hash
    assert changed(source="elsewhere", unavailable="needs node").bound_hash == SPEC.bound_hash
    assert changed(content_hash="other").terms == SPEC.terms


numbers = st.one_of(st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False))
schemas = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=100)
@given(st.dictionaries(st.text(), schemas, max_size=3))
def test_both_sides_find_the_same_hash_whatever_a_schema_holds(schema: dict[str, object]) -> None:
    """What an agent computes is what the orchestrator computes of what arrives."""
    spec = changed(parameters=schema)
    arrived = IntentSpec.model_validate_json(spec.model_dump_json())
    again = IntentSpec.model_validate(json.loads(json.dumps(arrived.model_dump(mode="json"), sort_keys=True)))
    assert spec.bound_hash == arrived.bound_hash == again.bound_hash


def test_as_it_is_registered_an_offer_names_its_agent_first() -> None:
    kept = changed(source="nas: /srv/wiki.yml").as_registered("mallory")
    assert kept.source == "mallory: nas: /srv/wiki.yml"
    assert kept.content_hash == SPEC.bound_hash
    assert changed(source="").as_registered("mallory").source == "mallory"


def offered(agent: str, days: int = 0, **fields: object) -> Offered:
    return Offered(changed(**fields).as_registered(agent), agent, NOW + timedelta(days=days))


def test_offers_that_say_the_same_are_one_version() -> None:
    same = [offered("b", 1, source="b.yml"), offered("a", 2, source="a.yml")]
    for offers in permutations(same):
        (version,) = versions(offers)
        assert (version.agents, version.spec.source) == (("a", "b"), "b: b.yml")
        assert conflict(offers) == ""
        assert unite(offers).versions == {}


def test_the_worst_risk_counts_for_every_version() -> None:
    offers = [offered("a"), offered("b", risk=Risk.DESTROY, content_hash="b"), offered("c", risk=Risk.READ)]
    for order in permutations(offers):
        found = versions(order)
        assert {version.spec.risk for version in found} == {Risk.DESTROY}
        assert found[0].agents == ("b",), "the worst comes first: nothing that is less dangerous is bound to"
    unfit = [offered("a", risk=Risk.DESTROY, unavailable="needs node"), offered("b", 1, risk=Risk.READ)]
    assert versions(unfit)[0].agents == ("b",)
    assert versions(unfit)[0].spec.risk is Risk.DESTROY, "also where it cannot be done now"


def test_who_was_granted_it_first_is_planned_by_first() -> None:
    offers = [offered("z", 1, content_hash="f" * 64), offered("a", 2, content_hash="0" * 64)]
    for order in permutations(offers):
        assert [version.agents for version in versions(order)] == [("z",), ("a",)]
        assert unite(order).specs[0].source == "z: restart_wiki.yml"
        words = "z and a (what would run is not the same) offer it differently"
        assert unite(order).contested == {"restart_wiki": words}


def test_the_version_to_plan_by_is_one_that_somebody_has_who_is_there() -> None:
    first, second = offered("z", 1, content_hash="first").spec, offered("a", 2, content_hash="second").spec
    catalog = unite([Offered(second, "a", NOW), Offered(first, "z", NOW - timedelta(days=1))])
    a, z = second.content_hash, first.content_hash
    for there, expected in ((set[str](), first), ({a}, second), ({a, z}, first)):
        assert catalog.offered_as("restart_wiki", there) == expected
    assert catalog.offered_as("unknown", {a}) is None


def test_words_about_offers_hold_nothing_that_steers_a_terminal_and_are_short() -> None:
    text = conflict([offered("a"), offered("b", description="\x1b[2J" + "x" * 5_000)])
    assert text.isprintable()
    assert len(text) < 200
    many = [offered(f"a-{n}") for n in range(50)] + [offered("b", risk=Risk.READ)]
    assert "a-0, a-1, a-10, 47 more and b" in conflict(many)
