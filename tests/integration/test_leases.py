"""Never lost, never twice: leases, grants, late and forged messages, on a real database."""

from __future__ import annotations

from uuid import uuid4

import pytest

from chargehand.domain.envelopes import MessageType, derive_key
from chargehand.domain.messages import Failure, WorkOrder
from chargehand.domain.states import RequestStatus as R
from tests.builders import make_spec
from tests.world import PaperAgent, World

SAFE = make_spec("deploy_page", retry_safe=True)
UNSAFE = make_spec("send_bill", retry_safe=False)
BROKEN = Failure(kind="retryable", message="host unreachable")


async def test_work_that_is_not_safe_to_repeat_starts_only_with_a_grant_for_its_lease(world: World) -> None:
    agent = await world.agent("infra-1", UNSAFE)
    request_id = await world.approved("send_bill")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    (grant,) = await agent.control()
    assert grant.type is MessageType.START
    assert grant.payload["lease_token"] == order.lease_token
    assert grant.payload["incarnation"] == agent.incarnation
    assert await world.task_statuses(request_id) == ["running"]
    await agent.finish(order)
    assert await world.status(request_id) is R.COMPLETED


async def test_a_lost_agent_on_unsafe_work_means_a_person_and_never_a_second_run(world: World) -> None:
    agent = await world.agent("infra-1", UNSAFE)
    await world.agent("infra-2", UNSAFE)
    request_id = await world.approved("send_bill")
    await world.engine.dispatch()
    holder, order = await _placed(world)
    await holder.accept(order)
    await world.lose_leases()
    await world.sweep.sweep()
    await world.due_now()
    await world.engine.dispatch()
    assert await world.status(request_id) is R.IN_REVIEW
    assert [len(await a.orders()) for a in world.agents.values()] == [0, 0]
    (review,) = await world.queries.reviews(request_id)
    assert review["kind"] == "unknown_outcome"
    await world.control.retry(request_id, "ann", assume_done=True)
    assert await world.status(request_id) is R.COMPLETED
    assert agent.name == "infra-1"


async def test_a_person_may_have_unknown_work_run_again(world: World) -> None:
    await world.agent("infra-1", UNSAFE)
    request_id = await world.approved("send_bill")
    await world.engine.dispatch()
    holder, order = await _placed(world)
    await holder.accept(order)
    await world.lose_leases()
    await world.sweep.sweep()
    await world.control.retry(request_id, "ann")
    await world.engine.dispatch()
    (again,) = await holder.orders()
    assert again.lease_token > order.lease_token
    assert again.attempt_id != order.attempt_id
    assert again.number == 2, "attempts are numbered through"


async def test_unsafe_work_that_was_never_granted_is_simply_given_to_another_agent(world: World) -> None:
    await world.agent("infra-1", UNSAFE)
    await world.agent("infra-2", UNSAFE)
    await world.approved("send_bill")
    await world.engine.dispatch()
    first, order = await _placed(world)
    await world.lose_leases()
    await world.sweep.sweep()
    await world.due_now()
    await world.engine.dispatch()
    second, again = await _placed(world)
    assert second is not first, "another agent, because the first was tried"
    assert again.lease_token > order.lease_token


async def test_safe_work_of_a_lost_agent_runs_on_another_under_a_new_lease_and_the_late_result_is_an_anomaly(
    world: World,
) -> None:
    await world.agent("infra-1", SAFE)
    await world.agent("infra-2", SAFE)
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    first, order = await _placed(world)
    await first.accept(order)
    await first.start(order)
    await world.lose_leases()
    await world.sweep.sweep()
    await world.due_now()
    await world.engine.dispatch()
    second, again = await _placed(world)
    assert second is not first
    await first.finish(order, summary="late")
    assert await world.task_statuses(request_id) == ["dispatched"], "the late result changed nothing"
    (anomaly,) = await world.queries.anomalies(request_id)
    assert anomaly["kind"] == "late_work_result"
    told = {e.type for e in await first.control()}
    assert {MessageType.CANCEL, MessageType.RECORDED} <= told, "it was told to stop, and may forget its result"
    await second.accept(again)
    await second.finish(again)
    assert await world.status(request_id) is R.COMPLETED


async def test_a_heartbeat_renews_only_the_leases_of_its_own_agent(world: World) -> None:
    await world.agent("infra-1", SAFE)
    await world.agent("infra-2", SAFE)
    await world.approved("deploy_page")
    await world.engine.dispatch()
    holder, order = await _placed(world)
    other = next(a for a in world.agents.values() if a is not holder)
    await world.lose_leases()
    await world.engine.heartbeats([other.heartbeat(order.attempt_id), holder.heartbeat()])
    assert await _lease_left(world, order.attempt_id) < 0
    await holder.beat(order.attempt_id)
    assert await _lease_left(world, order.attempt_id) > 50
    await world.sweep.sweep()
    assert await world.run("SELECT 1 FROM attempts WHERE status = 'lost'") == []


async def test_a_life_that_is_no_longer_registered_keeps_its_leases_while_it_lives(world: World) -> None:
    """The broker confirms its heartbeats, so it goes on working, and nobody may be put beside it."""
    holder = await world.agent("infra-1", SAFE)
    await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await holder.orders()
    await holder.accept(order)
    former, holder.incarnation = holder.incarnation, "another life"
    await holder.register(SAFE)
    await world.lose_leases()
    holder.incarnation = former
    await holder.beat(order.attempt_id)
    assert await _lease_left(world, order.attempt_id) > 50


async def test_what_a_result_overtakes_is_no_anomaly(world: World) -> None:
    """Several servers read the queue, so an acceptance or progress may be recorded after the result."""
    agent = await world.agent("infra-1", SAFE)
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.finish(order)
    await agent.accept(order)
    await agent.start(order)
    assert await world.status(request_id) is R.COMPLETED
    assert await world.queries.anomalies() == []
    assert MessageType.CANCEL not in {e.type for e in await agent.control()}


async def test_the_first_progress_may_overtake_the_acceptance(world: World) -> None:
    agent = await world.agent("infra-1", SAFE)
    await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.start(order)
    await agent.accept(order)
    assert await agent.control() == []
    assert await world.queries.anomalies() == []


async def test_the_first_words_may_come_with_the_word_that_the_work_has_begun(world: World) -> None:
    agent = await world.agent("infra-1", SAFE)
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    await agent.start(order, "half way\nnearly there")
    kinds = await world.kinds(request_id)
    assert kinds.index("attempt.started") < kinds.index("task.progress")
    told = [e.data["message"] for e in await world.queries.events(request_id) if e.kind == "task.progress"]
    assert told == ["half way", "nearly there"]


async def test_a_result_sent_again_is_acknowledged_again_and_changes_nothing(world: World) -> None:
    agent = await world.agent("infra-1", SAFE)
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    await world.engine.record(
        [agent.result(order, outputs={"said": "a\0b"}), agent.result(order, outputs={"said": "a\0b"})]
    )
    await world.engine.record([agent.result(order, outputs={"said": "a\0b"})])
    kinds = await world.kinds(request_id)
    assert kinds.count("task.succeeded") == 1
    assert await world.queries.anomalies() == []
    assert [e.type for e in await agent.control()].count(MessageType.RECORDED) == 3
    assert [row["success_count"] for row in await world.queries.performance()] == [1, 1]  # of work type and intent


async def test_a_result_played_back_or_changed_afterwards_is_kept_and_changes_nothing(world: World) -> None:
    agent = await world.agent("infra-1", SAFE)
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    wire = agent.result(order)
    await world.engine.record([wire])
    before = await world.kinds(request_id)
    await world.engine.record([wire, agent.result(order, summary="it was otherwise")])
    assert await world.kinds(request_id) == before
    assert [a["kind"] for a in await world.queries.anomalies()] == ["second_work_result", "repeated_message"]


async def test_an_agent_registered_from_another_home_gets_nothing_that_the_first_may_know(world: World) -> None:
    agent = await world.agent("infra-1", SAFE, incarnation="journal-1.life-1")
    await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    assert order.journal == "journal-1"
    agent.incarnation = "journal-2.life-1"
    await world.gone("infra-1")
    await agent.register(SAFE)
    assert await agent.orders() == []
    (anomaly,) = await world.queries.anomalies()
    assert anomaly["kind"] == "another_journal"
    await world.approved("deploy_page", words="again")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    assert order.journal == "journal-2"


@pytest.mark.parametrize("forgery", ["unsigned", "wrong key", "another agent", "stale token", "nobody", "garbage"])
async def test_a_forged_message_changes_nothing_and_is_kept(world: World, forgery: str) -> None:
    agent = await world.agent("infra-1", SAFE)
    other = await world.agent("infra-2", make_spec("something_else"))
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    before = await world.kinds(request_id)
    await world.engine.record([_forged(forgery, world, agent, other, order)])
    assert await world.kinds(request_id) == before
    assert len(await world.queries.anomalies()) == 1
    await agent.finish(order)
    assert await world.status(request_id) is R.COMPLETED, "the true result still counts"


async def test_a_failure_that_may_pass_is_tried_on_another_agent_and_then_fails_with_the_reason(world: World) -> None:
    for name in ("infra-1", "infra-2", "infra-3"):
        await world.agent(name, SAFE)
    request_id = await world.approved("deploy_page")
    tried = []
    for _ in range(3):
        await world.due_now()
        await world.engine.dispatch()
        agent, order = await _placed(world)
        tried.append(agent.name)
        await agent.accept(order)
        await agent.finish(order, BROKEN)
    assert sorted(tried) == ["infra-1", "infra-2", "infra-3"]
    assert await world.status(request_id) is R.FAILED
    (task,) = await world.queries.tasks(request_id)
    assert "host unreachable" in task["status_reason"]
    decisions = await world.queries.decisions(request_id)
    assert [d["retried"] for d in decisions] == [False, True, True]
    assert [d["succeeded"] for d in decisions] == [False, False, False]


async def test_a_failed_plan_goes_on_from_its_failed_step(world: World) -> None:
    agent = await world.agent("infra-1", SAFE, make_spec("add_portals", retry_safe=True), make_spec("check"))
    request_id = await world.approved("deploy_page", "add_portals", "check")
    await world.engine.dispatch()
    await agent.work_off()
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.finish(order, Failure(kind="permanent", message="no such file"))
    assert await world.task_statuses(request_id) == ["succeeded", "failed", "skipped"]
    assert await world.status(request_id) is R.FAILED
    assert await world.control.retry(request_id, "ann") is R.RUNNING
    assert await world.task_statuses(request_id) == ["succeeded", "ready", "pending"]
    for _ in range(2):
        await world.engine.dispatch()
        await agent.work_off()
    assert await world.status(request_id) is R.COMPLETED
    assert len(await world.run("SELECT 1 FROM seals WHERE kind = 'ended'")) == 2, "one for each time it ended"


async def test_after_a_playbook_was_mended_the_rest_is_planned_and_approved_anew(world: World) -> None:
    agent = await world.agent("infra-1", SAFE, make_spec("add_portals", retry_safe=True))
    request_id = await world.approved("deploy_page", "add_portals")
    await world.engine.dispatch()
    await agent.work_off()
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.finish(order, Failure(kind="content_changed", message="the playbook was edited"))
    mended = make_spec("add_portals", retry_safe=True, content_hash="mended")
    await agent.register(SAFE, mended)
    assert await world.control.retry(request_id, "ann") is R.AWAITING_APPROVAL
    plan = await world.queries.plan(request_id)
    assert plan is not None
    assert [t["intent"] for t in plan["plan"]["tasks"]] == ["add_portals"]
    await world.control.approve(request_id, plan["digest"], "ann")
    await world.engine.dispatch()
    await agent.work_off()
    assert await world.status(request_id) is R.COMPLETED


async def test_a_restarted_agent_gets_the_orders_it_never_accepted_again_under_the_same_lease(world: World) -> None:
    agent = await world.agent("infra-1", UNSAFE, incarnation="journal-1.life-1")
    await world.approved("send_bill")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    agent.incarnation = "journal-1.life-2"
    await agent.register(UNSAFE)
    (again,) = await agent.orders()
    assert (again.attempt_id, again.lease_token) == (order.attempt_id, order.lease_token)


async def test_a_grant_is_not_given_to_another_life_of_the_agent(world: World) -> None:
    agent = await world.agent("infra-1", UNSAFE)
    request_id = await world.approved("send_bill")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    assert [e.type for e in await agent.control()] == [MessageType.START]
    await agent.accept(order)
    assert [e.type for e in await agent.control()] == [MessageType.START], "the same life may have lost it"
    agent.incarnation = "journal.second-life"
    await agent.accept(order)
    assert [e.type for e in await agent.control()] == [MessageType.CANCEL]
    assert await world.status(request_id) is R.IN_REVIEW


async def test_a_registration_frees_no_slot_that_is_in_use(world: World) -> None:
    agent = await world.agent("infra-1", SAFE, slots=1)
    await world.approved("deploy_page", words="a")
    await world.approved("deploy_page", words="b")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    await agent.register(SAFE, slots=1)
    await world.due_now()
    await world.engine.dispatch()
    assert await agent.orders() == []


async def test_five_infrastructure_failures_in_a_row_open_the_circuit(world: World) -> None:
    agent = await world.agent("infra-1", SAFE)
    for n in range(2):
        request_id = await world.approved("deploy_page", words=f"r{n}")
        for _ in range(3):
            await world.due_now()
            await world.engine.dispatch()
            for order in await agent.orders():
                await agent.finish(order, Failure(kind="infrastructure", message="no ansible"))
    tasks = await world.queries.tasks(request_id)
    assert tasks[0]["status_reason"] == "0/1 agents can run deploy_page: 1 resting after failures"


async def _placed(world: World) -> tuple[PaperAgent, WorkOrder]:
    """Return the agent that got an order, and the order."""
    for agent in world.agents.values():
        for order in await agent.orders():
            return agent, order
    pytest.fail("nobody got an order")


async def _lease_left(world: World, attempt_id: object) -> float:
    async with world.store.transaction() as tx:
        return (await tx.attempts([attempt_id]))[attempt_id].lease_left


def _forged(forgery: str, world: World, agent: PaperAgent, other: PaperAgent, order: WorkOrder) -> bytes:
    wire = agent.result(order)
    _, _, body = wire.partition(b"\n")
    match forgery:
        case "unsigned":
            return b'{"v":1,"from":"%s","gen":1,"mac":""}\n' % str(agent.agent_id).encode() + body
        case "wrong key":
            stranger = PaperAgent(world, agent.agent_id, "stranger")
            return _signed_with(derive_key(b"x" * 32, str(agent.agent_id), 1), stranger, order)
        case "another agent":
            return other.result(order)
        case "stale token":
            return agent.result(order.model_copy(update={"lease_token": order.lease_token - 1}))
        case "nobody":
            return PaperAgent(world, uuid4(), "nobody").result(order)
    return b"\xff\x00 not a message"


def _signed_with(key: bytes, agent: PaperAgent, order: WorkOrder) -> bytes:
    from chargehand.domain.envelopes import decode, encode

    return encode(decode(agent.result(order), agent.key, "report"), key)
