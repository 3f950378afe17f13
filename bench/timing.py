"""Times a program that does plans by itself (`contest`), with the CPU of all processes that it needs."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.contest import READY
from bench.meter import counted, percentile

BOUND = 150.0  # seconds after which a program has failed


LONGEST_LINE = 2**20  # the seconds of every plan


class DidNotRun(Exception):
    """A program said something else than its figures; the message is the last of what it said."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What a program's plans cost."""

    cpu_ms: float
    plans_per_s: float
    p50_ms: float
    p99_ms: float


async def timed(
    command: Sequence[str],
    plans: int,
    in_flight: int,
    servers: Mapping[str, Sequence[int]],
    environment: Mapping[str, str] | None = None,
) -> Timed:
    """Run a program with the numbers as its last arguments. Raises `DidNotRun`."""
    process = await asyncio.create_subprocess_exec(
        *command, str(plans), str(in_flight), stdin=PIPE, stdout=PIPE, stderr=PIPE,
        env={**os.environ, **(environment or {})}, start_new_session=True, limit=LONGEST_LINE,
    )  # fmt: skip
    said = asyncio.create_task(_listen(process))
    try:
        async with asyncio.timeout(BOUND):
            return await _time(process, plans, {**servers, "own": [process.pid]})
    except (TimeoutError, ValueError, BrokenPipeError) as error:
        process.kill()
        raise DidNotRun((await said)[-500:] or type(error).__name__) from error
    finally:
        if process.returncode is None:
            await _end(process)
        await said


async def _time(process: Process, plans: int, groups: Mapping[str, Sequence[int]]) -> Timed:
    assert process.stdout is not None
    while (line := await process.stdout.readline()).decode().strip() != READY:
        if not line:
            raise ValueError("it ended before it was ready")
    with counted(groups, plans) as cpu:
        await _tell(process)
        figures = json.loads(await process.stdout.readline())
    seconds = figures["seconds"]
    return Timed(
        cpu_ms=round(cpu["in_all"] - cpu["submitting"], 2),  # this process only waits
        plans_per_s=round(plans / figures["wall"], 1),
        p50_ms=round(1000 * percentile(seconds, 0.50), 1),
        p99_ms=round(1000 * percentile(seconds, 0.99), 1),
    )


async def _tell(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    await process.stdin.drain()


async def _end(process: Process) -> None:
    try:
        await _tell(process)
        async with asyncio.timeout(20):
            await process.wait()
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        process.kill()
        await process.wait()


async def _listen(process: Process) -> str:
    """Read what it complains about, so that it never waits for us."""
    assert process.stderr is not None
    return (await process.stderr.read()).decode(errors="replace")
