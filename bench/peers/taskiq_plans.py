"""taskiq over RabbitMQ with results in PostgreSQL; the plan goes from step to step in the program that asked."""

from __future__ import annotations

import asyncio
import os
import sys

from taskiq_aio_pika import AioPikaBroker
from taskiq_pg.asyncpg import AsyncpgResultBackend

from bench.contest import contest
from bench.peers.beside import beside

POLL = 0.02  # seconds between looks at the result; there is nothing to wait for

results = AsyncpgResultBackend(dsn=os.environ["PEER_DSN"])
broker = AioPikaBroker(os.environ["PEER_AMQP"]).with_result_backend(results)


@broker.task(task_name="noop")  # this module has another name in the worker
async def noop() -> str:
    return "nothing to do"


async def plan() -> None:
    for _ in range(3):
        task = await noop.kiq()
        await task.wait_result(check_interval=POLL, timeout=60)


async def main(plans: int, in_flight: int) -> None:
    await broker.startup()
    options = ("--workers", "1", "--max-async-tasks", "64", "--log-level", "WARNING")
    with beside("taskiq", "worker", "bench.peers.taskiq_plans:broker", *options):
        await contest(plan, plans, in_flight)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
