"""An author's agent whose work leaves traces: its programs write when they start, that they live, and when they end.

Not a test itself. `EFFECTS` names the directory of the traces; work goes on until there is a file `release` in it.
"""

from __future__ import annotations

import os

from chargehand.agent import Agent, Work

SCRIPT = """
say() { echo "$0 $1 $(date +%s.%N)" >> "$EFFECTS/lines"; }
say start
left=600
while [ ! -e "$EFFECTS/release" ] && [ $left -gt 0 ]; do say tick; sleep 0.2; left=$((left - 1)); done
say end
"""

agent = Agent("counting", slots=4)


async def _count(work: Work) -> str:
    finished = await work.run(["sh", "-c", SCRIPT, f"{work.intent} {work.attempt_id} {os.environ['AGENT_NAME']}"])
    return f"ended with {finished.exit_code}"


@agent.work("count_the_stars", retry_safe=True, examples=[
    "count the stars", "please count the stars", "count all stars", "count our stars"])  # fmt: skip
async def count_the_stars(work: Work) -> str:
    """Count the stars: may be done twice."""
    return await _count(work)


@agent.work("ring_the_bell", examples=[
    "ring the bell", "please ring the bell", "ring our bell", "ring the big bell"])  # fmt: skip
async def ring_the_bell(work: Work) -> str:
    """Ring the bell: twice would be heard."""
    return await _count(work)
