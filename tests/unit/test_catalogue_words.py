"""Tokens, typing slips, languages and guards: the parts of the catalogue match that need no training."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.llm.catalogue_match.guards import held_by
from chargehand.llm.catalogue_match.language import is_english
from chargehand.llm.catalogue_match.spelling import closest
from chargehand.llm.catalogue_match.words import main_verb, stem, tokens

KNOWN = frozenset(stem(word) for word in ["status", "page", "portal", "kuma", "deploy", "config", "disk"])


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("“a b”", "quoted"),
        ("'a b'", "quoted"),
        ("https://a.example/x?y=1", "url"),
        ("me@example.org", "email"),
        ("/var/log/x.log", "path"),
        ("tank/media", "path"),
        ("site.yml", "path"),
        ("localhost:8080", "endpoint"),
        ("90%", "percent"),
        ("30 seconds", "duration"),
        ("2 GB", "size"),
        ("10.0.0.7", "host"),
        ("192.168.178.20", "host"),
        ("fe80::1c2:ff:fe3a:77", "host"),
        ("10.0.10.0/24", "network"),
        ("2001:db8::/32", "network"),
        ("192.168.178.20:8080", "endpoint"),
        ("[::1]:8080", "endpoint"),
        ("1.27.31", "id"),
        ("v1.2.3.4-rc.1", "id"),
        ("ubuntu-24.04", "id"),
        ("22:15", "time"),
        ("5 pm", "time"),
        ("db01.example.org", "host"),
        ("web-1", "host"),
        ("8421", "number"),
        ("aa:bb:cc:dd:ee:ff", "id"),
        ("kuma", "word"),
    ],
)
def test_values_are_told_by_their_form(raw: str, kind: str) -> None:
    assert [(token.raw, token.kind) for token in tokens(f"x {raw} y")][1] == (raw, kind)


ADDRESSES = st.ip_addresses().filter(int).map(str)  # `::` alone is punctuation
FORMS = st.one_of(
    ADDRESSES,
    st.ip_addresses(v=4).flatmap(lambda one: st.integers(1, 65535).map(lambda port: f"{one}:{port}")),
    st.ip_addresses(v=6).filter(int).flatmap(lambda one: st.integers(1, 65535).map(lambda port: f"[{one}]:{port}")),
    ADDRESSES.flatmap(lambda one: st.integers(0, 128).map(lambda length: f"{one}/{length}")),
    st.lists(st.integers(0, 2000), min_size=2, max_size=3).map(lambda parts: ".".join(map(str, parts))),
)


@given(FORMS, st.sampled_from(["", ".", ",", ":", "?", " now"]))
def test_a_value_is_a_whole_token_whatever_its_numbers(value: str, following: str) -> None:
    assert next(token.raw for token in tokens(f"ping {value}{following}") if token.is_value) == value


@given(st.text("0123456789.:/v-ab ", max_size=24))
def test_no_value_is_cut_out_of_a_longer_one(text: str) -> None:
    for token in tokens(text):
        if token.kind in ("host", "network", "endpoint", "number", "time"):
            assert not re.match(r"\w|\.\d", text[token.end :]), (token, text)


@pytest.mark.parametrize("part", ["a.", "a/", "a-", "a", "/a", "'a", "1.", "aa:", "@a", "a:", "1:", "1.1.1.", "::"])
def test_no_text_takes_seconds(part: str) -> None:
    started = time.process_time()
    tokens(part * (10_000 // len(part)))
    assert time.process_time() - started < 1.0  # takes some 0.05 s; 2.7 s when a repetition was not bounded


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("please deploy kuma", "deploy"),
        ("set our new page up", "set"),
        ("get the page restarted", "restarted"),
        ("check the backup", "check"),
        ("the page, restart it", "restart"),
        ("kuma", None),
        ("the daily backup", None),
    ],
)
def test_the_verb_that_orders_is_found(text: str, verb: str | None) -> None:
    found = tokens(text)
    place = main_verb(found)
    assert (found[place].raw if place is not None else None) == verb


@pytest.mark.parametrize(
    "forms", ["stop stopped stopping stops", "remove removed removing", "page pages", "copy copies"]
)
def test_forms_of_a_word_are_one(forms: str) -> None:
    assert len({stem(form) for form in forms.split()}) == 1


def test_one_slip_is_read_as_what_was_meant_and_two_are_not() -> None:
    verb, noun = closest("depoly", KNOWN), closest("portla", KNOWN)
    assert verb is not None
    assert (verb.word, verb.actions) == ("deploy", frozenset({"deploy"}))
    assert noun is not None
    assert noun.word == "portal"
    assert closest("grafana", KNOWN) is None
    assert closest("kumo", KNOWN) is None  # too short to be sure
    assert closest("prtla", KNOWN) is None


@pytest.mark.parametrize(
    ("words", "guard"),
    [
        ("don't deploy kuma", "negation"),
        ("do not deploy kuma", "negation"),
        ("never deploy kuma", "negation"),
        ("deploy everything except kuma", "negation"),
        ("deploy kuma if the disk is fine", "condition"),
        ("unless the disk is full deploy kuma", "condition"),
        ("when it is up add the portals", "condition"),
        ("check the disk before deploying kuma", "order"),
        ("Bob said we need kuma", "report"),
        ("should we deploy kuma", "report"),
        ("maybe deploy kuma", "doubt"),
        ("deploy kuma, no wait", "doubt"),
        ("deploy only kuma", "limit"),
        ("did I deploy kuma", "question"),
        ("deployed the page", "report"),
        ("we already deployed kuma", "report"),
        ("kuma was removed", "report"),
        ("how do I deploy kuma", "question"),
        ("deploy kuma tomorrow", "time"),
        ("deploy kuma at 5 pm", "time"),
        ("in two hours", "time"),
        ("deploy kuma or the page", "choice"),
    ],
)
def test_what_is_no_plain_order_trips_a_guard(words: str, guard: str) -> None:
    tripped = held_by(words, frozenset())
    assert tripped is not None
    assert tripped.name == guard


@pytest.mark.parametrize(
    "words",
    [
        "deploy kuma",
        "please could you deploy kuma",
        "don't forget to deploy kuma",
        "check if the page is up",
        "I need kuma deployed",
    ],
)
def test_plain_orders_trip_none(words: str) -> None:
    assert held_by(words, frozenset()) is None


def test_an_intents_own_words_do_not_hold_it_up_unless_they_negate() -> None:
    assert held_by("run the nightly backup", frozenset({"run the nightly backup"})) is None
    assert held_by("do not run the backup", frozenset({"do not run the backup"})) is not None


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("deploy kuma", True),
        ("deploy grafana", True),
        ("please deploy the status page", True),
        ("order a pizza", True),
        ("разверни страницу статуса", False),
        ("部署状态页", False),
        ("Bitte installiere die Statusseite und füge unsere Portale hinzu", False),
        ("despliega la página de estado por favor", False),
        ("wdróż stronę statusu usługi natychmiast", False),
        ("Starte nginx neu", False),
        ("Server neustarten", False),
        ("Installiere Grafana", False),
        ("redémarrer nginx", False),
    ],
)
def test_other_languages_are_noticed(text: str, english: bool) -> None:
    assert is_english(tokens(text), KNOWN) is english


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("lights off in the hall", "stop"),
        ("I'd like the lights in the kitchen off", "stop"),
        ("music on please", "start"),
        ("blinds up", "open"),
        ("take down the page", "remove"),
        ("bring the page up", "start"),
        ("fire up the page", "start"),
    ],
)
def test_a_particle_says_what_to_do(text: str, action: str) -> None:
    found = tokens(text)
    verb = main_verb(found)
    assert verb is not None
    assert action in found[verb].actions


@pytest.mark.parametrize(
    "text", ["the page on web-1", "is the page up", "the page is down again", "jellyfin is acting up", "up and running"]
)
def test_a_place_and_a_state_are_no_orders(text: str) -> None:
    assert not any(token.actions & {"start", "stop", "open", "close"} for token in tokens(text))


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("1. stop nginx 2. start nginx", 4),
        ("1) stop nginx 2) start nginx 3) check it", 6),
        ("keep 1. version", 1),
        ("scale web to 1. then 2.5 of it", 1),
    ],
)
def test_the_numbers_of_a_list_are_marks(text: str, marks: int) -> None:
    assert sum(token.kind == "mark" for token in tokens(text)) == marks


@pytest.mark.parametrize("text", ["reports:1.18", "v1.12", "registry/shop:latest", "catalog:v3", "2.4.1"])
def test_a_version_and_an_image_are_one_value(text: str) -> None:
    assert [token.kind for token in tokens(text)] == ["id"]
