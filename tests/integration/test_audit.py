"""History that cannot be rewritten unnoticed."""

from __future__ import annotations

from uuid import UUID

import pytest

from chargehand.domain import seals
from chargehand.domain.errors import DatabaseRefuses
from tests.builders import make_spec
from tests.world import MASTER, World

SAFE = make_spec("deploy_page", retry_safe=True)


async def test_the_database_refuses_to_change_or_remove_events(world: World) -> None:
    request_id = await _ended(world)
    for sql in (
        "UPDATE events SET kind = 'x' WHERE request_id = $1",
        "DELETE FROM events WHERE request_id = $1",
    ):
        with pytest.raises(DatabaseRefuses, match="append-only"):
            await world.run(sql, request_id)
    with pytest.raises(DatabaseRefuses, match="append-only"):
        await world.run("TRUNCATE events")


async def test_an_untouched_history_holds(world: World) -> None:
    request_id = await _ended(world)
    assert await _problem(world, request_id) is None


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ('UPDATE events SET data = \'{"approver": "mallory"}\' WHERE seq = 4', "an event was altered"),
        ("UPDATE events SET at = at + interval '1 microsecond' WHERE seq = 1", "an event was altered"),
        ("DELETE FROM events WHERE seq = 3", "events were removed: number 3"),
        ("DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)", "events were removed"),
        ("UPDATE seals SET event_count = event_count - 1", "an event was altered"),
    ],
)
async def test_tampering_behind_the_trigger_is_found(world: World, tampering: str, found: str) -> None:
    request_id = await _ended(world)
    await world.run("ALTER TABLE events DISABLE TRIGGER ALL")
    await world.run(tampering)
    assert found in (await _problem(world, request_id) or "")


async def test_a_seal_cannot_be_made_without_the_master_key(world: World) -> None:
    request_id = await _ended(world)
    events = await world.queries.events(request_id)
    (seal,) = await world.queries.seals()
    assert seals.mac(seals.seal_key(b"another key"), request_id, events) != seal.mac


async def _ended(world: World) -> UUID:
    agent = await world.agent("infra-1", SAFE)
    request_id = await world.approved("deploy_page")
    await world.engine.dispatch()
    await agent.work_off()
    return request_id


async def _problem(world: World, request_id: UUID) -> str | None:
    (seal,) = await world.queries.seals()
    return seals.check(seals.seal_key(MASTER), seal, await world.queries.events(request_id))
