"""Nothing starts without the approvals that it needs: not for whoever writes to the database, nor for the requester.

The attacker here can write every row, but has no master key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from chargehand.domain.errors import NotPermitted
from chargehand.domain.messages import Failure
from chargehand.domain.risks import Risk
from chargehand.domain.states import RequestStatus as R
from tests.builders import make_spec
from tests.world import World, close_world, decomposition, open_world

WIPE = make_spec("wipe_disk", risk="destroy", retry_safe=True)
SAFE = make_spec("deploy_page", retry_safe=True)
WEEKS = "'20 days'::interval"
PERMANENT, UNKNOWN = Failure(kind="permanent", message="no"), Failure(kind="unknown", message="no idea")


@pytest.fixture
async def strict(database_url: str) -> AsyncIterator[World]:
    """A world in which two others must agree to what destroys."""
    made = await open_world(database_url, four_eyes=frozenset({Risk.DESTROY}))
    await made.agent("infra-1", WIPE, SAFE)
    yield made
    await close_world(made)


async def sign_off(world: World, request_id: UUID, *people: str) -> None:
    plan = await world.queries.plan(request_id)
    assert plan is not None
    for who in people:
        await world.control.approve(request_id, plan["digest"], who)


async def started(world: World, request_id: UUID) -> None:
    """Write what the engine would have written when the plan started."""
    await world.run("UPDATE plans SET status = 'approved' WHERE request_id = $1", request_id)
    await world.run("UPDATE requests SET status = 'running' WHERE request_id = $1", request_id)
    await world.run(
        """INSERT INTO tasks (task_id, request_id, plan_id, task_order, intent, work_type, agent_type, spec, status,
                due_at, ready_since, turn)
           SELECT (task->>'task_id')::uuid, request_id, plan_id, (task->>'order')::int, task->>'intent',
                task->>'work_type', task->>'agent_type', task, 'ready', now(), now(), now()
           FROM plans, jsonb_array_elements(plan->'tasks') AS task WHERE request_id = $1""",
        request_id,
    )


async def forge(world: World, request_id: UUID, who: str, mac: str = "0" * 64) -> None:
    await world.run(
        """INSERT INTO approvals (plan_id, digest, approver, decision, mac)
           SELECT plan_id, digest, $2, 'approved', $3 FROM plans WHERE request_id = $1""",
        request_id,
        who,
        mac,
    )


async def nothing_runs(world: World, request_id: UUID, because: str, kind: str) -> None:
    await world.engine.dispatch()
    assert await world.agents["infra-1"].orders() == []
    (task,) = await world.queries.tasks(request_id)
    assert task["status"] == "in_review"
    assert because in task["status_reason"]
    assert kind in {row["kind"] for row in await world.queries.anomalies(request_id)}
    with pytest.raises(NotPermitted):
        await world.control.retry(request_id, "ann")
    await world.engine.dispatch()
    assert await world.agents["infra-1"].orders() == []


async def test_a_row_in_the_table_of_approvals_starts_nothing(world: World) -> None:
    await world.agent("infra-1", SAFE)
    request_id = await world.planned("deploy_page")
    await forge(world, request_id, "bob")
    assert await world.status(request_id) is R.AWAITING_APPROVAL
    await started(world, request_id)
    await nothing_runs(world, request_id, "the approval by bob is not signed with this home's key", "forged_approval")


async def test_statuses_without_any_approval_start_nothing(world: World) -> None:
    await world.agent("infra-1", SAFE)
    request_id = await world.planned("deploy_page")
    await started(world, request_id)
    await nothing_runs(world, request_id, "1 more must approve it", "unapproved_work")


async def test_a_signature_counts_for_its_own_plan_only(world: World) -> None:
    """Same words, same digest, another request."""
    await world.agent("infra-1", SAFE)
    approved, other = await world.approved("deploy_page"), await world.planned("deploy_page")
    ((mac, at, digest),) = await world.run("SELECT mac, created_at, digest FROM approvals")
    await forge(world, other, "ann", mac)
    await world.run("UPDATE approvals SET created_at = $1", at)
    await started(world, other)
    assert (await world.queries.plan(other) or {})["digest"] == digest
    await world.run("UPDATE requests SET status = 'paused' WHERE request_id = $1", approved)
    await nothing_runs(world, other, "not signed", "forged_approval")


@pytest.mark.parametrize("column", ["approver = 'bob'", "created_at = now() + interval '1 day'", "mac = ''"])
async def test_an_approval_that_was_changed_does_not_count(world: World, column: str) -> None:
    await world.agent("infra-1", SAFE)
    request_id = await world.approved("deploy_page")
    await world.run(f"UPDATE approvals SET {column}")
    await nothing_runs(world, request_id, "not signed", "forged_approval")


@pytest.mark.parametrize("action", ["run", "ask"])
async def test_a_ruling_cannot_be_made_milder(strict: World, action: str) -> None:
    request_id = await strict.planned("wipe_disk")
    await strict.run("UPDATE plans SET ruling = jsonb_set(ruling, '{action}', to_jsonb($1::text))", action)
    with pytest.raises(NotPermitted, match="what the approval policy said"):
        await sign_off(strict, request_id, "bob")
    await started(strict, request_id)
    await nothing_runs(strict, request_id, "what the approval policy said", "unapproved_work")


@pytest.mark.parametrize("change", ["dry_run = false", "mode = 'parallel'"])
async def test_a_dry_run_cannot_be_made_a_real_one(world: World, change: str) -> None:
    await world.agent("infra-1", make_spec("deploy_page", retry_safe=True, dry_run=True))
    request_id = await world.planned("deploy_page", dry_run=True)
    await sign_off(world, request_id, "ann")
    assert await world.status(request_id) is R.RUNNING
    await world.run(f"UPDATE requests SET {change} WHERE request_id = $1", request_id)
    await nothing_runs(world, request_id, "the request was changed after it was planned", "unapproved_work")


async def test_a_dry_run_needs_the_approval_of_the_work_that_it_tries(strict: World) -> None:
    """Ansible runs tasks with `check_mode: false` and every lookup in a dry run, too."""
    await strict.agent("infra-2", make_spec("wipe_archive", risk="destroy", dry_run=True))
    request_id = await strict.planned("wipe_archive", dry_run=True)
    assert await strict.status(request_id) is R.AWAITING_APPROVAL
    with pytest.raises(NotPermitted, match="two other people"):
        await sign_off(strict, request_id, "ann")
    await sign_off(strict, request_id, "bob")
    assert await strict.status(request_id) is R.AWAITING_APPROVAL
    await sign_off(strict, request_id, "carol")
    assert await strict.status(request_id) is R.RUNNING


async def reworded(strict: World, how: str) -> UUID:
    """Let ann ask for something harmless, and bob make it something else, in one of the ways there are."""
    strict.model.answers["wipe it"] = decomposition("wipe_disk")
    if how == "reject":
        request_id = await strict.planned("deploy_page")
        plan = await strict.queries.plan(request_id)
        assert plan is not None
        await strict.control.reject(request_id, plan["digest"], "bob", "wipe it")
    else:
        strict.model.answers["do it"] = decomposition(ambiguities=["what?"])
        request_id = await strict.engine.submit("do it", requester="ann")
        await strict.engine.decompose()
        if how == "answer":
            await strict.control.answer(request_id, "wipe it", "bob")
        else:
            await strict.control.write(request_id, dict(decomposition("wipe_disk")), "bob")
    await strict.engine.decompose()
    assert await strict.status(request_id) is R.AWAITING_APPROVAL
    return request_id


@pytest.mark.parametrize("how", ["reject", "answer", "write"])
async def test_whoever_says_it_in_other_words_is_none_of_the_two(strict: World, how: str) -> None:
    request_id = await reworded(strict, how)
    for asker in ("bob", "ann", " BOB "):
        with pytest.raises(NotPermitted, match="two other people"):
            await sign_off(strict, request_id, asker)
    await sign_off(strict, request_id, "carol")
    assert await strict.status(request_id) is R.AWAITING_APPROVAL
    await sign_off(strict, request_id, "dave")
    assert await strict.status(request_id) is R.RUNNING


async def test_who_reworded_it_cannot_be_taken_out_of_the_database(strict: World) -> None:
    request_id = await reworded(strict, "reject")
    await strict.run("UPDATE requests SET reworded_by = '{}' WHERE request_id = $1", request_id)
    with pytest.raises(NotPermitted, match="what the approval policy said"):
        await sign_off(strict, request_id, "bob")


async def test_neither_spaces_nor_capitals_make_two_people_of_one(strict: World) -> None:
    request_id = await strict.planned("wipe_disk")
    with pytest.raises(NotPermitted, match="two other people"):
        await sign_off(strict, request_id, "Ann ")
    await sign_off(strict, request_id, "bob", "BOB", " bob")
    assert await strict.status(request_id) is R.AWAITING_APPROVAL


async def test_four_eyes_that_were_set_after_planning_bind_the_approval(world: World) -> None:
    await world.agent("infra-1", WIPE)
    request_id = await world.planned("wipe_disk")
    world.engine.settings = world.engine.settings.model_copy(update={"four_eyes": frozenset({Risk.DESTROY})})
    with pytest.raises(NotPermitted, match="two other people"):
        await sign_off(world, request_id, "ann")
    await sign_off(world, request_id, "bob")
    assert await world.status(request_id) is R.AWAITING_APPROVAL
    await sign_off(world, request_id, "carol")
    assert await world.status(request_id) is R.RUNNING


async def test_the_requester_cannot_be_renamed_to_approve_alone(strict: World) -> None:
    request_id = await strict.planned("wipe_disk")
    await sign_off(strict, request_id, "bob")
    await strict.run("UPDATE requests SET requester = 'carl' WHERE request_id = $1", request_id)
    with pytest.raises(NotPermitted, match="what the approval policy said"):
        await sign_off(strict, request_id, "ann")
    await started(strict, request_id)
    await nothing_runs(strict, request_id, "what the approval policy said", "unapproved_work")


async def test_a_task_cannot_be_put_under_an_approved_plan_of_another_request(strict: World) -> None:
    approved, other = await strict.approved("deploy_page"), await strict.planned("wipe_disk", words="wipe")
    await started(strict, other)
    await strict.run("UPDATE requests SET status = 'paused' WHERE request_id = $1", approved)
    await strict.run(
        "UPDATE tasks SET plan_id = (SELECT plan_id FROM plans WHERE request_id = $1), task_order = 9"
        " WHERE request_id = $2",
        approved,
        other,
    )
    await strict.engine.dispatch()
    assert await strict.agents["infra-1"].orders() == []


async def test_a_lease_that_was_written_into_the_database_is_not_sent_to_its_agent(world: World) -> None:
    """An agent that registers again is sent what it may have missed."""
    agent = await world.agent("infra-1", SAFE)
    request_id = await world.planned("deploy_page")
    await started(world, request_id)
    await world.run(
        """INSERT INTO attempts (attempt_id, task_id, request_id, agent_id, number, lease_token, status, lease_until,
                start_by, deadline_at, lease_seconds)
           SELECT $2, task_id, request_id, $3, 1, 4711, 'leased', now() + interval '1 hour', now() + interval '1 hour',
                now() + interval '2 hours', 3600 FROM tasks WHERE request_id = $1""",
        request_id,
        uuid4(),
        agent.agent_id,
    )
    await agent.register(SAFE)
    assert await agent.orders() == []
    assert {row["kind"] for row in await world.queries.anomalies(request_id)} == {"unapproved_work"}


async def test_forged_four_eyes_do_not_count_and_are_shown(strict: World) -> None:
    request_id = await strict.planned("wipe_disk")
    await forge(strict, request_id, "carl")
    await sign_off(strict, request_id, "bob")
    assert await strict.status(request_id) is R.AWAITING_APPROVAL
    (anomaly,) = await strict.queries.anomalies(request_id)
    assert (anomaly["kind"], anomaly["detail"]["unsigned"]) == ("forged_approval", ["carl"])
    await sign_off(strict, request_id, "carl")  # the true one signs in its place
    assert await strict.status(request_id) is R.RUNNING
    await strict.engine.dispatch()
    assert len(await strict.agents["infra-1"].orders()) == 1


class TestTheRequesterAlone:
    """ann asked; bob and carl agreed. What she may start again by herself ends with their approval."""

    async def ended(self, strict: World, failure: Failure) -> UUID:
        request_id = await strict.planned("wipe_disk")
        await sign_off(strict, request_id, "bob", "carl")
        await strict.engine.dispatch()
        agent = strict.agents["infra-1"]
        (order,) = await agent.orders()
        await agent.accept(order)
        await agent.finish(order, failure)
        return request_id

    async def grow_old(self, strict: World) -> None:
        await strict.run(f"UPDATE plans SET expires_at = now() - {WEEKS}")

    async def test_within_their_approval_she_may_try_again(self, strict: World) -> None:
        request_id = await self.ended(strict, PERMANENT)
        assert await strict.status(request_id) is R.FAILED
        assert await strict.control.retry(request_id, "ann") is R.RUNNING
        await strict.engine.dispatch()
        assert await strict.agents["infra-1"].work_off() == 1

    async def test_after_it_a_retry_is_a_new_plan_for_two_others(self, strict: World) -> None:
        request_id = await self.ended(strict, PERMANENT)
        await self.grow_old(strict)
        assert await strict.control.retry(request_id, "ann") is R.AWAITING_APPROVAL
        with pytest.raises(NotPermitted, match="two other people"):
            await sign_off(strict, request_id, "ann")
        await strict.engine.dispatch()
        assert await strict.agents["infra-1"].orders() == []
        await sign_off(strict, request_id, "bob", "carl")
        await strict.engine.dispatch()
        assert await strict.agents["infra-1"].work_off() == 1

    async def test_after_it_an_unknown_outcome_is_not_run_again(self, strict: World) -> None:
        unsafe = make_spec("wipe_disk", risk="destroy")
        await strict.agents["infra-1"].register(unsafe, SAFE)
        request_id = await self.ended(strict, UNKNOWN)
        assert await strict.status(request_id) is R.IN_REVIEW
        await self.grow_old(strict)
        with pytest.raises(NotPermitted, match="too old"):
            await strict.control.retry(request_id, "ann")
        assert await strict.control.retry(request_id, "ann", assume_done=True) is R.RUNNING, "nothing is left to start"
        assert await strict.status(request_id) is R.COMPLETED

    @pytest.mark.parametrize("only_the_task", [False, True])
    async def test_after_it_nothing_is_resumed(self, strict: World, only_the_task: bool) -> None:
        request_id = await strict.planned("wipe_disk")
        await sign_off(strict, request_id, "bob", "carl")
        (task,) = await strict.queries.tasks(request_id)
        which = task["task_id"] if only_the_task else None
        await strict.control.pause(request_id, "ann", which)
        await self.grow_old(strict)
        with pytest.raises(NotPermitted, match="too old"):
            await strict.control.resume(request_id, "ann", which)
        await strict.run("UPDATE plans SET expires_at = now() + interval '1 day'")  # what is signed counts, not this
        await strict.run(f"UPDATE approvals SET created_at = created_at - {WEEKS}")
        with pytest.raises(NotPermitted, match="not signed"):
            await strict.control.resume(request_id, "ann", which)
        await strict.engine.dispatch()
        assert await strict.agents["infra-1"].orders() == []

    async def test_the_rules_of_today_count(self, database_url: str) -> None:
        """One person agreed; then the operator wanted two for this kind of work."""
        loose = await open_world(database_url)
        try:
            await loose.agent("infra-1", WIPE)
            request_id = await loose.approved("wipe_disk")
            await loose.control.pause(request_id, "ann")
            loose.engine.settings = loose.engine.settings.model_copy(update={"four_eyes": frozenset({Risk.DESTROY})})
            with pytest.raises(NotPermitted, match="asks for more"):
                await loose.control.resume(request_id, "ann")
        finally:
            await close_world(loose)
