"""DBOS: a workflow of three steps, enqueued here and run by a worker process, all of it in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from dbos import DBOS, DBOSClient
from sqlalchemy.exc import ProgrammingError

from bench.contest import contest
from bench.peers.beside import beside

POLL = 0.05  # seconds between looks at the queue and at the result; the defaults of a second would time the waiting
DSN = os.environ["PEER_DSN"]
QUEUE = "plans"


@DBOS.step()
def noop() -> str:
    return "nothing to do"


@DBOS.workflow()
def three_noops() -> str:
    noop()
    noop()
    return noop()


def work() -> None:
    """Run what is enqueued until killed."""
    DBOS(config={"name": "peer", "system_database_url": DSN, "log_level": "ERROR", "run_admin_server": False})
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=POLL)
    threading.Event().wait()


async def _client() -> DBOSClient:
    """Return a client when the worker has made its tables."""
    client = DBOSClient(system_database_url=DSN)
    while True:
        try:
            await client.list_workflows_async(limit=1)
        except ProgrammingError:
            await asyncio.sleep(0.5)
        else:
            return client


async def main(plans: int, in_flight: int) -> None:
    with beside("bench.peers.dbos_plans", "worker"):
        client = await _client()

        async def plan() -> None:
            handle = await client.enqueue_async({"queue_name": QUEUE, "workflow_name": "three_noops"})
            await handle.get_result(polling_interval_sec=POLL)

        await contest(plan, plans, in_flight)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work()
    else:
        asyncio.run(main(*map(int, sys.argv[1:])))
