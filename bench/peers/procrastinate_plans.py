"""procrastinate: three jobs in PostgreSQL, each of which defers the next; the last one sends a notification."""

from __future__ import annotations

import asyncio
import os
import sys
from uuid import uuid4

import psycopg
from procrastinate import App, PsycopgConnector

from bench.contest import contest
from bench.peers.beside import beside

DSN = os.environ["PEER_DSN"]
ENDED = "peer_plan_ended"

app = App(connector=PsycopgConnector(conninfo=DSN, min_size=2, max_size=8))


@app.task(name="noop")
async def noop(plan: str, step: int) -> str:
    if step < 3:
        await noop.defer_async(plan=plan, step=step + 1)
    else:
        await app.connector.execute_query_async("SELECT pg_notify(%(channel)s, %(plan)s)", channel=ENDED, plan=plan)
    return "nothing to do"


async def work() -> None:
    """Run jobs until told to stop."""
    async with app.open_async():
        await app.run_worker_async(concurrency=64, install_signal_handlers=True)


class Ended:
    """Wakes who waits for a plan."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[None]] = {}

    async def listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(DSN, autocommit=True)
        await connection.execute(f"LISTEN {ENDED}")
        async for note in connection.notifies():
            if (waiting := self.waiting.pop(note.payload, None)) is not None:
                waiting.set_result(None)


async def main(plans: int, in_flight: int) -> None:
    ended = Ended()
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        listener = asyncio.create_task(ended.listen())

        async def plan() -> None:
            name = uuid4().hex
            ended.waiting[name] = waiting = asyncio.get_running_loop().create_future()
            await noop.defer_async(plan=name, step=1)
            await waiting

        with beside("bench.peers.procrastinate_plans", "worker"):
            await contest(plan, plans, in_flight)
        listener.cancel()


if __name__ == "__main__":
    asyncio.run(work() if sys.argv[1] == "worker" else main(*map(int, sys.argv[1:])))
