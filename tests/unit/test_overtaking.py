"""When the order of two steps is proven to make no difference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.domain.plans import WorkTask
from chargehand.domain.risks import Risk
from chargehand.routing.overtaking import apart, may_overtake, touched
from tests.builders import make_task

READ, CHANGE, UNKNOWN, DESTROY = Risk


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((READ, ()), (READ, ()), True),
        ((READ, ("host:a",)), (READ, ("host:b",)), True),
        ((READ, ("host:a",)), (READ, ("host:a",)), False),  # the key says one at a time, in this order
        ((CHANGE, ()), (CHANGE, ()), False),  # nobody says what they touch
        ((READ, ()), (CHANGE, ("host:a",)), False),  # it may look at just what is changed
        ((CHANGE, ("host:a",)), (CHANGE, ("host:b",)), True),
        ((UNKNOWN, ()), (READ, ()), False),
        ((DESTROY, ("host:a",)), (READ, ("host:b",)), True),
        ((CHANGE, ("service:shop",)), (CHANGE, ("database:shop",)), False),  # the shop that stops uses the database
        ((CHANGE, ("service:shop", "host:a")), (CHANGE, ("database:shop", "host:b")), True),
        ((CHANGE, ("service:shop", "host:a")), (CHANGE, ("database:shop", "host:a")), False),
    ],
)
def test_two_steps_are_apart_when_it_is_proven(
    one: tuple[Risk, tuple[str, ...]], other: tuple[Risk, tuple[str, ...]], expected: bool
) -> None:
    first, second = (make_task(n, risk=risk, exclusive_keys=keys) for n, (risk, keys) in enumerate((one, other), 1))
    assert apart(first, second) is expected
    assert apart(second, first) is expected


def test_hosts_among_the_parameters_count() -> None:
    assert touched(make_task(1, parameters={"host": "a", "hosts": ["b", "c"], "port": 1})) == {
        *("host:a", "host:b", "host:c")
    }
    web, db = (make_task(n, parameters={"host": name}) for n, name in ((1, "web"), (2, "db")))
    assert apart(web, db)
    assert not apart(web, make_task(3, parameters={"hosts": ["web", "db"]}))


def test_nothing_goes_before_what_it_depends_on() -> None:
    first = make_task(1, exclusive_keys=("host:a",))
    assert may_overtake(make_task(2, exclusive_keys=("host:b",)), [first])
    assert not may_overtake(make_task(2, exclusive_keys=("host:b",), depends_on=(1,)), [first])


@given(st.lists(st.sets(st.sampled_from(["host:a", "host:b", "service:x"])), min_size=2, max_size=2), st.data())
def test_steps_that_share_a_key_are_never_apart(keys: list[set[str]], data: st.DataObject) -> None:
    tasks: list[WorkTask] = [
        make_task(n, exclusive_keys=tuple(some), risk=data.draw(st.sampled_from(Risk)))
        for n, some in enumerate(keys, 1)
    ]
    if keys[0] & keys[1]:
        assert not apart(*tasks)
