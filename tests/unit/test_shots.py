"""Worked examples for models, made of a catalog's own."""

from __future__ import annotations

from chargehand.understanding.shots import ELSEWHERE, shots
from tests.builders import make_spec

WIKI = make_spec("restart_wiki", examples=["restart the wiki", "bounce the wiki"])
DISK = make_spec("check_disk", examples=["check the disk of {host}"])
PLAIN = make_spec("stop_all")


def test_a_compound_a_vague_and_a_simple_one_are_made_of_the_examples() -> None:
    compound, vague, simple = shots([WIKI, PLAIN, DISK])
    assert compound.request == "restart the wiki, then check the disk of web-7, and order a pizza for the team"
    assert [part.intent for part in compound.subtasks] == ["restart_wiki", "check_disk"]
    assert all(part.words in compound.request for part in compound.subtasks)
    assert compound.out_of_scope == ("order a pizza for the team",)
    assert (vague.subtasks, len(vague.ambiguities)) == ((), 1)
    assert simple.request == "please check the disk of web-7"


def test_the_same_catalog_gives_the_same_ones_so_that_a_server_keeps_them_read() -> None:
    assert shots([WIKI, DISK]) == shots([WIKI, DISK])


def test_what_a_catalog_offers_is_never_shown_as_out_of_its_scope() -> None:
    pizzeria = make_spec("order_food", examples=["order a pizza for the team", "get me some pasta"])
    garden = make_spec("water_garden", examples=["water the plants on the terrace", "sprinkle the lawn"])
    first, *_ = shots([pizzeria, garden])
    assert first.out_of_scope == (ELSEWHERE[2],)


def test_a_catalog_without_examples_has_only_the_vague_one() -> None:
    assert [shot.subtasks for shot in shots([PLAIN])] == [()]


def test_long_examples_and_those_that_would_steer_a_terminal_are_not_shown() -> None:
    assert len(shots([make_spec("talk", examples=["word " * 40, "ring\x07 the bell"])])) == 1
