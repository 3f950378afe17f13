"""Places, exceptions and quantities of a request: consumed by the plan, narrowed to, or asked about; for every tier."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.catalog.targets import targeted
from chargehand.domain.hosts import Limit, Targets, hosts_of
from chargehand.domain.intents import IntentSpec
from chargehand.domain.llm import Reply
from chargehand.domain.plans import DecomposedRequest
from chargehand.understanding.mentions import Kind, mentions
from chargehand.understanding.nlu import Thresholds, read_reply
from chargehand.understanding.questions import build_ask
from tests.builders import make_catalog, make_id

ALL = hosts_of(["db1", "web1", "web2"])
GROUPS = {"web": hosts_of(["web1", "web2"]), "db": hosts_of(["db1"])}
UPDATE = IntentSpec(
    intent="update_servers",
    work_type="run_playbook",
    description="Update all servers",
    targets=Targets(always=ALL, groups=GROUPS),
)
RENEW = IntentSpec(
    intent="renew_certificates",
    work_type="run_playbook",
    description="Renew the certificates",
    targets=Targets(always=GROUPS["web"], groups={"web": GROUPS["web"]}),
)
REBOOT = IntentSpec(intent="reboot_nodes", work_type="custom_work", description="Reboot the nodes")


def texts(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


DEPLOY = IntentSpec(
    intent="deploy_service",
    work_type="deploy_service",
    description="Deploy a service on the docker host",
    examples=("deploy Grafana on the docker host",),
    parameters=texts(
        service={"type": "string"},
        port={"type": "integer"},
        environment={"type": "string", "enum": ["staging", "production"]},
        wait_seconds={"type": "integer", "default": 30},
        exclude={"type": "array", "items": {"type": "string"}},
        restart={"type": "boolean"},
        replicas={"type": "integer"},
    ),
)
CATALOG = make_catalog(UPDATE, RENEW, REBOOT, DEPLOY)


def read(text: str, *steps: dict[str, Any] | str, tier: str = "local", **rest: Any) -> DecomposedRequest:
    """What a tier makes of a request: intents, or subtasks in part."""
    given = [step if isinstance(step, dict) else {"intent": step} for step in steps]
    value = {
        "subtasks": [{"order": n, "name": s["intent"], "confidence": 0.97, **s} for n, s in enumerate(given, 1)],
        **rest,
    }
    reply = Reply(tier=tier, model="m", value=value)
    return read_reply(reply, build_ask(make_id("request"), text, CATALOG), Thresholds())


def hosts(got: DecomposedRequest, place: int = 0) -> list[str]:
    """The hosts that a step of the plan would be for."""
    task = got.subtasks[place]
    spec = CATALOG.get(task.intent)
    assert spec is not None
    return [name for part in targeted(spec, task.parameters, task.limit) for name in part.names]


@pytest.mark.parametrize("tier", ["local", "external", "embedded"])
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Run the update playbook on web1", ["web1"]),
        ("update web1", ["web1"]),
        ("please update web1 and web2", ["web1", "web2"]),
        ("update web-1, web2 and db1", ["db1", "web1", "web2"]),
        ("run the updates for host db1", ["db1"]),
        ("update the web servers", ["web1", "web2"]),
        ("run the updates on web", ["web1", "web2"]),
        ("run the updates on db and web", ["db1", "web1", "web2"]),
        ("on db1, run the updates", ["db1"]),
        ("update the servers, only db1", ["db1"]),
        ("update web1 only", ["web1"]),
        ("update everything except db1", ["web1", "web2"]),
        ("update all servers but not db1 and web2", ["web1"]),
        ("update all three servers", ["db1", "web1", "web2"]),
        ("update all servers", ["db1", "web1", "web2"]),
        ("update web1/db1", ["db1", "web1"]),
        ("update the webservers", ["web1", "web2"]),
        ("update the db", ["db1"]),
        ("update everything but db1", ["web1", "web2"]),
        ("update web1, not db1", ["web1"]),
        ("update web1 instead of web2", ["web1"]),
        ("do not touch web1, update the rest", ["db1", "web2"]),
        ("leave db1 alone and update the others", ["web1", "web2"]),
        ("don't update db1 but web1", ["web1"]),
        ("update all servers except db1 and restart nothing on web1", ["web1"]),
        ("web1 is not responding, update it", ["web1"]),
    ],
)
def test_a_step_is_limited_to_the_hosts_that_the_words_name(text: str, names: list[str], tier: str) -> None:
    got = read(text, "update_servers", tier=tier)
    assert (hosts(got), got.ambiguities) == (names, ())
    if len(names) < 3:
        assert any("the request says so" in line for line in got.assumptions)


@pytest.mark.parametrize("tier", ["local", "external", "embedded"])
@pytest.mark.parametrize(
    ("text", "intent", "part"),
    [
        ("run the updates on web9", "update_servers", "Write the name of a host: db1, web1, web2; a group: web, db"),
        ("update the servers in Berlin", "update_servers", "“Berlin” would be left out"),
        ("update 192.168.178.20", "update_servers", "192.168.178.20"),
        ("renew the certificates on db1", "renew_certificates", "db1 is none of the hosts that it is for"),
        ("update two of the servers", "update_servers", "“two” would be left out"),
        ("update all servers except web9", "update_servers", "web9 is none of the hosts"),
        ("update the servers without the old kernel", "update_servers", "without the old kernel"),
        ("update the servers only if they are idle", "update_servers", "if they are idle"),
        ("update half of the servers", "update_servers", "“half” would be left out"),
        ("update one server", "update_servers", "“one” would be left out"),
        ("update the Berlin servers", "update_servers", "“Berlin servers” would be left out"),
        ("update web1-web2", "update_servers", "web1-web2"),
        ("update web1 through web2", "update_servers", "web1 through web2"),
        ("update web*", "update_servers", "web*"),
        ("update localhost", "update_servers", "localhost"),
        ("update no server except web1", "update_servers", "except web1"),
        ("update all but one server", "update_servers", "but one server"),
        ("reboot node n1", "reboot_nodes", "n1"),
        ("reboot the nodes on fe80::1c2:ff:fe3a:77", "reboot_nodes", "fe80::1c2:ff:fe3a:77"),
        ("reboot 3 of the nodes", "reboot_nodes", "“3” would be left out"),
        ("reboot the nodes but not n2", "reboot_nodes", "but not n2"),
    ],
)
def test_what_nothing_consumes_is_a_question_whatever_the_tier_and_its_confidence(
    text: str, intent: str, part: str, tier: str
) -> None:
    got = read(text, intent, tier=tier)
    assert len(got.ambiguities) == 1
    assert part in got.ambiguities[0]


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("deploy grafana on the docker host", {"service": "grafana"}),
        ("deploy grafana on port 8421", {"service": "grafana", "port": 8421}),
        ("deploy grafana in staging and wait 2 minutes", {"environment": "staging", "wait_seconds": 120}),
        ("deploy grafana in production at 22:00", {"environment": "production"}),
        ("deploy grafana everywhere except on web9", {"exclude": ["web9"]}),
        ("deploy grafana without a restart", {"restart": False}),
        ("deploy grafana with two replicas in order to test", {"replicas": 2}),
        ("1. deploy grafana 2. deploy it again in the evening", {}),
        ("deploy grafana without delay", {}),
    ],
)
def test_what_a_parameter_or_the_offer_says_is_consumed(text: str, parameters: dict[str, Any]) -> None:
    assert read(text, {"intent": "deploy_service", "parameters": parameters}).ambiguities == ()


def test_a_host_that_is_to_be_left_out_is_not_consumed_by_a_parameter_that_means_it() -> None:
    got = read("deploy grafana but not on web9", {"intent": "deploy_service", "parameters": {"service": "web9"}})
    assert any("but not on web9" in question for question in got.ambiguities)


def test_each_step_is_limited_by_its_own_words() -> None:
    text = "update db1 and renew the certificates on web1"
    got = read(
        text,
        {"intent": "update_servers", "words": "update db1"},
        {"intent": "renew_certificates", "words": "renew the certificates on web1"},
    )
    assert (hosts(got, 0), hosts(got, 1), got.ambiguities) == (["db1"], ["web1"], ())


def test_a_place_at_the_end_may_be_meant_for_the_step_before_too() -> None:
    text = "renew the certificates and update web1"
    renew = {"intent": "renew_certificates", "words": "renew the certificates"}
    got = read(text, renew, {"intent": "update_servers", "words": "update web1"})
    assert "only the step behind it names a place" in got.ambiguities[0]
    apart = read(f"{text.replace(' and', '. Then')}", renew, {"intent": "update_servers", "words": "update web1"})
    assert (apart.ambiguities, hosts(apart, 1)) == ((), ["web1"])


def test_a_place_goes_with_the_work_that_is_left_out_and_never_alone() -> None:
    step = {"intent": "update_servers", "words": "update all servers"}
    note = "drop a note on the board of web9"
    assert read(f"update all servers and {note}", step, out_of_scope=[note]).ambiguities == ()
    alone = read("update all servers on web9", step, out_of_scope=["on web9"])
    assert "web9" in alone.ambiguities[0]


def test_a_tier_that_asks_about_the_same_words_is_not_repeated() -> None:
    got = read("reboot node n1", "reboot_nodes", ambiguities=["Is n1 a node?"])
    assert got.ambiguities == ("Is n1 a node?",)


def test_what_a_person_writes_is_limited_and_not_asked_about() -> None:
    assert read("reboot node n1", "reboot_nodes", tier="person").ambiguities == ()
    assert hosts(read("update web1", "update_servers", tier="person")) == ["web1"]


@pytest.mark.parametrize("names", [".".join(["a" * 60] * 6), " ".join(f"web{n}" for n in range(90))])
def test_names_that_are_too_long_or_too_many_are_a_question(names: str) -> None:
    assert read(f"update {names}", "update_servers").ambiguities


@pytest.mark.parametrize("part", ["a-", "not ", "web1 and ", "on ", "1.", "::", "except ", "no one ", "all but "])
def test_no_text_takes_seconds(part: str) -> None:
    started = time.process_time()
    read((part * 10_000)[:10_000] + "x", "update_servers")
    assert time.process_time() - started < 4.0  # a second here; slower machines take up to four times as long


@given(st.text("abweonly123 .,;-:/[]", max_size=60))
def test_a_limit_is_only_of_names_that_stand_in_the_words(text: str) -> None:
    if not any(character.isalnum() for character in text):
        return
    limit = read(text, "update_servers").subtasks[0].limit
    said = text.replace(" ", "").replace("-", "")
    assert all(name in said for name in (*limit.only, *limit.without))


@given(st.text(max_size=200))
def test_any_text_can_be_read_and_mentions_stand_where_they_say(text: str) -> None:
    for mention in mentions(text, ["web1", "web"]):
        assert text[mention.start : mention.end].strip() == mention.words.strip()
        assert mention.kind in Kind


def test_a_limit_that_no_word_asks_for_is_none() -> None:
    assert read("update all servers", "update_servers").subtasks[0].limit == Limit()


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("deploy grafana on port 8421", {"port": 8421}),
        ("deploy the media library", {"service": "media-library"}),
        ("deploy an instance", {"replicas": 1}),
        ("deploy grafana in prod", {"environment": "production"}),
        ("deploy grafana, wait half a minute", {"wait_seconds": 30}),
    ],
)
def test_a_value_from_the_words_or_the_schema_is_not_invented(text: str, parameters: dict[str, Any]) -> None:
    got = read(text, {"intent": "deploy_service", "parameters": parameters})
    assert (got.ambiguities, got.subtasks[0].flags) == ((), ())


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("deploy grafana", {"port": 8421}),
        ("deploy grafana to 192.168.178.20", {"service": "192.168.17"}),
        ("deploy the dashboard", {"service": "grafana"}),
        ("deploy grafana and loki", {"exclude": ["tempo"]}),
    ],
)
def test_a_value_that_stands_nowhere_is_named_and_asked_about(text: str, parameters: dict[str, Any]) -> None:
    got = read(text, {"intent": "deploy_service", "parameters": parameters})
    assert any("stands nowhere in the request" in flag for flag in got.subtasks[0].flags)
    assert any("stands nowhere in the request. What should" in question for question in got.ambiguities)
