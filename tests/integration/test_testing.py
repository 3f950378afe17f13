"""What is shipped for authors of agents: work runs as it does in an agent, and tests of it can fail."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import BaseModel

from chargehand.agent import Agent, Outcome, TaskFailed, Work
from chargehand.broker.weather import Rough
from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import UnknownId
from chargehand.testing import Harness, make_order, run, started


class Times(BaseModel):
    times: int = 1


def make_agent(**work: object) -> Agent:
    agent = Agent("worker")

    @agent.work("count", **work)  # type: ignore[arg-type]
    async def count(work: Work, p: Times) -> Outcome:
        for n in range(p.times):
            await work.progress(f"number {n}", n=n)
        (work.workdir / "count.txt").write_text(str(p.times))
        return Outcome("counted", changed=True, outputs={"times": p.times})

    @agent.work("fail")
    async def fail(work: Work) -> None:
        raise TaskFailed("there is nothing to count")

    @agent.work("sleep")
    async def sleep(work: Work) -> None:
        await work.run(["sh", "-c", "echo asleep; sleep 60"], on_line=work.progress)

    @agent.work("mumble")
    async def mumble(work: Work) -> None:
        await work.progress("see", what=Path())  # type: ignore[arg-type]

    return agent


async def test_work_ends_with_all_it_said_and_what_it_left(tmp_path: Path) -> None:
    ran = await run(make_agent(), "count", {"times": 3}, folder=tmp_path)
    assert ran.ok, ran.summary
    assert (ran.summary, ran.changed, ran.outputs) == ("counted", True, {"times": 3})
    assert ran.messages == ("number 0", "number 1", "number 2")
    assert ran.progress[2].data == {"n": 2}
    assert (ran.workdir / "count.txt").read_text() == "3"
    assert ran.workdir.stat().st_mode & 0o777 == 0o700


async def test_nothing_is_left_where_no_folder_was_given() -> None:
    ran = await run(make_agent(), "count")
    assert ran.ok
    assert not ran.workdir.parent.parent.exists()


async def test_what_the_work_raised_is_there_with_its_traceback() -> None:
    ran = await run(make_agent(), "fail")
    assert ran.failure is not None
    assert ran.failure.kind == "permanent"
    assert isinstance(ran.error, TaskFailed)
    assert ran.error.__traceback__ is not None


async def test_bad_parameters_and_unsendable_progress_fail_as_they_would_in_an_agent() -> None:
    bad = await run(make_agent(), "count", {"times": "many"})
    assert not bad.ok
    assert "times" in bad.summary
    assert not (await run(make_agent(), "mumble")).ok


async def test_a_dry_run_of_work_without_one_is_refused() -> None:
    assert not (await run(make_agent(), "count", dry_run=True)).ok
    assert (await run(make_agent(dry_run=True), "count", dry_run=True)).ok


async def test_an_intent_that_is_not_offered_is_the_tests_mistake() -> None:
    with pytest.raises(UnknownId, match="does not offer cuont") as caught:
        await run(make_agent(), "cuont")
    assert "count, fail, mumble, sleep" in caught.value.hint


async def test_work_that_takes_too_long_is_ended() -> None:
    ran = await run(make_agent(), "sleep", timeout=0.3)
    assert not ran.ok
    assert "longer than allowed" in ran.summary


async def test_running_work_can_be_cancelled_with_its_programs() -> None:
    async with started(make_agent(), "sleep") as running:
        await running.said("asleep")
        running.cancel("changed my mind")
        ran = await running.ended()
    assert ran.failure is not None
    assert ran.failure.kind == "cancelled"
    assert "changed my mind" in ran.summary


async def test_waiting_for_words_that_do_not_come_says_why() -> None:
    async with started(make_agent(), "fail") as running:
        with pytest.raises(TimeoutError, match="there is nothing to count"):
            await running.said("asleep")


async def test_leaving_the_block_ends_the_work_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with started(make_agent(), "sleep") as running:
        await running.said("asleep")
    assert not (await running.ended()).ok
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() <= before


async def test_the_harness_grants_runs_and_records() -> None:
    async with Harness(make_agent()) as orchestrator:
        order = await orchestrator.order("count", {"times": 2})
        assert (await orchestrator.accepted(order)).needs_grant
        assert (await orchestrator.result(order)).outputs == {"times": 2}
        await orchestrator.beats(2)
        seen = orchestrator.count(MessageType.WORK_RESULT, order)
        await orchestrator.beats(3)
        assert orchestrator.count(MessageType.WORK_RESULT, order) == seen
    assert [spec.intent for spec in orchestrator.registrations[0].intents] == ["count", "fail", "mumble", "sleep"]
    assert not orchestrator.home.exists()


async def test_without_grants_nothing_starts(tmp_path: Path) -> None:
    async with Harness(make_agent(), grants=False, home=tmp_path) as orchestrator:
        order = await orchestrator.order("count")
        await orchestrator.accepted(order)
        await orchestrator.beats(2)
        assert orchestrator.count(MessageType.WORK_RESULT) == 0
        await orchestrator.grant(order)
        assert (await orchestrator.result(order)).ok


async def test_the_journal_carries_results_and_interrupted_work_into_the_next_life() -> None:
    async with Harness(make_agent(), records=False) as orchestrator:
        done, broken = await orchestrator.order("count"), await orchestrator.order("sleep")
        await orchestrator.result(done)
        await orchestrator.said(broken, "asleep")
        await orchestrator.restart()
        before = orchestrator.count(MessageType.WORK_RESULT, done)
        await orchestrator.beats(2)
        assert orchestrator.count(MessageType.WORK_RESULT, done) > before
        failure = (await orchestrator.result(broken)).failure
        assert failure is not None
        assert failure.kind == "unknown"
        assert len({life.incarnation for life in orchestrator.registrations}) == 2


async def test_changed_content_cancelling_and_draining() -> None:
    async with Harness(make_agent()) as orchestrator:
        changed = await orchestrator.result(await orchestrator.order("count", content_hash="another"))
        assert changed.failure is not None
        assert changed.failure.kind == "content_changed"
        order = await orchestrator.order("sleep")
        await orchestrator.begun(order)
        await orchestrator.drain()
        await orchestrator.cancel(order)
        assert not (await orchestrator.result(order)).ok
        await asyncio.wait_for(orchestrator.runtime.run_until_stopped(), 10)


async def test_rough_weather_runs_nothing_twice() -> None:
    agent, runs = Agent("worker"), []

    @agent.work("count")
    async def count(work: Work) -> None:
        runs.append(work.attempt_id)

    weather = Rough(Random(5), lose=0.2, duplicate=0.4, delay=0.3, longest_delay=0.02)
    async with Harness(agent, weather=weather) as orchestrator:
        orders = [make_order(agent, "count") for _ in range(4)]
        while len(orchestrator.results) < len(orders):
            for order in orders:
                if order.attempt_id not in orchestrator.results:
                    await orchestrator.send(order)
            await orchestrator.beats(1)
    assert sorted(runs) == sorted(order.attempt_id for order in orders)


async def test_waiting_in_vain_says_what_came() -> None:
    async with Harness(make_agent(), patience=0.2) as orchestrator:
        with pytest.raises(TimeoutError, match="register"):
            await orchestrator.result(make_order(orchestrator.agent, "count"))


PAGE = Path(__file__).parents[2] / "docs" / "testing-agents.md"


def shown_tests() -> dict[str, Callable[..., Any]]:
    """The tests in the page's Python, which is read as one module from top to bottom."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    return {name: value for name, value in names.items() if name.startswith("test_")}


ON_THE_PAGE = shown_tests()


@pytest.mark.parametrize("name", ON_THE_PAGE)
async def test_what_the_page_shows_works(name: str, tmp_path: Path) -> None:
    test = ON_THE_PAGE[name]
    await test(*([tmp_path] if inspect.signature(test).parameters else []))


def test_the_page_shows_all_of_it() -> None:
    assert len(ON_THE_PAGE) == 6


async def test_outputs_are_compared_with_what_is_declared() -> None:
    class Found(BaseModel):
        address: str

    agent = Agent("finder")

    @agent.work("find_it", outputs=Found)
    async def find_it(work: Work, p: Times) -> dict[str, str]:
        return {"address": "here"} if p.times else {}

    assert (await run(agent, "find_it", {"times": 1})).unfit_outputs is None
    assert (await run(agent, "find_it", {"times": 0})).unfit_outputs == "address is missing"
