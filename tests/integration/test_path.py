"""The path of a request on a real database, step by step."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import IdempotencyConflict, NotPermitted, PlanChanged, UnknownId, WrongStatus
from chargehand.domain.intents import Deadlines
from chargehand.domain.messages import Failure
from chargehand.domain.risks import Risk
from chargehand.domain.states import RequestStatus as R
from tests.builders import make_spec
from tests.world import World, close_world, decomposition, open_world

TWO = (make_spec("deploy_page", retry_safe=True), make_spec("add_portals", retry_safe=True))


async def test_a_request_goes_from_words_to_results_and_every_step_is_an_event(world: World) -> None:
    agent = await world.agent("infra-1", *TWO)
    request_id = await world.approved("deploy_page", "add_portals", key="k1")
    await world.engine.dispatch()
    (first,) = await agent.orders()
    assert first.intent == "deploy_page"
    assert await world.engine.dispatch() == 0, "the second task waits for the first"
    await agent.accept(first)
    await agent.start(first)
    assert await world.task_statuses(request_id) == ["running", "pending"]
    await agent.finish(first, outputs={"url": "http://127.0.0.1:1"})
    await world.engine.dispatch()
    assert await agent.work_off() == 1
    assert await world.status(request_id) is R.COMPLETED
    kinds = await world.kinds(request_id)
    for kind in ("request.accepted", "request.decomposed", "plan.approved", "attempt.leased", "request.completed"):
        assert kind in kinds
    assert kinds.index("approval.approved") < kinds.index("task.dispatched")


async def test_the_same_key_never_makes_two_requests(world: World) -> None:
    ids = await asyncio.gather(*(world.engine.submit("do it", requester="ann", key="k") for _ in range(8)))
    assert len(set(ids)) == 1
    with pytest.raises(IdempotencyConflict):
        await world.engine.submit("do something else", requester="ann", key="k")
    assert len(await world.queries.requests()) == 1


async def test_what_is_unclear_is_asked_and_can_be_said_again(world: World) -> None:
    await world.agent("infra-1", *TWO)
    world.model.answers["hm"] = decomposition(ambiguities=["Which page?"])
    request_id = await world.engine.submit("hm", requester="ann")
    await world.engine.decompose()
    row = await world.queries.request(request_id)
    assert (row["status"], row["status_reason"]) == ("asking", "Which page?")
    world.model.answers["the status page"] = decomposition("deploy_page")
    await world.control.answer(request_id, "the status page", "ann")
    await world.engine.decompose()
    assert await world.status(request_id) is R.AWAITING_APPROVAL
    assert (await world.queries.request(request_id))["text"] == "hm", "the accepted words are kept"


async def test_what_nobody_can_do_is_refused_before_anything_starts_and_the_wish_is_counted(world: World) -> None:
    await world.agent("infra-1", make_spec("deploy_kuma", unavailable="needs node"))
    request_id = await world.planned("deploy_kuma")
    row = await world.queries.request(request_id)
    assert row["status"] == "refused"
    assert "needs node" in row["status_reason"]
    assert "0/1 agents can run deploy_kuma" in row["status_reason"]
    world.model.answers["bake"] = decomposition(out_of_scope=["Bake a cake."])
    for n in range(2):
        await world.engine.submit("bake", requester="ann", key=f"cake {n}")
    await world.engine.decompose()
    (wish,) = await world.queries.wishes()
    assert (wish["wish"], wish["times"]) == ("bake a cake", 2)


async def test_without_any_usable_answer_a_person_gets_the_request_intact(world: World) -> None:
    await world.agent()
    request_id = await world.engine.submit("nobody wrote an answer", requester="ann")
    await world.engine.decompose()
    assert await world.status(request_id) is R.IN_REVIEW
    (review,) = await world.queries.reviews(request_id)
    assert review["context"]["wording"] == "nobody wrote an answer"
    (call,) = await world.queries.llm_calls(request_id)
    assert call["error"] == "no answer was written for this"
    world.model.answers["nobody wrote an answer"] = decomposition("deploy_service_a")
    await world.control.retry(request_id, "ann")
    await world.engine.decompose()
    assert await world.status(request_id) is R.AWAITING_APPROVAL
    assert await world.queries.reviews(request_id) == []


async def test_a_model_that_crashes_is_tried_again_and_then_a_person_looks_while_others_go_on(world: World) -> None:
    await world.agent()
    world.model.answers["poison"] = RuntimeError("boom")
    poison = await world.engine.submit("poison", requester="ann")
    good = await world.planned("deploy_service_a", words="good")
    assert await world.status(good) is R.AWAITING_APPROVAL
    for _ in range(world.engine.settings.quarantine_limit):
        await world.engine.decompose()
    assert await world.status(poison) is R.IN_REVIEW
    (review,) = await world.queries.reviews(poison)
    assert "boom" in review["reason"]


async def test_a_reply_is_written_only_under_the_claim_it_was_asked_under(world: World) -> None:
    await world.agent("infra-1", *TWO)
    world.model.answers["do it"] = decomposition("deploy_page")
    request_id = await world.engine.submit("do it", requester="ann")
    async with world.store.transaction() as tx:
        (stale,) = await tx.claim_requests(1, 60, None)
        from chargehand.domain.records import RequestMove

        await tx.move_requests([RequestMove(request_id, stale.status, R.DECOMPOSING)])
    await world.run("UPDATE requests SET claim_until = now() - interval '1 s'")
    assert await world.engine.decompose() == 1, "the sweep takes over what its claimant left"
    from chargehand.catalog.catalog import merge

    await world.engine.understand(stale, merge(TWO))
    assert len(await world.queries.plans(request_id)) == 1, "the late reply changed nothing"


async def test_an_approval_binds_to_the_digest_that_was_shown(world: World) -> None:
    await world.agent("infra-1", *TWO)
    request_id = await world.planned("deploy_page")
    plan = await world.queries.plan(request_id)
    assert plan is not None
    with pytest.raises(PlanChanged):
        await world.control.approve(request_id, "0" * 64, "ann")
    with pytest.raises(PlanChanged, match="only the beginning"):
        await world.control.approve(request_id, plan["digest"][:8], "ann")
    await world.run("UPDATE plans SET plan = jsonb_set(plan, '{tasks,0,parameters}', '{\"port\": 1}')")
    with pytest.raises(PlanChanged):
        await world.control.approve(request_id, plan["digest"], "ann")
    with pytest.raises(UnknownId):
        await world.control.approve(uuid4(), plan["digest"], "ann")


async def test_approving_twice_changes_nothing_and_late_approvals_are_refused(world: World) -> None:
    await world.agent("infra-1", *TWO)
    request_id = await world.approved("deploy_page")
    plan = await world.queries.plan(request_id)
    assert plan is not None
    assert await world.control.approve(request_id, plan["digest"], "ann") is R.RUNNING
    assert len(await world.queries.tasks(request_id)) == 1
    late = await world.planned("deploy_page", words="late")
    await world.run("UPDATE plans SET expires_at = now() - interval '1 s' WHERE request_id = $1", late)
    other = await world.queries.plan(late)
    assert other is not None
    with pytest.raises(NotPermitted):
        await world.control.approve(late, other["digest"], "ann")
    await world.sweep.sweep()
    assert await world.status(late) is R.EXPIRED


async def test_two_other_people_approve_what_destroys_when_the_operator_wants_four_eyes(database_url: str) -> None:
    world = await open_world(database_url, four_eyes=frozenset({Risk.DESTROY}))
    await world.agent("infra-1", make_spec("wipe", risk=Risk.DESTROY))
    request_id = await world.planned("wipe")
    plan = await world.queries.plan(request_id)
    assert plan is not None
    with pytest.raises(NotPermitted):
        await world.control.approve(request_id, plan["digest"], "ann")
    assert await world.control.approve(request_id, plan["digest"], "bob") is R.AWAITING_APPROVAL
    assert await world.control.approve(request_id, plan["digest"], "bob") is R.AWAITING_APPROVAL
    assert await world.control.approve(request_id, plan["digest"], "cid") is R.RUNNING
    await close_world(world)


async def test_a_plan_rejected_with_words_is_made_again_from_them(world: World) -> None:
    await world.agent("infra-1", *TWO)
    request_id = await world.planned("deploy_page")
    plan = await world.queries.plan(request_id)
    assert plan is not None
    world.model.answers["only the portals"] = decomposition("add_portals")
    assert await world.control.reject(request_id, plan["digest"], "ann", "only the portals") is R.ACCEPTED
    await world.engine.decompose()
    again = await world.queries.plan(request_id)
    assert again is not None
    assert [t["intent"] for t in again["plan"]["tasks"]] == ["add_portals"]
    assert again["version"] == 2
    assert await world.control.reject(request_id, again["digest"], "ann") is R.REJECTED


async def test_an_operator_may_let_harmless_plans_run_at_once(database_url: str) -> None:
    world = await open_world(database_url, auto_approve=frozenset({Risk.READ}))
    await world.agent("infra-1", make_spec("look", risk=Risk.READ, retry_safe=True))
    assert await world.status(await world.planned("look")) is R.RUNNING
    await close_world(world)


async def test_a_plan_altered_after_its_approval_is_not_run(world: World) -> None:
    agent = await world.agent("infra-1", *TWO)
    request_id = await world.approved("deploy_page")
    await world.run("UPDATE tasks SET spec = jsonb_set(spec, '{parameters}', '{\"evil\": true}')")
    await world.engine.dispatch()
    assert await agent.orders() == []
    assert await world.status(request_id) is R.IN_REVIEW
    (review,) = await world.queries.reviews(request_id)
    assert "not the plan that was approved" in review["reason"]


async def test_a_dry_run_is_approved_like_all_work_and_tells_the_agent(world: World) -> None:
    agent = await world.agent("infra-1", make_spec("deploy_page", dry_run=True))
    await world.approved("deploy_page", dry_run=True)
    await world.engine.dispatch()
    (order,) = await agent.orders()
    assert order.dry_run
    assert order.retry_safe, "it changes nothing, so it may be repeated"


async def test_one_exclusive_key_is_held_by_one_request_at_a_time(world: World) -> None:
    spec = make_spec("deploy_page", retry_safe=True, exclusive_keys=("service:page",))
    agent = await world.agent("infra-1", spec)
    first = await world.approved("deploy_page", words="first")
    second = await world.approved("deploy_page", words="second")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    statuses = {await world.status(first), await world.status(second)}
    assert statuses == {R.RUNNING}
    waiting = [t for r in (first, second) for t in await world.queries.tasks(r) if t["status"] == "ready"]
    assert "service:page is in use by request" in waiting[0]["status_reason"]
    await agent.accept(order)
    await agent.finish(order)
    await world.engine.dispatch()
    assert await agent.work_off() == 1, "the freed key wakes the task that waited for it"


async def test_a_task_without_an_agent_waits_says_why_and_gives_up_with_the_reasons_counted(world: World) -> None:
    agent = await world.agent("infra-1", *TWO, slots=1)
    await world.approved("deploy_page", words="a")
    second = await world.approved("deploy_page", words="b")
    await world.engine.dispatch()
    (task,) = await world.queries.tasks(second)
    assert task["status"] == "ready"
    assert task["status_reason"] == "0/1 agents can run deploy_page: 1 full"
    await world.run("UPDATE tasks SET ready_since = now() - interval '1 h' WHERE status = 'ready'")
    await world.due_now()
    await world.engine.dispatch()
    assert await world.status(second) is R.FAILED
    assert "0/1 agents can run deploy_page: 1 full" in (await world.queries.tasks(second))[0]["status_reason"]
    assert len(await agent.orders()) == 1


async def test_cancelling_before_and_during_work(world: World) -> None:
    agent = await world.agent("infra-1", *TWO)
    early = await world.planned("deploy_page", words="early")
    assert await world.control.cancel(early, "ann") is R.CANCELLED
    request_id = await world.approved("deploy_page", "add_portals")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    await agent.start(order)
    assert await world.control.cancel(request_id, "ann") is R.CANCELLING
    cancels = [e for e in await agent.control() if e.type is MessageType.CANCEL]
    assert [UUID(str(e.payload["attempt_id"])) for e in cancels] == [order.attempt_id]
    await agent.finish(order, Failure(kind="cancelled", message="stopped"))
    assert await world.status(request_id) is R.CANCELLED
    assert await world.task_statuses(request_id) == ["cancelled", "cancelled"]
    with pytest.raises(WrongStatus):
        await world.control.retry(request_id, "ann")


async def test_a_message_stays_in_the_outbox_until_the_broker_has_it(world: World) -> None:
    agent = await world.agent("infra-1", *TWO)
    await world.approved("deploy_page")
    await world.engine.dispatch()
    await world.broker.stop()
    await world.engine.publish()
    assert len(await world.run("SELECT 1 FROM outbox")) == 1
    await world.broker.start()
    await world.due_now()
    assert len(await agent.orders()) == 1
    assert len(await world.run("SELECT 1 FROM outbox")) == 0


async def test_a_paused_request_starts_nothing_more_and_goes_on_when_resumed(world: World) -> None:
    agent = await world.agent("infra-1", *TWO)
    request_id = await world.approved("deploy_page", "add_portals")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    assert await world.control.pause(request_id, "ann") is R.PAUSED
    await agent.accept(order)
    await agent.finish(order)
    assert await world.task_statuses(request_id) == ["succeeded", "pending"], "what ran was finished"
    assert await world.engine.dispatch() == 0
    assert await world.control.resume(request_id, "ann") is R.RUNNING
    await world.engine.dispatch()
    await agent.work_off()
    assert await world.status(request_id) is R.COMPLETED


async def test_one_task_can_be_held_back(world: World) -> None:
    agent = await world.agent("infra-1", *TWO)
    request_id = await world.approved("deploy_page", "add_portals")
    second = (await world.queries.tasks(request_id))[1]["task_id"]
    await world.control.pause(request_id, "ann", second)
    await world.engine.dispatch()
    await agent.work_off()
    assert await world.task_statuses(request_id) == ["succeeded", "paused"]
    assert await world.status(request_id) is R.RUNNING
    await world.control.resume(request_id, "ann", second)
    await world.engine.dispatch()
    await agent.work_off()
    assert await world.status(request_id) is R.COMPLETED
    with pytest.raises(WrongStatus):
        await world.control.pause(request_id, "ann")


async def test_who_takes_nearly_as_long_as_is_declared_is_given_more_time_and_the_reason_is_kept(world: World) -> None:
    agent = await world.agent("infra-1", make_spec("deploy_page", deadlines=Deadlines(run_seconds=120)))
    for took, allowed in ((50_000, 120), (60_000, 150)):
        request_id = await world.approved("deploy_page", words=f"one that takes {took} ms")
        await world.engine.dispatch()
        (order,) = await agent.orders()
        assert order.deadline_seconds == pytest.approx(allowed)
        await agent.accept(order)
        await agent.finish(order, None, duration_ms=took)
    leased = next(event for event in await world.queries.events(request_id) if event.kind == "attempt.leased")
    assert leased.data["stretched"] == "declared 120 s; nine in ten take up to 50.0 s"
    await world.run("UPDATE agent_performance SET p90_ms = 1e12")
    await world.approved("deploy_page", words="one that may take as long as anything")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    assert order.deadline_seconds == world.engine.settings.task_deadline


async def test_a_task_has_deadlines_of_its_own(world: World) -> None:
    limits = Deadlines(start_seconds=30, run_seconds=120, heartbeat_seconds=20)
    agent = await world.agent("infra-1", make_spec("deploy_page", retry_safe=True, deadlines=limits))
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    assert (order.lease_seconds, order.deadline_seconds) == (20, 120)
    await world.run("UPDATE attempts SET start_by = now() - interval '1 s'")
    await world.sweep.sweep()
    (attempt,) = await world.queries.attempts(request_id)
    assert attempt["status"] == "lost"
    assert "did not begin in time" in (await world.queries.tasks(request_id))[0]["status_reason"]
