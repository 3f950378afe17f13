"""Celery chains over RabbitMQ with results in PostgreSQL, two worker processes."""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from celery import Celery, chain

from bench.contest import contest
from bench.peers.beside import beside

POLL = 0.02  # seconds between looks at the result; there is nothing to wait for

app = Celery("peer", broker=os.environ["PEER_AMQP"])
app.conf.result_backend = "db+" + os.environ["PEER_DSN"].replace("postgresql://", "postgresql+psycopg://", 1)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="noop")  # this module has another name in the worker
def noop() -> str:
    return "nothing to do"


def plan() -> None:
    chain(noop.si(), noop.si(), noop.si())().get(interval=POLL, timeout=60)


async def main(plans: int, in_flight: int) -> None:
    pool = ThreadPoolExecutor(in_flight)
    loop = asyncio.get_running_loop()
    options = ("--concurrency", "2", "--loglevel", "warning", "--without-gossip", "--without-mingle")
    with beside("celery", "--app", "bench.peers.celery_plans", "worker", *options):
        await contest(lambda: loop.run_in_executor(pool, plan), plans, in_flight)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
