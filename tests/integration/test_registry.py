"""Enrolment, grants, key rotation and drain, seen from the agents."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chargehand.app.application import open_application
from chargehand.domain.envelopes import MessageType, derive_key
from chargehand.domain.errors import BadRequest, UnknownId
from chargehand.domain.intents import Resources
from chargehand.domain.ports import control_queue, work_queue
from chargehand.domain.risks import Risk
from chargehand.domain.states import RequestStatus as R
from chargehand.engine.agent_registry import Registry
from chargehand.settings import Settings
from chargehand.store import migrate
from tests.builders import make_spec
from tests.older_schema import back_to_before
from tests.world import MASTER, PaperAgent, World

SAFE = make_spec("deploy_page", retry_safe=True)


@pytest.fixture
def registry(world: World) -> Registry:
    return Registry(world.store, MASTER)


async def joined(world: World, registry: Registry, name: str = "nas", **options: object) -> PaperAgent:
    agent_id, key, generation = await registry.enrol(name, **options)  # type: ignore[arg-type]
    agent = PaperAgent(world, agent_id, name, generation=generation)
    assert key == agent.key
    for queue in (work_queue(str(agent_id)), control_queue(str(agent_id))):
        await world.broker.declare(queue)
    await agent.register(SAFE)
    return agent


async def test_what_an_agent_offers_is_only_an_offer_until_it_is_granted(world: World, registry: Registry) -> None:
    agent = await joined(world, registry)
    refused = await world.planned("deploy_page", words="before")
    assert await world.status(refused) is R.IN_REVIEW, "nobody's model may use what nobody granted"
    assert await registry.grant("nas", ["deploy_page"], "ann") == ["deploy_page"]
    request_id = await world.approved("deploy_page", words="after")
    assert await registry.revoke("nas", None, "ann") == ["deploy_page"]
    await world.engine.dispatch()
    assert await agent.orders() == []
    assert "not allowed to run it" in (await world.queries.tasks(request_id))[0]["status_reason"]
    with pytest.raises(UnknownId, match="offers no fly"):
        await registry.grant("nas", ["fly"], "ann")


async def test_an_agent_whose_registration_was_lost_is_asked_for_it_and_a_copy_is_not(
    world: World, registry: Registry
) -> None:
    """The broker confirmed it and lost its queues: the agent knows nothing of that, and its heartbeats name nobody."""
    agent_id, _, _ = await registry.enrol("nas", accept_all=True)
    agent = PaperAgent(world, agent_id, "nas")
    await world.broker.declare(control_queue(str(agent_id)))
    await agent.beat()
    assert [e.type for e in await agent.control()] == [MessageType.REGISTER]
    await agent.register(SAFE)
    await agent.beat()
    assert await agent.control() == [], "it is known now"
    agent.incarnation = "journal.later"  # and this life's registration was lost
    await agent.beat()
    assert [e.type for e in await agent.control()] == [MessageType.REGISTER]
    agent.incarnation = "copied.life"
    await agent.beat()
    assert await agent.control() == [], "two homes would take the name from each other for ever"


async def test_an_agent_that_is_asked_on_its_way_out_is_not_taken_for_ready(world: World) -> None:
    """Its last heartbeat may be the first one that finds it unknown: the answer comes after it."""
    agent = await world.agent("nas", SAFE)
    await agent.register(SAFE, draining=True)
    assert [row["status"] for row in await world.queries.agents()] == ["draining"]
    await agent.register(SAFE)
    assert [row["status"] for row in await world.queries.agents()] == ["online"]


async def test_the_auto_accept_policy_grants_whatever_is_offered(world: World, registry: Registry) -> None:
    await joined(world, registry, accept_all=True)
    assert await world.status(await world.planned("deploy_page")) is R.AWAITING_APPROVAL
    (offer,) = await world.queries.intents()
    assert (offer["granted"], offer["granted_by"]) == (True, "auto-accept")


async def test_name_and_pool_are_the_operators(world: World, registry: Registry) -> None:
    agent = await joined(world, registry, pool="cellar", specializations=["deploy_service"])
    agent.name = "somebody else"
    await agent.register(SAFE)
    (row,) = await world.queries.agents()
    assert (row["name"], row["pool_name"], row["specializations"]) == ("nas", "cellar", ["deploy_service"])
    with pytest.raises(BadRequest, match="already"):
        await registry.enrol("nas")
    with pytest.raises(BadRequest):
        await registry.enrol("x", agent_type="butler")


async def test_a_rotated_key_takes_over_when_the_agent_first_uses_it(world: World, registry: Registry) -> None:
    agent = await joined(world, registry, accept_all=True)
    _, new_key, generation = await registry.rotate("nas")
    assert generation == 2
    assert new_key == derive_key(MASTER, str(agent.agent_id), 2) != agent.key
    await agent.register(SAFE)
    assert await world.queries.anomalies() == [], "the old key is good until the new one has been used"
    await world.approved("deploy_page")
    await world.engine.dispatch()
    assert len(await agent.orders()) == 1, "orders are signed as the agent last spoke"
    agent.generation = 2
    await agent.register(SAFE)
    agent.generation = 1
    await agent.register(SAFE)
    (anomaly,) = await world.queries.anomalies()
    assert anomaly["kind"] == "bad_envelope"


async def test_a_drained_agent_keeps_its_work_and_gets_no_more(world: World, registry: Registry) -> None:
    agent = await joined(world, registry, accept_all=True)
    first = await world.approved("deploy_page", words="a")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await registry.drain("nas", drained=True)
    await world.approved("deploy_page", words="b", otherwise=["wait"])
    await agent.beat(order.attempt_id)
    await world.engine.dispatch()
    assert await agent.orders() == []
    await agent.accept(order)
    await agent.finish(order)
    assert await world.status(first) is R.COMPLETED
    await registry.drain("nas", drained=False)
    await world.due_now()
    await world.engine.dispatch()
    assert len(await agent.orders()) == 1


async def test_a_removed_agent_can_say_nothing_any_more(world: World, registry: Registry) -> None:
    agent = await joined(world, registry, accept_all=True)
    await registry.remove("nas")
    await agent.register(SAFE)
    assert [a["kind"] for a in await world.queries.anomalies()] == ["bad_envelope"]
    assert await world.queries.intents() == []
    with pytest.raises(UnknownId):
        await registry.drain("nobody", drained=True)


async def test_a_heartbeat_does_not_undo_the_operators_drain(world: World, registry: Registry) -> None:
    agent = await joined(world, registry, accept_all=True)
    await registry.drain("nas", drained=True)
    await agent.beat()
    (row,) = await world.queries.agents()
    assert row["status"] == "draining"


def has_learned(home: Path) -> bool:
    return any(home.glob("cache/match-*.npz"))


async def test_the_catalogue_match_learns_what_is_granted_before_anybody_asks(
    world: World, registry: Registry, database_url: str, tmp_path: Path
) -> None:
    await joined(world, registry)
    async with open_application(Settings(home=tmp_path, database_url=database_url)) as app:
        learning = asyncio.create_task(app.learn_catalog())
        await asyncio.sleep(1)
        assert not has_learned(tmp_path), "an offer trains nothing"
        await registry.grant("nas", ["deploy_page"], "ann")
        for _ in range(600):
            if has_learned(tmp_path):
                break
            await asyncio.sleep(0.1)
        learning.cancel()
        assert has_learned(tmp_path)


async def test_an_offer_without_a_grant_takes_no_part_in_planning_whatever_it_says(
    world: World, registry: Registry
) -> None:
    """Three thousand million cores fit no INTEGER: planning of every intent it named stopped."""
    await world.agent("good", SAFE)
    thief = await joined(world, registry, "thief")
    evil = SAFE.model_copy(update={"content_hash": "0" * 64, "description": "ours now"})
    await thief.register(evil)
    stored = 'UPDATE agent_registry SET resources = \'{"cpu_cores": 3000000000, "memory_mb": 1e30}\' WHERE name = $1'
    await world.run(stored, "thief")  # as an older release let it in
    async with world.store.transaction() as tx:
        pool = await tx.pool([(SAFE.intent, SAFE.work_type), ("nobody_does_it", "custom_work")])
    assert [agent.name for agent in pool[SAFE.intent]] == ["good"]
    assert {agent.name: agent.cpu_cores for agent in pool["nobody_does_it"]}["thief"] == 2**31 - 1
    assert await world.approved(SAFE.intent)


async def test_a_registration_with_numbers_beyond_any_machine_is_refused(world: World, registry: Registry) -> None:
    agent = await joined(world, registry)
    huge = SAFE.model_copy(update={"resources": Resources.model_construct(cpu_cores=3_000_000_000)})
    await agent.register(huge, SAFE)
    assert [row["kind"] for row in await world.run("SELECT kind FROM anomalies")] == ["bad_envelope"]


async def test_a_flood_of_registrations_is_dropped_and_kept_as_one_anomaly(world: World, registry: Registry) -> None:
    agent, other = await joined(world, registry), await joined(world, registry, "other")
    for _ in range(40):
        await agent.register(SAFE)
    rows = await world.run("SELECT kind, agent_id, detail FROM anomalies")
    assert [(row["kind"], row["agent_id"]) for row in rows] == [("too_frequent", str(agent.agent_id))]
    assert rows[0]["detail"]["kind"] == "AgentRegistration"
    await other.register(make_spec("other_work"))
    assert len(await world.run("SELECT 1 FROM agent_intents WHERE intent = 'other_work'")) == 1


async def test_grants_of_an_older_release_are_for_what_was_said_then(
    world: World, registry: Registry, database_url: str
) -> None:
    """An upgrade forgets no grant, gives none, and counts no offer before its agent has said it again."""
    agent = await joined(world, registry)
    await registry.grant("nas", ["deploy_page"], "ann")
    await agent.register(SAFE, make_spec("never_granted"))
    for statement in back_to_before("0005"):
        await world.run(statement)
    await migrate.ensure(database_url, upgrade_old=True)
    assert await world.status(await world.planned("deploy_page", words="before")) is R.IN_REVIEW
    await agent.beat()
    assert [e.type for e in await agent.control()] == [MessageType.REGISTER]
    await agent.register(SAFE.model_copy(update={"risk": Risk.READ}))
    await agent.register(SAFE, make_spec("never_granted"))
    rows = {row["intent"]: row for row in await world.queries.intents()}
    assert (rows["deploy_page"]["granted"], rows["deploy_page"]["granted_by"]) == (True, "ann")
    assert not rows["never_granted"]["granted"]
    assert await world.status(await world.planned("deploy_page", words="after")) is R.AWAITING_APPROVAL
