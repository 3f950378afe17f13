"""A message that the database cannot hold, or not now: nothing of it becomes a dead letter, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from chargehand.broker import DELIVERY_LIMIT, dead_letters
from chargehand.broker.memory import MemoryBroker
from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import DatabaseUnreachable, Unstorable
from chargehand.domain.messages import Acceptance, Failure
from chargehand.domain.ports import EVENTS_QUEUE
from chargehand.domain.states import RequestStatus as R
from chargehand.engine.loops import Inbox, Loops, Wake
from tests.builders import make_spec
from tests.world import PaperAgent, World, drain

SAFE = make_spec(retry_safe=True)
REFUSES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.result::text LIKE '%too much%' THEN RAISE EXCEPTION 'row is too big' USING ERRCODE = '54000'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON attempts FOR EACH ROW EXECUTE FUNCTION refuse();
"""


async def running(world: World) -> Loops:
    loops = Loops(world.engine, world.sweep, world.broker, Wake())
    await loops.receive()
    return loops


async def started(world: World) -> PaperAgent:
    agent = await world.agent("infra-1", SAFE)
    for statement in REFUSES.split(";\nCREATE TRIGGER"):
        await world.run(statement if "FUNCTION refuse() RETURNS" in statement else f"CREATE TRIGGER{statement}")
    return agent


@pytest.mark.parametrize(
    ("failure", "told"),
    [(None, "says that it was done"), (Failure(kind="failed", message="too much"), "says that it failed")],
    ids=["done", "failed"],
)
async def test_a_result_that_cannot_be_stored_goes_to_review_with_its_reason(
    world: World, failure: Failure | None, told: str
) -> None:
    agent = await started(world)
    request_id = await world.approved("deploy_service_a")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    loops = await running(world)
    wire = agent.result(order, failure, data={"log": "too much"})
    await world.broker.publish([(EVENTS_QUEUE, wire)])
    async with asyncio.timeout(10):
        while await world.status(request_id) is R.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await loops.stop()
    assert await world.status(request_id) is R.IN_REVIEW
    (review,) = await world.queries.reviews(request_id)
    assert "would be again" in review["reason"]
    assert "row is too big" in review["context"]["failure"]["message"]
    assert told in review["context"]["failure"]["message"]
    assert "recorded" in {envelope.type for envelope in await agent.control()}, "its agent may forget it"
    assert await drain(world.broker, dead_letters(EVENTS_QUEUE)) == []


async def test_another_message_that_cannot_be_stored_is_kept_as_an_anomaly(world: World) -> None:
    agent = await world.agent("infra-1", SAFE)
    request_id = await world.approved("deploy_service_a")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    said = Acceptance(
        attempt_id=order.attempt_id, lease_token=order.lease_token, incarnation="journal.\0", needs_grant=False
    )
    loops = await running(world)
    await world.broker.publish([(EVENTS_QUEUE, agent.message(MessageType.WORK_ACCEPTED, said))])
    async with asyncio.timeout(10):
        while not (found := await world.run("SELECT kind, detail FROM anomalies")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await loops.stop()
    assert [row["kind"] for row in found] == ["unstorable"]
    assert "0x00" in found[0]["detail"]["error"]
    assert await world.status(request_id) is R.RUNNING
    assert await drain(world.broker, dead_letters(EVENTS_QUEUE)) == []


async def test_however_long_the_database_is_away_no_message_becomes_a_dead_letter() -> None:
    broker, applied = MemoryBroker(), []
    tries = 0

    async def apply(bodies: Sequence[bytes]) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2 * DELIVERY_LIMIT:
            raise DatabaseUnreachable("away")
        applied.extend(bodies)

    async def put_aside(_: bytes, error: Unstorable) -> None:
        raise AssertionError(error)

    await broker.start()
    await broker.declare("events")
    inbox = Inbox(apply, put_aside, 50, keep=True)
    subscription = await broker.consume("events", inbox.put)
    await broker.publish([("events", b"one"), ("events", b"two")])
    for _ in range(2 * DELIVERY_LIMIT):
        with pytest.raises(DatabaseUnreachable):
            await inbox.step()
        assert not inbox.idle
    await inbox.step()
    assert (applied, inbox.idle) == ([b"one", b"two"], True)
    await subscription.stop()
    assert broker.peek(dead_letters("events")) == broker.peek("events") == ()
    await broker.stop()


async def test_what_is_only_of_use_while_it_is_new_is_handed_back() -> None:
    broker = MemoryBroker(delivery_limit=1)

    async def apply(_: Sequence[bytes]) -> None:
        raise DatabaseUnreachable("away")

    async def put_aside(_: bytes, error: Unstorable) -> None:
        raise AssertionError(error)

    await broker.start()
    await broker.declare("beats")
    inbox = Inbox(apply, put_aside, 50, keep=False)
    subscription = await broker.consume("beats", inbox.put)
    await broker.publish([("beats", b"one")])
    with pytest.raises(DatabaseUnreachable):
        await inbox.step()
    assert inbox.idle
    await subscription.stop()
    await broker.stop()
