"""An agent keeps its promises to the orchestrator: orders, grants, results, refusals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from chargehand.agent import Agent, Outcome, TaskFailed, TaskInterrupted, Work
from chargehand.agent.offers import Offer
from chargehand.agent.runtime.attempts import WAITING_PER_SLOT
from chargehand.agent.runtime.control_messages import Recorded
from chargehand.broker import dead_letters
from chargehand.broker.weather import Rough
from chargehand.domain.envelopes import MessageType, encode
from chargehand.domain.errors import BadConfiguration, BrokerUnreachable
from chargehand.domain.intents import IntentSpec
from chargehand.domain.ports import work_queue
from chargehand.domain.risks import Risk
from chargehand.domain.value import Value
from tests.integration.counterpart import (
    AGENT_ID,
    HEARTBEAT,
    KEY,
    Counterpart,
    counterpart,
    envelope,
    make_order,
    make_runtime,
    running,
    until,
)


class Times(BaseModel):
    times: int = 1


@dataclass
class Bench:
    """An agent whose work is counted and can be held."""

    agent: Agent = field(default_factory=lambda: Agent("worker", slots=2))
    runs: list[UUID] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

        @self.agent.work("do_it", retry_safe=True)
        async def do_it(work: Work, p: Times) -> Outcome:
            self.runs.append(work.attempt_id)
            await self.hold.wait()
            return Outcome("done", changed=True, outputs={"times": p.times}, difficulty="straightforward")


@pytest.fixture
async def bench() -> Bench:
    return Bench()


@pytest.fixture
async def desk() -> AsyncIterator[Counterpart]:
    async with counterpart() as made:
        yield made


async def test_a_retry_safe_order_is_run_and_reported(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    async with running(bench.agent, desk, tmp_path):
        order = await desk.order(make_order(parameters={"times": 3}))
        result = await desk.result(order)
        assert (result.ok, result.summary, result.changed, result.outputs) == (True, "done", True, {"times": 3})
        assert (result.lease_token, result.difficulty) == (7, "straightforward")
        said = [report.type for report in desk.reports if report.payload.get("attempt_id") == str(order.attempt_id)]
        assert said == [MessageType.WORK_RESULT], "work that is over at once says nothing but what came of it"
    [registration] = desk.registrations()
    assert (registration.agent_id, registration.slots) == (AGENT_ID, 2)
    assert [spec.intent for spec in registration.intents] == ["do_it"]
    assert registration.resources.memory_mb > 0


async def test_longer_work_says_that_it_has_begun(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    bench.hold.clear()
    async with running(bench.agent, desk, tmp_path):
        order = await desk.order(make_order())
        await desk.begun(order)
        bench.hold.set()
        assert (await desk.result(order)).ok


async def test_an_order_that_waits_for_a_slot_is_accepted(desk: Counterpart, tmp_path: Path) -> None:
    bench = Bench(Agent("narrow", slots=1))
    bench.hold.clear()
    async with running(bench.agent, desk, tmp_path) as runtime:
        await desk.begun(await desk.order(make_order()))
        waiting = await desk.order(make_order())
        await desk.accepted(waiting, needs_grant=False, incarnation=runtime.incarnation, lease_token=7)
        bench.hold.set()
        assert (await desk.result(waiting)).ok


async def test_work_that_is_not_retry_safe_waits_for_its_grant(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    desk.grants = False
    async with running(bench.agent, desk, tmp_path):
        order = await desk.order(make_order(retry_safe=False))
        await desk.accepted(order, needs_grant=True)
        await desk.grant(order, lease_token=6)  # of another lease
        await desk.grant(order, incarnation="an earlier life")
        await desk.beats(3)
        assert bench.runs == []
        assert desk.count(MessageType.WORK_ACCEPTED, order) > 1  # it asks again: a grant may be lost
        await desk.grant(order)
        assert (await desk.result(order)).ok


async def test_without_a_grant_the_order_is_handed_back(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    desk.grants = False
    async with running(bench.agent, desk, tmp_path):
        order = await desk.order(make_order(retry_safe=False, lease_seconds=0.3))
        result = await desk.result(order)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.details["started"]) == ("retryable", False)
    assert bench.runs == []


async def test_an_order_that_comes_again_runs_once(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    desk.records = False
    async with running(bench.agent, desk, tmp_path):
        bench.hold.clear()
        order = make_order()
        for _ in range(3):
            await desk.order(order)  # while it runs
        await desk.begun(order)
        bench.hold.set()
        await desk.result(order)
        before = desk.count(MessageType.WORK_RESULT, order)
        await desk.order(order)  # after its result
        await desk.beats(2)
        assert desk.count(MessageType.WORK_RESULT, order) > before
        await desk.record(order.attempt_id)
        await desk.beats(2)
        recorded = desk.count(MessageType.WORK_RESULT, order)
        await desk.order(order)  # after it was recorded
        await desk.beats(3)
        assert desk.count(MessageType.WORK_RESULT, order) == recorded
    assert bench.runs == [order.attempt_id]


async def test_everything_arrives_in_rough_weather_and_nothing_runs_twice(bench: Bench, tmp_path: Path) -> None:
    weather = Rough(Random(11), lose=0.2, duplicate=0.3, delay=0.3, longest_delay=0.03)
    async with counterpart(weather=weather) as desk, running(bench.agent, desk, tmp_path):
        orders = [make_order(retry_safe=n % 2 == 0) for n in range(8)]
        results = {}
        while len(results) < len(orders):  # as the reconciler: send again what has no result
            for order in orders:
                if order.attempt_id not in results:
                    await desk.order(order)
            await desk.beats(2)
            ended = [r.payload for r in desk.reports if r.type is MessageType.WORK_RESULT]
            results = {UUID(str(payload["attempt_id"])): payload for payload in ended}
    assert all(payload["ok"] for payload in results.values())
    assert sorted(bench.runs) == sorted(order.attempt_id for order in orders)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"key": b"somebody else's key"}, "bad envelope"),
        ({"from_agent": "agent-9"}, "bad envelope"),
        ({"to_agent": "agent-9"}, "another agent's"),
    ],
)
async def test_orders_that_are_not_ours_are_refused(
    bench: Bench, desk: Counterpart, tmp_path: Path, fields: dict[str, object], reason: str
) -> None:
    async with running(bench.agent, desk, tmp_path) as runtime:
        refused = make_order()
        await desk.order(refused, **fields)  # type: ignore[arg-type]
        good = await desk.order(make_order())
        await desk.result(good)
    assert runtime.refused == {reason: 1}
    assert bench.runs == [good.attempt_id]
    assert len(desk.broker.peek(dead_letters(work_queue(AGENT_ID)))) == 1


async def test_an_order_for_the_same_agent_with_another_journal_is_left_to_it(
    bench: Bench, desk: Counterpart, tmp_path: Path
) -> None:
    """Two homes with one identity: only the one whose journal the orchestrator knows may run what it sends."""
    async with running(bench.agent, desk, tmp_path / "one") as one, running(bench.agent, desk, tmp_path / "two") as two:
        first, second = (life.incarnation.partition(".")[0] for life in (one, two))
        orders = [await desk.order(make_order(journal=first)) for _ in range(4)]
        for order in orders:
            assert (await desk.result(order)).ok
        left = two.refused["another journal's"]
        nobody = await desk.order(make_order(journal="a third home's"))
        await until(lambda: desk.broker.peek(dead_letters(work_queue(AGENT_ID))))
    assert first != second
    assert left > 0
    assert sorted(bench.runs) == sorted(order.attempt_id for order in orders)
    assert nobody.attempt_id not in bench.runs


async def test_unsigned_and_unfit_messages_are_refused(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    unsigned = envelope(MessageType.WORK_REQUEST, make_order()).model_dump_json().encode()
    unfit = encode(envelope(MessageType.WORK_REQUEST, Recorded(attempt_ids=())), KEY)
    misplaced = encode(envelope(MessageType.RECORDED, Recorded(attempt_ids=())), KEY)
    async with running(bench.agent, desk, tmp_path) as runtime:
        await desk.broker.publish([(work_queue(AGENT_ID), body) for body in (unsigned, unfit, misplaced, b"\0")])
        await desk.result(await desk.order(make_order()))
    assert runtime.refused == {"bad envelope": 2, "bad payload": 1, "wrong type": 1}


async def test_an_unknown_intent_and_bad_parameters_fail_for_good(
    bench: Bench, desk: Counterpart, tmp_path: Path
) -> None:
    async with running(bench.agent, desk, tmp_path):
        unknown = await desk.result(await desk.order(make_order("juggle")))
        unfit = await desk.result(await desk.order(make_order(parameters={"times": "hunter2"})))
    assert unknown.failure is not None
    assert unfit.failure is not None
    assert (unknown.failure.kind, unfit.failure.kind) == ("permanent", "permanent")
    assert "juggle" in unknown.summary
    assert "times" in unfit.summary
    assert "hunter2" not in unfit.model_dump_json()
    assert bench.runs == []


async def test_a_dry_run_never_runs_what_has_none(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    async with running(bench.agent, desk, tmp_path):
        result = await desk.result(await desk.order(make_order(dry_run=True)))
    assert result.failure is not None
    assert result.failure.kind == "permanent"
    assert bench.runs == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TaskFailed("the host says no"), "permanent"),
        (TaskInterrupted("the host is away"), "retryable"),
        (ZeroDivisionError("division by zero"), "permanent"),
        (OSError(28, "No space left on device"), "infrastructure"),
        (SystemExit(3), "permanent"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
async def test_exceptions_of_the_work_become_failures(
    desk: Counterpart, tmp_path: Path, error: BaseException, kind: str
) -> None:
    agent = Agent("raiser")

    @agent.work("do_it")
    async def do_it(work: Work) -> None:
        raise error

    async with running(agent, desk, tmp_path):
        result = await desk.result(await desk.order(make_order()))
    assert result.failure is not None
    assert result.failure.kind == kind
    assert not result.ok


async def finish_anyway(_: Work) -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    return "it was too late to stop"


async def fail_on_the_way_out(_: Work) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError as error:
        raise RuntimeError("cannot clean up") from error


async def linger(_: Work) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(1.0)  # longer than the patience below


@pytest.mark.parametrize(
    ("reaction", "kind"),
    [(finish_anyway, None), (fail_on_the_way_out, "cancelled"), (linger, "unknown")],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_whatever_work_does_about_its_cancellation_there_is_a_result(
    desk: Counterpart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reaction: Any, kind: str | None
) -> None:
    monkeypatch.setattr("chargehand.agent.runtime.attempt.STUBBORN", 0.2)
    agent = Agent("stubborn")
    agent.work("do_it")(reaction)
    async with running(agent, desk, tmp_path):
        order = await desk.order(make_order())
        await desk.begun(order)
        await desk.cancel(order)
        result = await desk.result(order)
    assert (result.failure and result.failure.kind) == kind


OTHER_TERMS: dict[str, dict[str, Any]] = {
    "risk": {"risk": "read"},
    "retry_safe": {"retry_safe": True},
    "exclusive_keys": {"exclusive_keys": ("host:other",)},
    "dry_run": {"dry_run": True},
    "parameters": {"parameters": {"type": "object", "properties": {"x": {}}}},
    "outputs": {"outputs": {"type": "object"}},
    "work_type": {"work_type": "monitor_system"},
    "examples": {"examples": ("do something else",)},
}


@pytest.mark.parametrize("terms", OTHER_TERMS.values(), ids=OTHER_TERMS)
async def test_what_was_approved_under_other_terms_is_not_run(
    bench: Bench, desk: Counterpart, tmp_path: Path, terms: dict[str, Any]
) -> None:
    """The content is the same. What another agent said of it, or this one in an earlier life, was approved."""
    spec = IntentSpec(intent="wipe", work_type="run_playbook", risk=Risk.DESTROY, content_hash="same")
    other = IntentSpec.model_validate({**spec.model_dump(), **terms})
    ran = []

    async def wipe(work: Work) -> str:
        ran.append(work.attempt_id)
        return "wiped"

    bench.agent.offer(spec, wipe)
    async with running(bench.agent, desk, tmp_path):
        for content in (other.bound_hash, spec.content_hash):
            refused = await desk.result(await desk.order(make_order("wipe", content_hash=content)))
            assert refused.failure is not None
            assert refused.failure.kind == "content_changed"
        assert ran == []
        assert (await desk.result(await desk.order(make_order("wipe", content_hash=spec.bound_hash)))).ok


async def test_content_that_cannot_be_vouched_for_is_not_run_though_that_was_offered(
    bench: Bench, desk: Counterpart, tmp_path: Path
) -> None:
    spec = IntentSpec(intent="play", work_type="run_playbook", content_hash="")

    async def play(_: Work) -> str:
        return "played"

    bench.agent.offer(spec, play, content=lambda: "")
    async with running(bench.agent, desk, tmp_path):
        result = await desk.result(await desk.order(make_order("play", content_hash=spec.bound_hash)))
    assert (result.failure and result.failure.kind) == "content_changed"


async def test_content_that_changed_is_not_run(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    playbook = tmp_path / "site.yml"
    spec = IntentSpec(intent="play", work_type="run_playbook", content_hash="old", source=str(playbook))
    ran = []

    async def play(work: Work) -> str:
        ran.append(work.attempt_id)
        return "played"

    bench.agent.offer(spec, play, content=playbook.read_text)
    async with running(bench.agent, desk, tmp_path / "home"):
        missing = await desk.result(await desk.order(make_order("play", content_hash=spec.bound_hash)))
        playbook.write_text("new")
        changed = await desk.result(await desk.order(make_order("play", content_hash=spec.bound_hash)))
        playbook.write_text("old")
        same = await desk.result(await desk.order(make_order("play", content_hash=spec.bound_hash)))
    for result in (missing, changed):
        assert result.failure is not None
        assert result.failure.kind == "content_changed"
        assert str(playbook) in result.summary
    assert same.ok
    assert ran == [same.attempt_id]


async def test_slots_are_respected_and_waiting_is_bounded(desk: Counterpart, tmp_path: Path) -> None:
    bench = Bench(Agent("narrow", slots=1))
    bench.hold.clear()
    async with running(bench.agent, desk, tmp_path):
        first = await desk.order(make_order(retry_safe=False))
        await desk.begun(first)
        others = [await desk.order(make_order(retry_safe=False)) for _ in range(WAITING_PER_SLOT + 1)]
        overflow = await desk.result(others[-1])
        assert overflow.failure is not None
        assert overflow.failure.kind == "retryable"
        await desk.accepted(others[0], needs_grant=False)  # in the journal; asks for its grant with a slot in hand
        assert bench.runs == [first.attempt_id]
        bench.hold.set()
        results = [await desk.result(order) for order in (first, *others[:-1])]
    assert all(result.ok for result in results)
    assert bench.runs == [order.attempt_id for order in (first, *others[:-1])]


async def test_results_are_repeated_until_recorded(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    desk.records = False
    async with running(bench.agent, desk, tmp_path):
        order = await desk.order(make_order())
        await desk.result(order)
        await desk.beats(3)
        assert desk.count(MessageType.WORK_RESULT, order) >= 3
        await desk.record(order.attempt_id)
        await desk.beats(2)
        last = desk.count(MessageType.WORK_RESULT, order)
        await desk.beats(3)
        assert desk.count(MessageType.WORK_RESULT, order) == last


async def test_what_is_not_answered_is_said_less_and_less_often(
    bench: Bench, desk: Counterpart, tmp_path: Path
) -> None:
    """An orchestrator that is behind is not buried under copies of what it has not come to."""
    desk.records = False
    async with running(bench.agent, desk, tmp_path):
        order = await desk.order(make_order())
        await desk.result(order)
        await desk.beats(17)
        assert 4 <= desk.count(MessageType.WORK_RESULT, order) <= 8  # at first, then with beats 1, 2, 4, 8, 16, 24


async def test_heartbeats_name_what_runs_and_what_is_free(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    bench.hold.clear()
    async with running(bench.agent, desk, tmp_path) as runtime:
        order = await desk.order(make_order())
        await desk.begun(order)
        await desk.beats(2)
        beat = desk.heartbeats()[-1]
        assert (beat.agent_id, beat.incarnation, beat.running) == (AGENT_ID, runtime.incarnation, (order.attempt_id,))
        assert beat.free.memory_mb > 0
        bench.hold.set()
        await desk.result(order)
        await desk.beats(2)
        assert desk.heartbeats()[-1].running == ()


async def test_an_agent_that_could_not_register_does_so_with_a_heartbeat(bench: Bench, tmp_path: Path) -> None:
    desk = Counterpart()
    await desk.broker.start()  # nobody has declared the events queue yet
    async with running(bench.agent, desk, tmp_path):
        await asyncio.sleep(2 * HEARTBEAT)
        await desk.start()
        await desk.expect(MessageType.REGISTER)
    await desk.broker.stop()


async def test_an_agent_that_is_asked_registers_again_with_its_next_heartbeat(
    bench: Bench, desk: Counterpart, tmp_path: Path
) -> None:
    """Its registration was confirmed, and lost by the broker before anybody read it."""
    async with running(bench.agent, desk, tmp_path):
        first = await desk.expect(MessageType.REGISTER)
        await desk.control(MessageType.REGISTER, Value())
        again = await desk.expect(MessageType.REGISTER, lambda _: desk.count(MessageType.REGISTER) == 2)
        assert again.payload["incarnation"] == first.payload["incarnation"]
        await desk.beats(3)
        assert desk.count(MessageType.REGISTER) == 2, "once asked, once said"


async def test_changed_offers_are_registered_and_take_effect(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    async def play(work: Work) -> str:
        return "played"

    async with running(bench.agent, desk, tmp_path) as runtime:
        bench.agent.replace_offers([Offer(IntentSpec(intent="play", work_type="run_playbook"), play)])
        await runtime.offers_changed()
        await desk.expect(MessageType.REGISTER, lambda p: len(p["intents"]) == 2)
        assert (await desk.result(await desk.order(make_order("play")))).summary == "played"


async def test_progress_is_merged_when_it_comes_too_fast(desk: Counterpart, tmp_path: Path) -> None:
    agent = Agent("chatty")

    @agent.work("do_it")
    async def do_it(work: Work) -> None:
        for n in range(500):
            await work.progress(f"line {n}", last=n)
            await asyncio.sleep(0)

    async with running(agent, desk, tmp_path):
        order = await desk.order(make_order())
        await desk.result(order)
    said = await desk.expect(MessageType.WORK_PROGRESS, lambda p: p["message"].endswith("line 499"))
    assert said.payload["message"].splitlines() == [f"line {n}" for n in range(490, 500)]
    assert said.payload["data"]["last"] == 499
    assert desk.count(MessageType.WORK_PROGRESS, order) < 20


async def test_what_is_said_in_quick_steps_is_told_step_by_step(desk: Counterpart, tmp_path: Path) -> None:
    agent = Agent("quick")

    @agent.work("do_it")
    async def do_it(work: Work) -> None:
        for step in ("folder made", "file written", "done"):
            await work.progress(step)

    async with running(agent, desk, tmp_path):
        order = await desk.order(make_order())
        await desk.result(order)
    said = await desk.expect(MessageType.WORK_PROGRESS)
    assert said.payload["started"]
    assert said.payload["message"] == "folder made\nfile written\ndone"


async def test_draining_finishes_what_runs_and_hands_back_the_rest(desk: Counterpart, tmp_path: Path) -> None:
    bench = Bench(Agent("narrow", slots=1))
    bench.hold.clear()
    runtime = make_runtime(bench.agent, desk, tmp_path)
    await runtime.start()
    first = await desk.order(make_order())
    await desk.begun(first)
    waiting = await desk.order(make_order())
    await desk.accepted(waiting)
    draining = asyncio.create_task(runtime.stop(drain=True))
    handed_back = await desk.result(waiting)
    assert handed_back.failure is not None
    assert (handed_back.failure.kind, handed_back.failure.details["started"]) == ("retryable", False)
    late = await desk.order(make_order())
    await desk.beats(2)
    assert desk.heartbeats()[-1].draining
    await desk.control(MessageType.REGISTER, Value())
    await desk.expect(MessageType.REGISTER, lambda said: said["draining"])
    bench.hold.set()
    await asyncio.wait_for(draining, 10)
    assert (await desk.result(first)).ok
    assert bench.runs == [first.attempt_id]
    assert len(desk.broker.peek(work_queue(AGENT_ID))) == 1  # for the next life
    assert desk.count(MessageType.WORK_ACCEPTED, late) == 0


async def test_stopping_reports_running_work_as_unknown_and_leaves_no_task(
    bench: Bench, desk: Counterpart, tmp_path: Path
) -> None:
    before = asyncio.all_tasks()
    bench.hold.clear()
    runtime = make_runtime(bench.agent, desk, tmp_path)
    await runtime.start()
    order = await desk.order(make_order())
    await desk.begun(order)
    await runtime.stop()
    await runtime.stop()
    result = await desk.result(order)
    assert result.failure is not None
    assert result.failure.kind == "unknown"
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() <= before


async def test_a_second_agent_on_the_same_home_is_refused(bench: Bench, desk: Counterpart, tmp_path: Path) -> None:
    async with running(bench.agent, desk, tmp_path):
        with pytest.raises(BadConfiguration, match="another agent is running on"):
            await make_runtime(bench.agent, desk, tmp_path).start()
    async with running(bench.agent, desk, tmp_path):  # and is welcome afterwards
        pass


async def test_an_agent_that_cannot_start_gives_its_home_free(bench: Bench, tmp_path: Path) -> None:
    desk = Counterpart()
    with pytest.raises(BrokerUnreachable):
        await make_runtime(bench.agent, desk, tmp_path).start()
    await desk.start()
    async with running(bench.agent, desk, tmp_path):
        pass
    await desk.broker.stop()
