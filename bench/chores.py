"""The agent of the fleet benchmark: quick work that leaves a line for each time it ran."""

from __future__ import annotations

import os
from pathlib import Path

from chargehand.agent import Agent, Outcome, Work
from chargehand.domain.risks import Risk

EFFECTS = "BENCH_EFFECTS"
"""The environment variable that names the file the lines go to."""

CHORES = {
    "sweep_the_yard": ("sweep the yard", "please sweep the yard", "sweep our yard", "sweep the whole yard"),
    "water_the_plants": ("water the plants", "please water the plants", "water our plants", "water all plants"),
    "feed_the_cat": ("feed the cat", "please feed the cat", "feed our cat", "feed the cats"),
}
DEMO = {
    "deploy_status_page": ("deploy the status page", "set up the status page", "install the status page"),
    "add_portals": ("add our existing portals to its config", "add the portals to the status page", "add our portals"),
}
"""As in the demo: changes that are not safe to repeat, so they wait for leave to start."""

agent = Agent("chores", slots=16)


async def write_down(work: Work) -> Outcome:
    """Do nothing but say so."""
    _append(f"{work.task_id} {work.attempt_id} {os.getpid()}\n")
    return Outcome("done", changed=False)


def _append(line: str) -> None:
    with Path(os.environ[EFFECTS]).open("a") as effects:  # one short write to its end is atomic
        effects.write(line)


for chores, risk in ((CHORES, Risk.READ), (DEMO, Risk.CHANGE)):
    for intent, examples in chores.items():
        agent.work(
            intent,
            work_type="run_automation",
            risk=risk,
            retry_safe=risk is Risk.READ,
            description=examples[0].capitalize(),
            examples=examples,
        )(write_down)
