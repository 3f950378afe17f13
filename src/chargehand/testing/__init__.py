"""For authors of agents: run their work as an agent would, without a broker, a database or an orchestrator.

    from chargehand.testing import run

    async def test_it_greets() -> None:
        ran = await run(agent, "greet_somebody", {"name": "Ada"})
        assert ran.ok and ran.summary == "Hello Ada"

`started` is `run` in slow motion: wait for a word, cancel. `Harness` is the whole agent with its journal, over a broker
in memory, and a small orchestrator that sends orders, grants, cancels and confirms. Needs no test framework.
"""

from __future__ import annotations

from chargehand.testing.attempts import Ran, Running, run, started
from chargehand.testing.harness import Harness
from chargehand.testing.orders import make_order

__all__ = ["Harness", "Ran", "Running", "make_order", "run", "started"]
