"""The SDK for authors of agents.

    from chargehand.agent import Agent, Work
    from pydantic import BaseModel

    agent = Agent("greeter")

    class Greeting(BaseModel):
        name: str

    @agent.work("greet_somebody", risk="read", retry_safe=True, examples=["greet {name}"])
    async def greet(work: Work, p: Greeting) -> str:
        return f"Hello {p.name}"

`AgentRuntime` runs it. Raise `TaskFailed` when the work would fail anywhere, `TaskInterrupted`
when it may pass; any other exception counts as a mistake in the function, and is not retried.
"""

from __future__ import annotations

from chargehand.agent.offers import Agent, Offer, Outcome, secret
from chargehand.agent.work import Work
from chargehand.domain.errors import TaskFailed, TaskFailedHere, TaskInterrupted

__all__ = ["Agent", "Offer", "Outcome", "TaskFailed", "TaskFailedHere", "TaskInterrupted", "Work", "secret"]
