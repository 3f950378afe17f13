"""The transition tables themselves: complete, without dead ends, and enforced."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from chargehand.domain import states
from chargehand.domain.errors import WrongStatus
from chargehand.domain.states import ATTEMPT, PLAN, REQUEST, TASK, AttemptStatus, PlanStatus, RequestStatus, TaskStatus

TABLES = [(REQUEST, RequestStatus), (PLAN, PlanStatus), (TASK, TaskStatus), (ATTEMPT, AttemptStatus)]


@pytest.mark.parametrize(("table", "kind"), TABLES)
def test_every_status_has_its_row_and_can_be_reached(table: Mapping[Any, Any], kind: type[StrEnum]) -> None:
    assert set(table) == set(kind)
    reached = {next(iter(kind))}
    while more := {new for old in reached for new in table[old]} - reached:
        reached |= more
    assert reached == set(kind)


@pytest.mark.parametrize(("table", "kind"), TABLES)
def test_from_every_status_an_end_can_be_reached(table: Mapping[Any, Any], kind: type[StrEnum]) -> None:
    ended = {status for status in kind if not table[status]}
    assert ended
    for status in kind:
        seen = {status}
        while more := {new for old in seen for new in table[old]} - seen:
            seen |= more
        assert seen & ended, f"nothing leads out of {status}"


def test_no_move_but_those_of_the_table() -> None:
    states.check_move(TASK, TaskStatus.PENDING, TaskStatus.READY)
    with pytest.raises(WrongStatus, match="cannot go from succeeded to ready") as caught:
        states.check_move(TASK, TaskStatus.SUCCEEDED, TaskStatus.READY)
    assert "it has ended" in caught.value.hint


def test_what_holds_a_lease_has_not_ended_and_the_rest_has() -> None:
    assert {a for a in AttemptStatus if not ATTEMPT[a]} == set(AttemptStatus) - states.ATTEMPT_OPEN
