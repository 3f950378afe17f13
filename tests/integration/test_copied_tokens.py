"""Two with one token: the registered living journal keeps the name, the second one is refused and shown.

Who they are is seen by their journals alone. What a thief can still do who also says that it is the other journal is in
docs/security.md: a token is a key.
"""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.app.doctor import examine
from chargehand.app.fleet import Agent
from chargehand.app.snapshot import read_all
from chargehand.cli.show.lists import agent_list, concern_lines
from chargehand.domain.envelopes import MessageType
from chargehand.domain.states import RequestStatus as R
from chargehand.engine.agent_registry import Registry
from chargehand.settings import Settings
from tests.builders import make_spec
from tests.world import MASTER, PaperAgent, World

SAFE = make_spec("deploy_page", retry_safe=True)
UNSAFE = make_spec("send_the_bill")


def copy_of(agent: PaperAgent, incarnation: str = "thief.1") -> PaperAgent:
    """Return another one with the same token, in another home."""
    return PaperAgent(agent.world, agent.agent_id, agent.name, incarnation, agent.generation)


async def registered(world: World) -> str:
    (row,) = await world.queries.agents()
    return str(row["incarnation"])


async def seen(world: World) -> dict[str, Any]:
    (row,) = await world.queries.agents()
    return {name: row[name] for name in ("incarnation", "status", "slots", "last_heartbeat_at")}


async def kinds(world: World) -> list[str]:
    return [row["kind"] for row in reversed(await world.queries.anomalies())]


async def test_a_copied_token_does_not_take_over_from_the_living(world: World) -> None:
    true = await world.agent("nas", SAFE)
    thief, before = copy_of(true), await seen(world)
    await thief.register(make_spec("deploy_page", content_hash="hers"), make_spec("more"), slots=99)
    await thief.beat()
    assert await seen(world) == before
    assert [row["intent"] for row in await world.queries.intents()] == ["deploy_page"]
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await true.orders()
    assert order.journal == "journal"
    await true.finish(order)
    assert await world.status(request_id) is R.COMPLETED


async def test_the_refused_one_is_shown_wherever_people_look(world: World, database_url: str, tmp_path: Any) -> None:
    true = await world.agent("nas", SAFE)
    assert await world.reads.concerns() == []
    await copy_of(true).register(SAFE)
    (anomaly,) = await world.queries.anomalies()
    assert (anomaly["kind"], anomaly["agent_id"]) == ("second_journal", str(true.agent_id))
    assert "agent rotate" in anomaly["detail"]["hint"]
    (concern,) = await world.reads.concerns()
    assert (concern.kind, concern.about) == ("second agent", "nas")
    assert "chargehand agent rotate nas" in concern.remedy
    shown = concern_lines([concern])  # below `agents` and `status`
    assert "uses the token of nas and is refused" in "\n".join(line.text for line in shown)
    assert agent_list(read_all(Agent, await world.queries.agents()), 30)
    checks = [check for check in await examine(Settings(home=tmp_path, database_url=database_url)) if check.remedy]
    assert concern.remedy in [check.remedy for check in checks if check.name == "agents"]


async def test_a_flood_of_copies_is_one_anomaly(world: World) -> None:
    true = await world.agent("nas", SAFE)
    for n in range(5):
        thief = copy_of(true, f"thief-{n}.1")
        await thief.register(SAFE)
        await thief.beat()
    assert (await kinds(world)).count("second_journal") == 1
    (row,) = await world.queries.agents()
    assert row["rival"] == "thief-4.1"


async def test_of_two_that_come_at_once_the_first_has_the_name(world: World) -> None:
    """In one round of messages, when nobody was registered before."""
    agent_id, _, _ = await Registry(world.store, MASTER).enrol("nas", accept_all=True)
    agents = [PaperAgent(world, agent_id, "nas", incarnation) for incarnation in ("first.1", "second.1")]
    wires: list[bytes] = []
    for agent in agents:
        agent.say = _kept(agent, wires)  # type: ignore[method-assign]
        await agent.register(SAFE)
    await world.engine.record(wires)
    assert await registered(world) == "first.1"
    assert await kinds(world) == ["second_journal"]


def _kept(agent: PaperAgent, wires: list[bytes]) -> Any:
    async def say(kind: MessageType, payload: Any) -> None:
        wires.append(agent.message(kind, payload))

    return say


# --- recovery: nobody has to restart anything ---------------------------------------------------------------------


async def test_the_same_agent_may_restart_at_any_time_whatever_a_copy_does(world: World) -> None:
    true = await world.agent("nas", SAFE)
    thief = copy_of(true)
    await thief.register(SAFE)
    for life in ("journal.second", "journal.third"):
        true.incarnation = life
        await true.register(SAFE)
        assert await registered(world) == life
        await thief.beat()
    assert await registered(world) == "journal.third"


async def test_when_the_thief_is_gone_the_true_one_is_asked_and_has_its_name_again(world: World) -> None:
    true = await world.agent("nas", SAFE)
    thief = copy_of(true)
    await world.gone("nas")
    await thief.register(SAFE)
    assert await registered(world) == "thief.1"
    assert await kinds(world) == ["another_journal"], "it took the place of one that was gone: not in silence"
    await true.beat()
    assert await true.control() == [], "it lives, and is refused"
    assert await kinds(world) == ["another_journal", "second_journal"]
    await world.gone("nas")
    await true.beat()
    assert [envelope.type for envelope in await true.control()] == [MessageType.REGISTER]
    await true.register(SAFE)
    await true.beat()
    assert (await seen(world))["incarnation"] == true.incarnation
    assert (await seen(world))["status"] == "online"
    assert await world.reads.concerns() == [], "who has the name now is no second one"


@pytest.mark.parametrize("incarnation", ["machine-2.1", "lost-and-new.1"])
async def test_an_agent_that_was_moved_or_lost_its_journal_is_taken_when_the_first_is_gone(
    world: World, incarnation: str
) -> None:
    """It starts at once, is refused, and is asked as soon as the former life has been silent for long enough."""
    true = await world.agent("nas", SAFE)
    moved = copy_of(true, incarnation)
    await moved.register(SAFE)
    await moved.beat()
    assert await moved.control() == []
    await world.gone("nas")
    await moved.beat()
    assert [envelope.type for envelope in await moved.control()] == [MessageType.REGISTER]
    await moved.register(SAFE)
    assert await registered(world) == incarnation
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    (order,) = await moved.orders()
    assert order.journal == incarnation.partition(".")[0]
    await moved.finish(order)
    assert await world.status(request_id) is R.COMPLETED


async def test_silence_of_the_orchestrator_is_no_death_of_the_agent(world: World) -> None:
    """Heartbeats that nobody could record must not give the name away: only the sweep says that one is gone."""
    true = await world.agent("nas", SAFE)
    await world.run("UPDATE agent_registry SET last_heartbeat_at = now() - interval '1 hour'")
    await copy_of(true).register(SAFE)
    assert await registered(world) == true.incarnation


async def test_a_new_key_shuts_the_thief_out_at_once_even_where_it_has_the_name(world: World) -> None:
    true = await world.agent("nas", SAFE)
    thief = copy_of(true)
    await world.gone("nas")
    await thief.register(SAFE)
    await true.beat()
    assert [concern.kind for concern in await world.reads.concerns()] == ["second agent"]
    _, _, true.generation = await Registry(world.store, MASTER).rotate("nas")
    true.incarnation = "journal.with-the-new-key"
    await true.register(SAFE)
    assert await registered(world) == true.incarnation
    before = await seen(world)
    await thief.beat()
    await thief.register(SAFE)
    assert await seen(world) == before
    assert (await kinds(world))[-2:] == ["bad_envelope", "bad_envelope"]
    assert await world.reads.concerns() == []


# --- what a copy cannot do to the work of the true one ------------------------------------------------------------


async def test_a_copy_is_given_no_leave_to_start(world: World) -> None:
    true = await world.agent("nas", UNSAFE)
    request_id = await world.approved("send_the_bill")
    await world.engine.dispatch()
    (order,) = await true.orders()
    await copy_of(true).accept(order)
    assert await true.control() == [], "neither leave, nor an end to what the true one may have"
    assert await kinds(world) == ["foreign_work_accepted"]
    await true.accept(order)
    assert [envelope.type for envelope in await true.control()] == [MessageType.START]
    await true.finish(order)
    assert await world.status(request_id) is R.COMPLETED


async def test_a_copy_cannot_make_running_work_an_unknown_outcome(world: World) -> None:
    """It asked for leave in another life's name, and the work of the true one was ended and went to review."""
    true = await world.agent("nas", UNSAFE)
    request_id = await world.approved("send_the_bill")
    await world.engine.dispatch()
    (order,) = await true.orders()
    await true.accept(order)
    await true.control()
    await copy_of(true).accept(order)
    assert await true.control() == []
    await true.finish(order)
    assert await world.status(request_id) is R.COMPLETED


async def test_who_was_displaced_may_still_end_what_it_has(world: World) -> None:
    """It was cut off for long, another one has its name now, and its lease still holds."""
    true = await world.agent("nas", UNSAFE)
    request_id = await world.approved("send_the_bill")
    await world.engine.dispatch()
    (order,) = await true.orders()
    await true.accept(order)
    await true.control()
    await world.gone("nas")
    await copy_of(true, "machine-2.1").register(UNSAFE)
    await true.accept(order)
    assert [envelope.type for envelope in await true.control()] == [MessageType.START], "the grant was lost on the way"
    await true.finish(order)
    assert await world.status(request_id) is R.COMPLETED
