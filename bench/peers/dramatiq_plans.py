"""Dramatiq over RabbitMQ with results in Redis: nothing of it is in a database, and Redis keeps it in memory only."""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.contest import contest
from bench.peers.beside import beside

broker = RabbitmqBroker(url=os.environ["PEER_AMQP"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["PEER_REDIS"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, pipe_ignore=True)
def noop() -> str:
    return "nothing to do"


def plan() -> None:
    pipeline = dramatiq.pipeline([noop.message() for _ in range(3)]).run()
    pipeline.get_result(block=True, timeout=60_000)


async def main(plans: int, in_flight: int) -> None:
    pool = ThreadPoolExecutor(in_flight)
    loop = asyncio.get_running_loop()
    with beside("dramatiq", __spec__.name, "--processes", "1", "--threads", "16"):
        await contest(lambda: loop.run_in_executor(pool, plan), plans, in_flight)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
