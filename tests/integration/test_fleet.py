"""Two servers and an agent, each a program of its own: work outlives whatever of them is killed, and runs once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import aio_pika
import pytest
from aio_pika.exceptions import ChannelPreconditionFailed

from bench.cable import Cable
from tests.fleet import ACK_SECONDS, AGENT_A, PATIENCE, Fleet, open_fleet
from tests.rabbitmq import PrivateRabbitMQ

CUTS = 3


@pytest.fixture(scope="module")
async def cable(fleet_rabbitmq: PrivateRabbitMQ) -> AsyncIterator[Cable]:
    """What the agent is connected by."""
    async with Cable(fleet_rabbitmq.port) as cable:
        yield cable


@pytest.fixture(scope="module")
async def fleet(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, fleet_rabbitmq: PrivateRabbitMQ, cable: Cable
) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    async with open_fleet(folder, module_database_url, fleet_rabbitmq) as fleet:
        await asyncio.gather(fleet.start_server("server-1"), fleet.start_server("server-2"))
        await fleet.start_agent("near", fleet_rabbitmq.url_of(AGENT_A, port=cable.port))
        yield fleet
        ends = [await asyncio.to_thread(fleet.programs.stop, name) for name in fleet.programs.names]
        assert ends == [0, 0, 0], "they end in good order"


@pytest.fixture
async def work(fleet: Fleet) -> tuple[UUID, UUID]:
    """Work that is safe to repeat and work that is not, both running."""
    fleet.hold()
    requests = [await fleet.approved(words) for words in ("count the stars", "ring the bell")]
    await fleet.begun("count_the_stars", "ring_the_bell")
    return requests[0], requests[1]


async def ran_once(fleet: Fleet, work: tuple[UUID, UUID]) -> None:
    """Assert that both come to their end, and that each ran once."""
    for request_id in work:
        await fleet.reaches(request_id, "completed")
        (attempt,) = await fleet.app.queries.attempts(request_id)
        runs = [line.what for line in fleet.lines("start", "end") if line.attempt_id == attempt["attempt_id"]]
        assert runs == ["start", "end"]
    assert len(fleet.lines("start")) == len(work)
    odd = {row["kind"] for row in await fleet.app.queries.anomalies()}
    assert odd <= {"repeated_message"}, "what was delivered twice after a crash may be noted"


async def test_work_longer_than_the_brokers_patience_runs_once(
    fleet: Fleet, work: tuple[UUID, UUID], fleet_rabbitmq: PrivateRabbitMQ, cable: Cable
) -> None:
    connections = cable.connections
    async with await aio_pika.connect(fleet_rabbitmq.url) as connection:
        assert await _closed(connection), "the broker ends who does not acknowledge in time"
    await asyncio.sleep(1.0)  # it looks every half second
    assert not fleet.lines("end"), "all the time the work was running"
    fleet.release()
    await ran_once(fleet, work)
    assert cable.connections == connections
    assert "channel" not in fleet.programs.said("near")


async def test_work_outlives_the_death_and_the_restart_of_every_server(fleet: Fleet, work: tuple[UUID, UUID]) -> None:
    fleet.programs.kill("server-1")
    assert await asyncio.to_thread(fleet.programs.stop, "server-2") == 0
    fleet.release()
    await fleet.until(lambda: len(fleet.lines("end")) == len(work))
    meanwhile = await fleet.app.engine.submit("count the stars", requester="ann")
    assert [(await fleet.app.queries.request(r))["status"] for r in work] == ["running", "running"]
    await asyncio.gather(fleet.start_server("server-1"), fleet.start_server("server-2"))
    await ran_once(fleet, work)
    await fleet.reaches(meanwhile, "awaiting_approval")
    await fleet.app.control.cancel(meanwhile, "ann")


async def test_work_outlives_lost_connections(fleet: Fleet, work: tuple[UUID, UUID], cable: Cable) -> None:
    connections = cable.connections
    for cuts in range(CUTS):
        await fleet.until(lambda made=connections + cuts: cable.connections == made)  # type: ignore[misc]
        cable.cut()
    fleet.release()
    await ran_once(fleet, work)


async def test_work_outlives_the_death_of_the_broker(
    fleet: Fleet, work: tuple[UUID, UUID], fleet_rabbitmq: PrivateRabbitMQ
) -> None:
    fleet_rabbitmq.kill()
    starting = asyncio.create_task(asyncio.to_thread(fleet_rabbitmq.start))
    fleet.release()
    await fleet.until(lambda: len(fleet.lines("end")) == len(work))
    await starting
    await ran_once(fleet, work)


async def _closed(connection: Any) -> bool:
    """Take a message, say nothing, and return whether the broker closed the channel because of it."""
    closed: asyncio.Queue[BaseException | None] = asyncio.Queue()
    channel = await connection.channel()
    channel.close_callbacks.add(lambda _, error: closed.put_nowait(error))
    queue = await channel.declare_queue("kept-waiting", durable=True, arguments={"x-queue-type": "quorum"})
    await channel.default_exchange.publish(aio_pika.Message(b"x"), "kept-waiting")
    taken = asyncio.Event()

    async def take(_: object) -> None:
        taken.set()

    await queue.consume(take)
    await asyncio.wait_for(taken.wait(), PATIENCE)
    began = asyncio.get_running_loop().time()
    error = await asyncio.wait_for(closed.get(), PATIENCE)
    assert asyncio.get_running_loop().time() - began >= ACK_SECONDS - 0.5
    async with connection.channel() as other:
        await other.queue_delete("kept-waiting")
    return isinstance(error, ChannelPreconditionFailed)
