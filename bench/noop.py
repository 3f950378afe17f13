"""The agent of the throughput benchmark: work that does nothing, so that all that is measured is what is around it."""

from __future__ import annotations

from chargehand.agent import Agent, Outcome, Work
from chargehand.domain.intents import IntentSpec
from chargehand.domain.risks import Risk

SLOTS = 64  # no plan of the largest size waits for a slot

INTENT = "noop"
SPEC = IntentSpec(intent=INTENT, work_type="monitor_system", risk=Risk.READ, retry_safe=True, content_hash=INTENT)

agent = Agent("bench", slots=SLOTS)


async def nothing(work: Work) -> Outcome:
    """Report at once."""
    return Outcome("nothing to do", changed=False)


agent.offer(SPEC, nothing)
