"""What routing learns, keeps and can take again, on a real store."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chargehand.domain.intents import Resources
from chargehand.domain.messages import Failure
from chargehand.domain.plans import WorkTask
from chargehand.domain.routing import AgentFacts
from chargehand.routing.performance import Performance, Run
from chargehand.routing.replay import replayed
from chargehand.routing.wait_policy import ENOUGH
from tests.builders import make_resources, make_spec
from tests.world import PaperAgent, World

A = make_spec("deploy_page", retry_safe=True)
B = make_spec("check_page", work_type="monitor_system", retry_safe=True)
BROKEN = Failure(kind="retryable", message="host unreachable")


async def work(world: World, requests: int, seed: int) -> None:
    """Let requests through, their work going well or not by chance."""
    chance = random.Random(seed)
    for n in range(requests):
        await world.approved("deploy_page", "check_page", words=f"request {seed} {n}")
    for _ in range(25):
        await world.due_now()
        await world.engine.dispatch()
        for agent in world.agents.values():
            for order in await agent.orders():
                await agent.accept(order)
                ok = chance.random() < 0.7
                used = {"memory_mb": float(chance.randrange(100, 900))}
                failure = None if ok else BROKEN
                await agent.finish(order, failure, duration_ms=chance.randrange(100, 9000), resources_used=used)


async def decisions(world: World) -> list[tuple[WorkTask, Any]]:
    """Return every stored decision with its task."""
    return [(WorkTask.model_validate(row["spec"]), row) for row in await world.queries.routing()]


async def test_every_stored_decision_can_be_taken_again_exactly(world: World) -> None:
    for n in range(4):
        await world.agent(f"infra-{n}", A, B, slots=1 + n % 2, cores=4 * n)
    await world.agent("other", make_spec("something_else"))
    await work(world, 8, seed=1)
    await world.approved("deploy_page", words="nobody will be there")
    await world.run("UPDATE agent_registry SET status = 'offline' WHERE name <> 'other'")
    await world.engine.dispatch()
    stored = await decisions(world)
    assert len(stored) > 20
    assert any(row["retried"] for _, row in stored)
    assert any(row["selected_agent_id"] is None for _, row in stored)
    for task, row in stored:
        again = replayed(task, row)
        assert again is not None
        assert again.same, (row["reason"], again.decision.reason)


async def busy(world: World) -> tuple[PaperAgent, PaperAgent, UUID]:
    """Fill the better of two agents, where tasks have had to wait, and ask for more. Returns both and the request."""
    good, bad = await world.agent("good", A, slots=1), await world.agent("bad", A, slots=1)
    await world.run("UPDATE agent_registry SET overall_runs = 30, overall_successes = 29")
    await world.run("UPDATE agent_registry SET overall_successes = 9 WHERE name = 'bad'")
    for _ in range(ENOUGH):
        world.engine.assignment.waits.saw("deploy_page", 100.0)
    await world.approved("deploy_page", words="first")
    await world.engine.dispatch()
    request_id = await world.approved("deploy_page", words="second")
    await world.engine.dispatch()
    return good, bad, request_id


async def placed(world: World, request_id: UUID) -> tuple[str, Any, bool]:
    """Return where the request's one task stands, whom it waits for, and whether it looks again at once."""
    (row,) = await world.run(
        "SELECT status, waits_for, due_at <= now() AS due FROM tasks WHERE request_id = $1", request_id
    )
    return row["status"], row["waits_for"], bool(row["due"])


async def test_a_task_waits_for_the_better_agent_and_gets_it_when_it_is_free(world: World) -> None:
    good, _, request_id = await busy(world)
    assert await placed(world, request_id) == ("ready", good.agent_id, False)
    assert (await world.kinds(request_id))[-1] == "task.waits"
    async with world.store.transaction() as tx:
        facts = (await tx.pool([("deploy_page", A.work_type)]))["deploy_page"]
    assert {agent.name: agent.in_line for agent in facts} == {"good": 1, "bad": 0}
    assert await good.work_off() == 1
    assert await placed(world, request_id) == ("ready", good.agent_id, True)
    await world.engine.dispatch()
    assert await placed(world, request_id) == ("dispatched", None, False)
    assert await good.work_off() == 1
    assert [replayed(task, row).same for task, row in await decisions(world)] == [True] * 3  # type: ignore[union-attr]


async def test_who_waits_for_one_agent_is_not_called_when_another_is_freed(world: World) -> None:
    good, bad, _ = await busy(world)
    await world.run("UPDATE agent_registry SET in_flight = 1 WHERE name = 'bad'")
    async with world.store.transaction() as tx:
        assert await tx.execute("hasten_tasks", 4, [bad.agent_id]) == 0
        assert await tx.execute("hasten_tasks", 4, [good.agent_id]) == 1


async def test_a_task_that_has_waited_for_long_enough_takes_who_is_free(world: World) -> None:
    _, bad, request_id = await busy(world)
    await world.run("UPDATE tasks SET ready_since = now() - interval '91 seconds' WHERE request_id = $1", request_id)
    await world.due_now()
    await world.engine.dispatch()
    assert await placed(world, request_id) == ("dispatched", None, False)
    assert len(await bad.orders()) == 1


async def test_the_time_of_a_choice_is_none_in_which_nobody_was_there(world: World) -> None:
    _, _, request_id = await busy(world)
    counted = world.engine.assignment.waits.known("deploy_page")
    await world.run("UPDATE agent_registry SET in_flight = slots")
    over = "UPDATE tasks SET ready_since = now() - interval '1 day', due_at = now(), chose_until = now() - $2::interval"
    for since, status in ((299, "ready"), (301, "failed")):
        await world.run(f"{over} WHERE request_id = $1", request_id, timedelta(seconds=since))
        await world.engine.dispatch()
        assert (await placed(world, request_id))[:2] == (status, None)
    assert world.engine.assignment.waits.known("deploy_page") == counted


async def test_who_waited_by_choice_is_counted_once(world: World) -> None:
    _, bad, _ = await busy(world)
    counted = world.engine.assignment.waits.known("deploy_page")
    await world.run("UPDATE tasks SET waits_for = NULL, due_at = now(), ready_since = now() - interval '1 day'")
    await world.engine.dispatch()
    assert len(await bad.orders()) == 1
    assert world.engine.assignment.waits.known("deploy_page") == counted


async def test_nobody_waits_for_an_agent_that_has_gone(world: World) -> None:
    _, bad, request_id = await busy(world)
    await world.run("UPDATE agent_registry SET last_heartbeat_at = now() - interval '1 hour' WHERE name = 'good'")
    await world.sweep.mark_offline()
    assert (await placed(world, request_id))[2]
    await world.engine.dispatch()
    assert len(await bad.orders()) == 1


async def test_a_stored_decision_that_was_altered_is_not_the_same(world: World) -> None:
    await world.agent("infra-1", A, B)
    await work(world, 1, seed=2)
    task, row = (await decisions(world))[-1]
    candidate = row["decision"]["candidates"][0]
    facts = [*candidate["facts"]]
    facts[AgentFacts._fields.index("success_count")] += 3
    altered = {**row, "decision": {**row["decision"], "candidates": [{**candidate, "facts": facts}]}}
    again = replayed(task, altered)
    assert again is not None
    assert not again.same


async def test_what_is_learnt_is_what_the_outcomes_say(world: World) -> None:
    agent = await world.agent("infra-1", A, B)
    await work(world, 6, seed=3)
    expected: dict[tuple[str, str], Performance] = {}
    rows = await world.run(
        "SELECT t.work_type, t.intent, a.number, a.status, a.duration_ms, a.result "
        "FROM attempts a JOIN tasks t USING (task_id) ORDER BY a.ended_at, a.lease_token"
    )
    for row in rows:
        ok, again = row["status"] == "succeeded", row["number"] > 1
        own = expected.get((row["work_type"], row["intent"]), Performance())
        run = own.judged(Run(ok, row["duration_ms"], row["result"]["resources_used"], repeated=again))
        for key in ((row["work_type"], ""), (row["work_type"], row["intent"])):
            expected[key] = expected.get(key, Performance()).after(run)
    learnt = await world.queries.performance()
    assert len(learnt) == len(expected) == 4
    for row in learnt:
        kept = expected[row["work_type"], row["intent"]]
        assert row["deviation_ms"] == pytest.approx(kept.deviation_ms)
        assert (row["difficulty"], row["difficulty_assessment"]) == (pytest.approx(kept.difficulty), kept.assessment)
        assert (row["success_count"], row["failure_count"]) == (kept.counts.successes, kept.counts.failures)
        assert row["total_duration_ms"] == kept.counts.total_duration_ms
        assert row["lately_successes"] == pytest.approx(kept.lately.successes)
        assert (row["p50_ms"], row["p90_ms"]) == (pytest.approx(kept.p50_ms), pytest.approx(kept.p90_ms))
        assert row["resources_used"] == {"memory_mb": pytest.approx(kept.resources_used["memory_mb"])}
    (registered,) = await world.queries.agents()
    runs = sum(kept.counts.runs for (_, intent), kept in expected.items() if intent)
    assert registered["overall_runs"] == pytest.approx(sum(0.97**n for n in range(runs)))
    assert str(registered["agent_id"]) == str(agent.agent_id)


FAILED = Failure(kind="failed", message="no space on /srv")


async def ended_by_all(world: World) -> list[str]:
    """Let everybody fail at what they get, until nothing is handed out. Return who had it, in order."""
    had = []
    for _ in range(5):
        await world.due_now()
        await world.engine.dispatch()
        for agent in world.agents.values():
            for order in await agent.orders():
                had.append(agent.name)
                await agent.accept(order)
                await agent.finish(order, FAILED)
    return had


async def test_what_failed_on_one_agent_is_tried_once_on_each_other(world: World) -> None:
    await world.agent("one", A)
    await world.agent("two", A)
    await world.agent("away", A)
    await world.agent("new", A)
    await world.run("UPDATE agent_registry SET status = 'offline' WHERE name = 'away'")
    request_id = await world.approved("deploy_page")
    of_new = "(SELECT agent_id FROM agent_registry WHERE name = 'new')"
    await world.run(f"UPDATE agent_intents SET content_hash = 'another' WHERE agent_id = {of_new}")
    assert sorted(await ended_by_all(world)) == ["one", "two"]
    (task,) = await world.queries.tasks(request_id)
    assert (task["status"], task["status_reason"]) == ("failed", "no space on /srv")


async def test_what_failed_is_done_by_the_other_agent(world: World) -> None:
    for name in ("one", "two"):
        await world.agent(name, A)
    request_id = await world.approved("deploy_page")
    for failure in (FAILED, None):
        await world.due_now()
        await world.engine.dispatch()
        for agent in world.agents.values():
            for order in await agent.orders():
                await agent.accept(order)
                await agent.finish(order, failure)
    assert (await world.queries.request(request_id))["status"] == "completed"
    assert len({attempt["agent_id"] for attempt in await world.queries.attempts(request_id)}) == 2


async def test_what_failed_and_is_not_safe_to_repeat_is_not_tried_elsewhere(world: World) -> None:
    for name in ("one", "two"):
        await world.agent(name, A.model_copy(update={"retry_safe": False}))
    await world.approved("deploy_page")
    assert len(await ended_by_all(world)) == 1


async def test_the_next_decision_knows_what_has_just_been_learnt(world: World) -> None:
    await world.agent("good", A, slots=9)
    await world.agent("bad", A, slots=9)
    for n in range(24):
        await world.approved("deploy_page", words=f"{n}")
        await world.engine.dispatch()
        for agent in world.agents.values():
            for order in await agent.orders():
                await agent.accept(order)
                await agent.finish(order, None if agent.name == "good" else Failure(kind="permanent", message="no"))
    last = (await decisions(world))[-1][1]
    assert last["reason"].startswith("good: chance")
    assert last["predicted_success"] > 0.8
    assert last["predicted_ms"] == pytest.approx(1000, rel=0.25)  # it moves by steps
    assert (last["succeeded"], last["duration_ms"]) == (True, 1000)
    placed = [row["reason"].partition(":")[0] for _, row in await decisions(world)]
    assert placed.count("good") > 16


QUICK, SLOW = (make_spec(name, retry_safe=True) for name in ("turn_page", "copy_disk"))  # of one work type


async def done(world: World, agent: PaperAgent, times: int, took: dict[str, int], **fields: Any) -> None:
    """Let each intent be done so often, in so many milliseconds."""
    for n in range(times):
        for intent, duration_ms in took.items():
            await world.approved(intent, words=f"{intent} {n}")
            await world.engine.dispatch()
            for order in await agent.orders():
                await agent.accept(order)
                await agent.finish(order, None, duration_ms=duration_ms, **fields)


async def test_intents_of_one_work_type_are_estimated_by_their_own_runs(world: World) -> None:
    agent = await world.agent("infra-1", QUICK, SLOW)
    await done(world, agent, 10, {"turn_page": 2_000, "copy_disk": 300_000})
    plan = (await world.reads.snapshot(await world.planned("turn_page", "copy_disk", words="both"))).plan
    assert plan is not None
    quick, slow = plan.plan.tasks
    assert (quick.resource_requirements.estimated_duration_seconds, quick.estimate) == (
        15, "15 s: 60 s declared, and 10 runs of turn_page",
    )  # fmt: skip
    assert slow.resource_requirements.estimated_duration_seconds == 223
    await world.approved("turn_page", words="once more")
    await world.engine.dispatch()
    last = (await decisions(world))[-1][1]
    assert last["decision"]["prediction"] == "10 runs of turn_page"
    assert last["predicted_ms"] == pytest.approx(2_000, rel=0.15)  # it moves by steps


async def test_what_work_has_used_is_what_the_next_needs(world: World) -> None:
    agent = await world.agent("infra-1", QUICK)
    used = {"memory_mb": 3_000.0, "cpu_cores": 1.8}
    await done(world, agent, 10, {"turn_page": 2_000}, resources_used=used)
    first = await world.approved("turn_page", words="first")
    second = await world.approved("turn_page", words="second")
    await world.engine.dispatch()
    assert [await world.task_statuses(request_id) for request_id in (first, second)] == [["dispatched"], ["ready"]]
    (task,) = await world.queries.tasks(second)
    assert task["status_reason"] == "0/1 agents can run turn_page: 1 busy: needs 3,000 MiB of memory, 1,096 left"
    assert await agent.work_off() == 1
    await world.due_now()
    await world.engine.dispatch()
    assert await agent.work_off() == 1


async def test_a_step_does_not_go_where_a_heartbeat_shows_too_little_memory(world: World) -> None:
    large = make_spec("copy_disk", resources=make_resources(memory=3_000))
    agent = await world.agent("infra-1", large)
    request_id = await world.approved("copy_disk")
    for free, status in ((1_000, "ready"), (3_500, "dispatched")):
        await agent.beat(free=Resources(cpu_cores=1, memory_mb=free))
        await world.due_now()
        await world.engine.dispatch()
        assert await world.task_statuses(request_id) == [status]
    other = await world.approved("copy_disk", words="another, before the agent has begun the first")
    await world.run("UPDATE agent_registry SET resources = resources || '{\"memory_mb\": 64000}'")
    await world.engine.dispatch()
    assert await world.task_statuses(other) == ["ready"]
    (order,) = await agent.orders()
    await agent.accept(order)
    await agent.beat(order.attempt_id, free=Resources(cpu_cores=1, memory_mb=3_500))
    await world.due_now()
    await world.engine.dispatch()
    assert await world.task_statuses(other) == ["dispatched"], "what the first one takes is in the heartbeat now"
    assert all(again.same for task, row in await decisions(world) if (again := replayed(task, row)))
