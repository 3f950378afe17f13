"""What a seal, the chain and the end of a history tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chargehand.domain import seals
from chargehand.domain.records import Event
from chargehand.domain.seals import Head, RequestState, Seal
from tests.builders import NOW, make_id

KEY, OTHER = seals.seal_key(b"k" * 32), seals.seal_key(b"o" * 32)
NAME = seals.key_name(KEY)


@pytest.mark.parametrize(
    ("sealed", "row", "said"),
    [
        (5, RequestState(True, 5, 5), None),
        (None, RequestState(False, 5, 5), None),
        (5, RequestState(False, 8, 8), None),  # taken up again
        (None, RequestState(True, 5, 5), "seal is missing"),
        (5, RequestState(True, 5, 6), "added after its seal"),
        (5, RequestState(True, 6, 6), "added after its seal"),
        (5, RequestState(True, 5, None), "added after its seal"),
        (5, RequestState(False, 5, 5), "says that it goes on"),
    ],
)
def test_nothing_may_follow_the_seal_of_what_has_ended(sealed: int | None, row: RequestState, said: str | None) -> None:
    found = seals.check_end(sealed, row)
    assert (found is None) if said is None else (said in (found or ""))


def test_another_master_key_is_not_called_tampering() -> None:
    seal = Seal(make_id("r"), 0, seals.mac(KEY, make_id("r"), []), key_name=NAME)
    assert seals.check(KEY, seal, []) is None
    assert "another master key" in (seals.check(OTHER, seal, []) or "")


def chain(length: int, key: bytes = KEY) -> list[Seal]:
    made: list[Seal] = []
    for position in range(1, length + 1):
        seal = Seal(make_id(position), 3, f"mac {position}", NAME)
        link = seals.link(key, made[-1].link or "" if made else "", position, seal)
        made.append(replace(seal, position=position, link=link))
    return made


def test_an_untouched_chain_holds_in_any_order() -> None:
    assert seals.check_chain(KEY, []) == []
    assert seals.check_chain(KEY, reversed(chain(4))) == []
    assert seals.check_chain(KEY, [*chain(4), Seal(make_id("new"), 1, "", kind="accepted")]) == []


@pytest.mark.parametrize("position", [1, 3, 5])
@pytest.mark.parametrize(
    "change", [{"mac": "x"}, {"event_count": 4}, {"kind": "pruned"}, {"request_id": make_id("x")}, {"link": "x"},
               {"link": None}, {"key_name": "x"}]
)  # fmt: skip
def test_a_seal_of_the_chain_that_was_changed_is_named(position: int, change: dict[str, object]) -> None:
    found = [replace(s, **change) if s.position == position else s for s in chain(5)]  # type: ignore[arg-type]
    assert f"number {position}" in " ".join(seals.check_chain(KEY, found))


def test_a_gap_is_named_once_and_what_comes_after_it_is_not_blamed() -> None:
    found = [seal for seal in chain(9) if seal.position not in (3, 4)]
    assert seals.check_chain(KEY, found) == ["2 seals were removed: number 3, number 4"]


def test_a_chain_made_with_another_key_holds_nowhere() -> None:
    assert "number 1, number 2" in seals.check_chain(KEY, chain(2, OTHER))[0]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (Head(0, "", ""), None),
        (Head(3, chain(3)[-1].link or "", NAME), None),
        (Head(5, chain(5)[-1].link or "", NAME), None),
        (Head(6, chain(6)[-1].link or "", NAME), "has 5 seals and had 6"),
        (Head(3, "x", NAME), "number 3 is another one"),
    ],
)
def test_a_chain_is_compared_with_a_head_of_it(head: Head, said: str | None) -> None:
    found = seals.check_head(head, chain(5))
    assert (found is None) if said is None else (said in (found or ""))


def test_a_pruned_request_needs_a_seal_that_says_so() -> None:
    request_id = make_id("r")
    event = Event(1, "request.accepted", None, None, {}, NOW)
    over = seals.mac(KEY, request_id, [event])
    own = [Seal(request_id, 1, over, NAME, "accepted"), Seal(request_id, 1, over, NAME)]
    pruned = Seal(request_id, 1, seals.pruning_mac(KEY, request_id, 1, over), NAME, "pruned")
    assert seals.check_request(KEY, own, [event], RequestState(True, 1, 1)) is None
    assert seals.check_request(KEY, [*own, pruned], [], None) is None
    assert "still there" in (seals.check_request(KEY, [*own, pruned], [event], None) or "")
    for mac in (over, seals.pruning_mac(OTHER, request_id, 1, over), seals.pruning_mac(KEY, make_id("s"), 1, over)):
        forged = replace(pruned, mac=mac)
        assert "not by Chargehand" in (seals.check_request(KEY, [*own, forged], [], None) or "")
    assert "not by Chargehand" in (seals.check_request(KEY, [own[0], pruned], [], None) or "")
