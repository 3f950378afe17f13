"""An agent that is cut off ends its own work before anybody else begins it.

The programs write the time themselves, on one machine's clock, so what is compared is what really ran when.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.cable import Cable
from tests.fleet import AGENT_A, AGENT_B, Fleet, open_fleet, serving
from tests.rabbitmq import PrivateRabbitMQ

LEASE = 6.0


@pytest.fixture
async def fleet(tmp_path: Path, database_url: str, fleet_rabbitmq: PrivateRabbitMQ) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path, database_url, fleet_rabbitmq, lease_seconds=LEASE, lease_grace=1.0) as fleet:
        yield fleet


async def test_an_agent_cut_off_past_its_lease_ends_its_work_before_its_successor_begins(
    fleet: Fleet, fleet_rabbitmq: PrivateRabbitMQ
) -> None:
    async with serving(fleet.app), Cable(fleet_rabbitmq.port) as cable:
        await fleet.start_agent("near", fleet_rabbitmq.url_of(AGENT_A, port=cable.port))
        await fleet.start_agent("far", fleet_rabbitmq.url_of(AGENT_B))
        await fleet.app.registry.drain("far", drained=True)  # the plan names both, and near gets the work
        safe, unsafe = await fleet.approved("count the stars"), await fleet.approved("ring the bell")
        await fleet.begun("count_the_stars", "ring_the_bell")
        await fleet.app.registry.drain("far", drained=False)

        cable.freeze()
        await fleet.until(lambda: any(line.agent == "far" for line in fleet.lines("start")))
        await fleet.reaches(unsafe, "in_review")
        alive = {line.agent for line in fleet.lines("tick") if line.intent == "ring_the_bell"}
        fleet.release()
        await fleet.reaches(safe, "completed")

        lines = fleet.lines()
        last_of_near = max(line.at for line in lines if line.agent == "near")
        first_of_far = min(line.at for line in lines if line.agent == "far")
        assert last_of_near < first_of_far
        assert alive == {"near"}, "work that is not safe to repeat is not repeated"
        assert not [line for line in lines if line.what == "end" and line.agent == "near"]
        assert [line.intent for line in lines if line.what == "end"] == ["count_the_stars"]

        before = [event.seq for event in await fleet.app.queries.events(safe)]
        cable.thaw()
        await fleet.until(lambda: _kinds(fleet), seconds=90)
        assert set(await _kinds(fleet)) == {"late_work_result"}
        assert [event.seq for event in await fleet.app.queries.events(safe)] == before
        assert (await fleet.app.queries.request(unsafe))["status"] == "in_review"


async def _kinds(fleet: Fleet) -> list[str]:
    return [row["kind"] for row in await fleet.app.queries.anomalies()]


async def test_a_server_that_hears_nobody_gives_nobodys_work_away(
    tmp_path: Path, database_url: str, fleet_rabbitmq: PrivateRabbitMQ
) -> None:
    """The agent's heartbeats arrive at the broker, so it works on; it is the server that is cut off from them."""
    async with Cable(fleet_rabbitmq.port) as cable:
        url = fleet_rabbitmq.url_of("server", port=cable.port)
        lease = {"lease_seconds": 4.0, "lease_grace": 0.5}
        async with open_fleet(tmp_path, database_url, fleet_rabbitmq, amqp_url=url, **lease) as fleet:
            async with serving(fleet.app):
                await fleet.start_agent("near", fleet_rabbitmq.url_of(AGENT_A))
                request_id = await fleet.approved("count the stars")
                await fleet.begun("count_the_stars")
                await fleet.start_agent("far", fleet_rabbitmq.url_of(AGENT_B))
                cable.freeze()
                await asyncio.sleep(8.0)
                cable.thaw()
                await asyncio.sleep(2.0)
                fleet.release()
                await fleet.reaches(request_id, "completed")
            (start,) = fleet.lines("start")
            (end,) = fleet.lines("end")
            assert (start.agent, end.agent) == ("near", "near")
            assert await _kinds(fleet) == []
