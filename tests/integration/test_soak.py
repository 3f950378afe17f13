"""The long run ends by itself, gives every part's figures, and says which part broke something."""

from __future__ import annotations

from bench.soak import PARTS, Part, figures_of, run


def test_a_part_gives_its_figures_beside_the_date() -> None:
    found = run(quick=True, only=["ordering"])
    assert found["broken"] == {}
    assert found.keys() == {"date", "ordering", "broken"}
    assert len(found["ordering"]) > 1, "more than how long it took"


def test_the_simulation_is_a_part_and_takes_its_options() -> None:
    found = figures_of("simulate", Part(("--schedules", "8", "--first", "50000"), bound=600.0))
    assert (found["schedules"], found["broken"]) == (8, {})


def test_a_part_that_does_not_end_in_time_is_stopped_and_named() -> None:
    found = figures_of("ordering", Part((), bound=0.5))
    assert found["broken"] == ["it did not end in 0.5 s"]
    assert found["took"] < 60


def test_a_part_that_fails_is_named_with_what_it_said() -> None:
    (complaint,) = figures_of("simulate", Part(("--no-such-option",), bound=60.0))["broken"]
    assert "no-such-option" in complaint


def test_what_is_too_slow_for_every_change_is_a_part() -> None:
    found = run(quick=True, only=["fits"])
    assert found["broken"] == {}
    assert found["fits"]["tests"] > 0


def test_all_bounds_together_are_below_four_hours() -> None:
    assert sum(part.bound for part in PARTS.values()) < 4 * 3600
