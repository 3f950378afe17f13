"""Items that come together are done together, and one that is poisonous stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from chargehand.domain.errors import DatabaseUnreachable, StaleStatus
from chargehand.engine.batching import Batcher


class Kitchen:
    """Writes down what was cooked in one go; what it cannot stand it says."""

    def __init__(self, **bad: Exception) -> None:
        self.goes: list[list[str]] = []
        self.failures: list[tuple[str, str]] = []
        self.bad = bad
        self.begun, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.together = Batcher(self.cook, self.failed, most=3)

    async def cook(self, items: Sequence[str]) -> None:
        self.goes.append(list(items))
        self.begun.set()
        await self.open.wait()
        for item in items:
            if item in self.bad:
                raise self.bad[item]

    async def failed(self, item: str, error: Exception) -> None:
        self.failures.append((item, str(error)))

    async def bring(self, *items: str) -> list[BaseException | None]:
        return await asyncio.gather(*map(self.together.bring, items), return_exceptions=True)


async def test_who_comes_first_goes_at_once_and_the_others_share_what_follows() -> None:
    kitchen = Kitchen()
    kitchen.open.clear()
    bringing = asyncio.create_task(kitchen.bring("a", "b", "c", "d", "e"))
    await kitchen.begun.wait()
    kitchen.open.set()
    assert await bringing == [None] * 5
    assert sorted(item for go in kitchen.goes for item in go) == list("abcde"), "each once"
    assert max(map(len, kitchen.goes)) == 3, "and never more than may go together"
    assert len(kitchen.goes) < 5


async def test_nobody_returns_before_his_item_is_done() -> None:
    kitchen = Kitchen()
    kitchen.open.clear()
    bringing = [asyncio.create_task(kitchen.together.bring(item)) for item in "ab"]
    await kitchen.begun.wait()
    assert not any(task.done() for task in bringing)
    kitchen.open.set()
    await asyncio.gather(*bringing)


async def test_a_poisonous_item_is_counted_and_stops_no_other() -> None:
    kitchen = Kitchen(poison=ValueError("boom"))
    assert await kitchen.bring("a", "poison", "b") == [None] * 3
    assert kitchen.failures == [("poison", "boom")]
    done_alone = [go for go in kitchen.goes if len(go) == 1]
    assert ["a"] in done_alone or ["a"] in kitchen.goes
    assert ["b"] in done_alone, "what went with it is done without it"


async def test_what_somebody_else_has_taken_is_left_to_him() -> None:
    kitchen = Kitchen(taken=StaleStatus("it has gone"))
    assert await kitchen.bring("taken", "a") == [None, None]
    assert kitchen.failures == []
    assert kitchen.goes[-1] == ["a"]


async def test_a_database_that_is_away_is_nobodys_fault() -> None:
    kitchen = Kitchen(a=DatabaseUnreachable("it does not answer"))
    (said,) = await kitchen.bring("a")
    assert isinstance(said, DatabaseUnreachable)
    assert kitchen.failures == []
    with pytest.raises(DatabaseUnreachable):
        await kitchen.together.bring("a")
    await kitchen.together.bring("b")
    assert kitchen.goes[-1] == ["b"], "the next one is tried again"
