"""Hosts in offers, plans and digests: few by name, many by their number and digest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chargehand.app.fleet import CatalogEntry
from chargehand.app.json_view import entry_value
from chargehand.catalog.catalog import Catalog
from chargehand.catalog.output_links import problems
from chargehand.catalog.targets import targeted
from chargehand.cli.show.lists import catalog_lines
from chargehand.cli.show.plan import plan_lines
from chargehand.cli.terminal.lines import Line
from chargehand.domain.errors import BadParameters
from chargehand.domain.hosts import Hosts, Limit, Targets, all_known, digest_of, hosts_of, told, united
from chargehand.domain.intents import IntentSpec, OutputRef
from chargehand.domain.plans import Subtask
from chargehand.planning.digest import digest
from tests.builders import make_plan, make_task
from tests.unit.cli_rows import a_plan, a_request

names = st.sets(st.text("abc0.-", min_size=1, max_size=4), max_size=8)


def many(count: int) -> list[str]:
    return [f"host{number:05}" for number in range(count)]


def text(lines: Iterable[Line]) -> str:
    return "\n".join(line.text for line in lines)


def spec(targets: Targets, **fields: Any) -> IntentSpec:
    return IntentSpec(intent="touch_it", work_type="run_playbook", targets=targets, **fields)


@given(st.lists(names, max_size=5))
def test_united_sets_hold_exactly_the_same_hosts(sets: list[set[str]]) -> None:
    parts = united(map(hosts_of, sets))
    assert all_known(parts, {}) == frozenset().union(*sets)


@given(st.lists(st.tuples(st.integers(0, 130), st.integers(1, 60)), max_size=4))
def test_no_host_is_lost_or_added_where_there_are_too_many_to_name(spans: list[tuple[int, int]]) -> None:
    lists = [many(start + length)[start:] for start, length in spans]
    parts = united(map(hosts_of, lists))
    kept = {digest_of(one): one for one in lists}
    assert all_known(parts, kept) == frozenset(name for one in lists for name in one)
    assert all(part.complete or all_known([part], {}) is None for part in parts)


def test_a_list_that_is_not_the_one_of_the_digest_is_none() -> None:
    part = hosts_of(many(200))
    assert not part.complete
    for other in ([], many(199), [*many(199), "evil"], [*many(200), "evil"], [*many(200), "host00000"]):
        assert all_known([part], {part.digest: other}) is None or set(other) == set(many(200))
    assert all_known([part], {part.digest: many(200)}) == frozenset(many(200))


@pytest.mark.parametrize(
    "fields",
    [
        {"names": ("web1",), "count": 1, "digest": digest_of(["web2"])},  # shows another host than it means
        {"names": ("web1", "web2"), "count": 1, "digest": digest_of(["web1"])},
        {"names": ("web\u2028",), "count": 1, "digest": digest_of(["web\u2028"])},
        {"names": ("\x1b[2J",), "count": 2, "digest": digest_of([])},
        {"names": (), "count": 10**9, "digest": digest_of([])},
        {"names": (), "count": 0, "digest": "x"},
    ],
)
def test_hosts_that_do_not_fit_together_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Hosts(**fields)


def test_hosts_are_told_in_few_words() -> None:
    assert told([hosts_of(["web1"])]) == "web1"
    assert told([hosts_of(["localhost"])]) == "this machine (localhost)"
    assert told([hosts_of(["b", "a"])]) == "2 hosts: a, b"
    assert told([hosts_of(many(12))]) == "12 hosts: host00000, host00001, host00002 and 9 more"
    assert told([hosts_of(many(10_000))]) == "10,000 hosts: host00000, host00001, host00002 and 9,997 more"
    assert told(united([hosts_of(many(100)), hosts_of(["web1"])])).startswith("up to 101 hosts: host00000")


TARGETS = Targets(
    always=hosts_of(["db1"]),
    by={"target": None, "other": hosts_of(["web1"])},
    known=hosts_of(["db1", "web1", "web2", "both"]),
    groups={"web": hosts_of(["web1", "web2"]), "big": hosts_of(many(900)), "both": hosts_of(["web2"])},
)


def test_the_hosts_of_a_task_are_those_that_were_named() -> None:
    offer = spec(TARGETS)
    assert targeted(IntentSpec(intent="touch_it", work_type="run_playbook"), {}) == ()
    assert targeted(offer, {"target": "web2"}) == (hosts_of(["db1", "web1", "web2"]),)
    assert targeted(offer, {"target": "both", "other": "db1"}) == (hosts_of(["both", "db1"]),), "a host before a group"
    assert targeted(offer, {"target": "localhost"}) == (hosts_of(["db1", "web1", "localhost"]),)
    assert targeted(offer, {"target": "big"}) == (hosts_of(many(900)), hosts_of(["db1", "web1"]))
    for value in ("web9", "web*", 7, None, {"a": 1}, [], ["web1", "web*"], ["web1"] * 501):
        with pytest.raises(BadParameters):
            targeted(offer, {"target": value})


def test_of_an_inventory_that_is_too_long_to_list_a_name_is_one_host() -> None:
    offer = spec(TARGETS.model_copy(update={"known": hosts_of(many(900))}))
    assert targeted(offer, {"target": "host00800"})[0].names == ("db1", "host00800", "web1")
    for value in ("host*", "all", "web1:web2"):
        with pytest.raises(BadParameters) as caught:
            targeted(offer, {"target": value})
        assert "or one of 895 others; a group: web, big, both" in caught.value.hint


OF_ALL = Targets(
    always=hosts_of(["db1", "web1", "web2"]), groups={"web": hosts_of(["web1", "web2"]), "db": hosts_of(["db1"])}
)
CUT = Targets(always=hosts_of(many(900)), groups={"front": hosts_of(many(80))})


@pytest.mark.parametrize(
    ("targets", "limit", "names"),
    [
        (OF_ALL, Limit(only=("web1",)), ["web1"]),
        (OF_ALL, Limit(only=("web", "db1")), ["db1", "web1", "web2"]),
        (OF_ALL, Limit(without=("db1",)), ["web1", "web2"]),
        (OF_ALL, Limit(only=("web",), without=("web2",)), ["web1"]),
        (TARGETS, Limit(only=("web",)), ["web1"]),
        (CUT, Limit(only=("host00800",)), ["host00800"]),
        (CUT, Limit(only=("front",)), many(80)),
    ],
)
def test_a_limit_leaves_the_hosts_that_it_names(targets: Targets, limit: Limit, names: list[str]) -> None:
    given = {"target": "web1"} if targets.by else {}
    assert all_known(targeted(spec(targets), given, limit), {digest_of(many(80)): many(80)}) == frozenset(names)


@pytest.mark.parametrize(
    ("targets", "limit"),
    [
        (OF_ALL, Limit(only=("web9",))),
        (OF_ALL, Limit(without=("web9",))),
        (OF_ALL, Limit(without=("web", "db"))),
        (OF_ALL, Limit(only=("web*",))),
        (CUT, Limit(without=("host00800",))),
        (CUT, Limit(only=("host*",))),
        (TARGETS, Limit(only=("big",))),
        (None, Limit(only=("web1",))),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(targets: Targets | None, limit: Limit) -> None:
    offer = IntentSpec(intent="touch_it", work_type="run_playbook", targets=targets)
    with pytest.raises(BadParameters):
        targeted(offer, {"target": "web1"}, limit)


@given(names, names, names)
def test_a_limit_never_adds_a_host(all_of_it: set[str], only: set[str], without: set[str]) -> None:
    limit = Limit(only=tuple(sorted(only)), without=tuple(sorted(without)))
    try:
        found = targeted(spec(Targets(always=hosts_of(all_of_it))), {}, limit)
    except BadParameters:
        return
    left = all_known(found, {}) or frozenset()
    assert left <= all_of_it
    assert not left & without
    assert not only or left <= only


def test_a_group_cannot_be_locked_as_if_it_were_one_host() -> None:
    offer = spec(TARGETS, exclusive_keys=("host:{target}",))
    assert targeted(offer, {"target": "web1"})
    with pytest.raises(BadParameters, match="web is a group of 2") as caught:
        targeted(offer, {"target": "web"})
    assert caught.value.hint == "Ask for each host: web1, web2."


def test_no_earlier_task_can_say_which_hosts_are_worked_on() -> None:
    properties = {"target": {"type": "string"}}
    offer = spec(TARGETS, parameters={"type": "object", "properties": properties})
    giver = IntentSpec(
        intent="find_it",
        work_type="run_playbook",
        outputs={"type": "object", "properties": properties, "required": ["target"]},
    )
    first = Subtask(order=1, name="a", intent="find_it", confidence=1)
    ref = {"target": OutputRef(task=1, output="target")}
    task = Subtask(order=2, name="b", intent="touch_it", confidence=1, inputs=ref, depends_on=(1,))
    assert "which hosts" in " ".join(problems(task, [first, task], Catalog((offer, giver))))


def test_the_digest_covers_hosts_and_state() -> None:
    different: list[dict[str, Any]] = [
        {},
        {"hosts": (hosts_of(["web1"]),)},
        {"hosts": (hosts_of(["web1", "web2"]),)},
        {"hosts": (hosts_of(many(900)),)},
        {"hosts": (hosts_of([*many(899), "evil"]),)},
        {"state": ("certs",)},
    ]
    plans = [make_plan(make_task(**fields)) for fields in different]
    assert len({digest(plan) for plan in plans}) == len(plans)
    two = (hosts_of(many(900)), hosts_of(["web1"]))
    assert digest(make_plan(make_task(hosts=two))) == digest(make_plan(make_task(hosts=two[::-1])))


def test_a_plan_and_the_catalog_say_which_hosts_and_which_paths() -> None:
    step = make_task(hosts=(hosts_of(many(12)),), state=("files/certs",))
    shown = text(plan_lines(a_request(), a_plan(step), None))
    assert "on 12 hosts: host00000, host00001, host00002 and 9 more" in shown
    assert "may write files/certs in its project" in shown
    offer = spec(TARGETS, state=("files/certs",))
    entry = CatalogEntry(**{name: getattr(offer, name) for name in IntentSpec.model_fields}, agent="infra-1")
    listed = text(catalog_lines([entry], []))
    assert "on db1, and what target names, and what other names (web1 unless it is given)" in listed
    assert "may write files/certs in its project" in listed
    assert entry_value(entry)["targets"]["groups"]["web"]["names"] == ["web1", "web2"]
    assert entry_value(entry)["state"] == ["files/certs"]
