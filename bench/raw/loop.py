"""The yardstick as a program: `python -m bench.raw.loop DSN AMQP_URL single|shared PLANS IN_FLIGHT`.

`single`: every step is a statement and a transaction of its own. `shared`: steps that wait at the same time share one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
from aio_pika import connect
from aiormq.abc import AbstractChannel, DeliveredMessage

from bench.contest import contest
from bench.raw.statements import ACCEPT, DISPATCH, RECORD
from bench.raw.worker import AT_ONCE, PERSISTENT, QUORUM, RESULTS

TASKS, WORKERS = 3, 2
CONNECTIONS = 8
PLANNING = {"enable_seqscan": "off", "jit": "off"}  # as ours: a plan made while the tables were empty scans for ever
AGENTS = {f"raw.agent-{n}": {"runs": 10 + n, "ok": 10, "in_flight": 0} for n in range(1, WORKERS + 1)}

Write = Callable[..., Awaitable[object]]
if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]


def to_json(value: object) -> str:
    """Serialise as closely as JSON allows."""
    return json.dumps(value, separators=(",", ":"))


class Shared:
    """One statement for many rows: what waits when the one before has been committed goes into the next together."""

    def __init__(self, pool: Pool, sql: str) -> None:
        self._pool, self._sql = pool, sql
        self._waiting: list[tuple[tuple[object, ...], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def __call__(self, *row: object) -> None:
        """Write a row, and return when its transaction is committed."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await written

    async def _write(self) -> None:
        while self._waiting:
            tx, self._waiting = self._waiting, []
            await self._pool.execute(self._sql, *map(list, zip(*(row for row, _ in tx), strict=True)))
            for _, written in tx:
                written.set_result(None)


def single(pool: Pool, sql: str) -> Write:
    """Return what writes a row in a statement and a transaction of its own."""

    async def write(*row: object) -> None:
        await pool.execute(sql, *([value] for value in row))

    return write


class Loop:
    """Plans, from their acceptance to their end."""

    def __init__(self, pool: Pool, channel: AbstractChannel, writes: Sequence[Write]) -> None:
        self._channel = channel
        self._accept, self._dispatch, self._record = writes
        self._results: dict[str, asyncio.Future[DeliveredMessage]] = {}

    async def plan(self) -> None:
        """Run one plan of three tasks."""
        request_id = uuid4()
        tasks = [{"task_id": str(uuid4()), "order": n, "intent": "noop"} for n in range(1, TASKS + 1)]
        await self._accept(request_id, "noop", to_json(tasks))
        for n, task in enumerate(tasks, start=1):
            await self._task(request_id, task, last=n == TASKS)

    async def _task(self, request_id: object, task: dict[str, Any], *, last: bool) -> None:
        attempt, scores = uuid4(), {name: _score(facts) for name, facts in AGENTS.items()}
        agent = max(scores, key=lambda name: scores[name])
        reason = f"{agent}: {scores[agent]:.2f}"
        await self._dispatch(request_id, task["task_id"], attempt, agent, reason, to_json({"scores": scores, **task}))
        AGENTS[agent]["in_flight"] += 1
        body = to_json({"request_id": str(request_id), "attempt_id": str(attempt), **task}).encode()
        self._results[str(attempt)] = answer = asyncio.get_running_loop().create_future()
        await self._channel.basic_publish(body, routing_key=agent, properties=PERSISTENT)
        result = await answer
        AGENTS[agent]["in_flight"] -= 1
        AGENTS[agent]["runs"] += 1
        await self._record(request_id, task["task_id"], attempt, result.body.decode(), last)
        await self._channel.basic_ack(result.delivery_tag or 0, wait=False)

    async def on_result(self, message: DeliveredMessage) -> None:
        """Hand a result to its plan."""
        self._results.pop(json.loads(message.body)["attempt_id"]).set_result(message)


async def _nothing_to_reset(_connection: object) -> None:
    """Spare the round trip after each statement by which a pool takes back what nobody here changes."""


def _score(facts: dict[str, int]) -> float:
    return facts["ok"] / facts["runs"] - 0.1 * facts["in_flight"]


async def main(dsn: str, url: str, form: str, plans: int, in_flight: int) -> None:
    """Start the workers, then run plans when told to."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            asyncpg.create_pool(
                dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, reset=_nothing_to_reset, server_settings=PLANNING
            )
        )
        connection = await stack.enter_async_context(await connect(url))
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=AT_ONCE)
        results = await channel.declare_queue(RESULTS, durable=True, arguments=QUORUM)
        plain = await channel.get_underlay_channel()
        write = Shared if form == "shared" else single
        loop = Loop(pool, plain, [write(pool, sql) for sql in (ACCEPT, DISPATCH, RECORD)])
        await plain.basic_consume(results.name, loop.on_result)
        for name in AGENTS:
            await stack.enter_async_context(_worker(url, name))
        await contest(loop.plan, plans, in_flight)


class _worker:
    """A worker in a process of its own for as long as the block lasts."""

    def __init__(self, url: str, name: str) -> None:
        self._command = [sys.executable, "-m", "bench.raw.worker", url, name]

    async def __aenter__(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        await self._process.stdout.readline()

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(int, sys.argv[4:])))  # type: ignore[arg-type]  # three texts, two numbers
