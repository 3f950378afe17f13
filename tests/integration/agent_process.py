"""An agent in a process of its own, to be killed: runs one order that starts a tree of processes. Not a test itself.

Usage: agent_process.py HOME MARK safe|unsafe LEASE_SECONDS. Prints the attempt's id when the tree runs, then waits.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chargehand.agent import Agent, Work
from tests.integration.counterpart import Counterpart, make_order, make_runtime

TREE = "sleep {mark} & setsid sleep {mark} & (setsid sh -c 'sleep {mark} & sleep {mark}' &) ; echo ready; sleep {mark}"


def tree_agent(mark: str) -> Agent:
    agent = Agent("trees")

    @agent.work("do_it", version="1")
    async def do_it(work: Work) -> str:
        await work.run(["sh", "-c", TREE.format(mark=mark)], on_line=work.progress)
        return "the tree fell by itself"

    return agent


async def main(home: Path, mark: str, retry_safe: bool, lease_seconds: float) -> None:
    desk = Counterpart()
    await desk.start()
    await make_runtime(tree_agent(mark), desk, home).start()
    order = await desk.order(make_order(retry_safe=retry_safe, lease_seconds=lease_seconds))
    await desk.said("ready")
    print(order.attempt_id, flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "safe", float(sys.argv[4])))
