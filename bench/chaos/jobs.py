"""The agent of the chaos benchmark. Its work writes a line when it starts, when it has its effect and when it ends.

The file is the agents' own and is only appended to: what is in it is what happened, whatever the database says.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import NamedTuple

from chargehand.agent import Agent, Outcome, TaskFailed, TaskInterrupted, Work
from chargehand.domain.risks import Risk

EFFECTS, NAME = "BENCH_EFFECTS", "BENCH_AGENT"
"""The environment variables that name the file, and the agent in it."""


class Job(NamedTuple):
    """What there is to do. `longest` is in seconds; `trouble` is how many of a hundred attempts fail."""

    examples: tuple[str, ...]
    retry_safe: bool
    longest: float = 0.05
    trouble: int = 0
    exclusive: tuple[str, ...] = ()


JOBS = {
    "sweep_the_yard": Job(("sweep the yard", "sweep our yard", "sweep the whole yard"), True),
    "water_the_plants": Job(("water the plants", "water our plants", "water all plants"), True, longest=8.0),
    "feed_the_cat": Job(("feed the cat", "feed our cat", "feed the cats"), True, trouble=30),
    "ring_the_bell": Job(("ring the bell", "ring our bell", "ring the big bell"), False),
    "mail_the_letters": Job(("mail the letters", "mail our letters", "mail all letters"), False, longest=5.0),
    "lock_the_gate": Job(("lock the gate", "lock our gate", "lock the big gate"), False, exclusive=("gate",)),
    "paint_the_fence": Job(("paint the fence", "paint our fence", "paint the whole fence"), False, trouble=10),
}

agent = Agent("jobs", slots=24)


def write(work: Work, what: str) -> None:
    """Append one line in one write, which is atomic. CLOCK_MONOTONIC is the same for all processes."""
    name = os.environ[NAME]
    order = work.order
    line = (
        f"{what} {time.monotonic_ns()} {order.task_id} {order.attempt_id} {order.lease_token} {name} {order.intent}\n"
    )
    file = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


async def do(work: Work) -> Outcome:
    """Take some time, have an effect, take some more. What goes wrong is drawn from the attempt's id."""
    job, draw = JOBS[work.intent], work.attempt_id.int
    half = job.longest * (draw % 1009) / 1009 / 2
    write(work, "start")
    await asyncio.sleep(half)
    fails, after_effect = draw // 1009 % 100 < job.trouble, draw % 2 == 0
    if fails and not after_effect:
        raise TaskFailed("it will not go") if draw % 5 == 0 else TaskInterrupted("not just now")
    write(work, "effect")
    await asyncio.sleep(half)
    if fails:
        raise TaskInterrupted("it is done, and then something broke")
    write(work, "end")
    return Outcome("done", changed=not job.retry_safe)


for intent, job in JOBS.items():
    agent.work(
        intent,
        work_type="run_automation",
        risk=Risk.READ if job.retry_safe else Risk.CHANGE,
        retry_safe=job.retry_safe,
        description=job.examples[0].capitalize(),
        examples=(*job.examples, f"please {job.examples[0]}"),
        exclusive_keys=job.exclusive,
    )(do)
