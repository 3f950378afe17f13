"""The fuzzer itself: it sees hangs and crashes, and the same seed gives the same cases."""

from random import Random

import pytest

from bench.fuzz import course
from bench.fuzz.mutations import mutated
from bench.fuzz.targets import TARGETS, Target


def spins(text: str) -> None:
    while True:
        try:
            while text:
                pass
        except Exception:  # noqa: BLE001, S110 # as careless a parser as can be
            pass


def crashes(text: str) -> None:
    raise KeyError(text)


@pytest.mark.parametrize(("parser", "told"), [(spins, "more than"), (crashes, "KeyError"), (len, None)])
def test_what_goes_wrong_is_seen(parser: object, told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "LONGEST", 0.05)
    target = Target(lambda: parser, ("a",), ("b",), (ValueError,))  # type: ignore[arg-type, return-value]
    problem, _ = course._tried(target.make(), "a", target)
    assert problem is None if told is None else told in str(problem)


def test_a_seed_is_a_schedule() -> None:
    def cases(seed: int) -> list[str]:
        chance, target = Random(seed), TARGETS["header"]
        return [mutated(chance, target.seeds, target.words, target.longest) for _ in range(50)]

    assert cases(1) == cases(1) != cases(2)
    assert max(map(len, cases(1))) <= TARGETS["header"].longest


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_of_a_target_are_cases_of_the_real_format(name: str) -> None:
    target = TARGETS[name]
    call = target.make()
    assert [problem for seed in target.seeds if (problem := course._tried(call, seed, target)[0])] == []
