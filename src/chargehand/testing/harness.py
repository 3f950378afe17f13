"""A whole agent under test: its runtime and journal, a broker in memory, a small orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import JsonValue

from chargehand.agent import Agent
from chargehand.agent.runtime.runtime import AgentRuntime
from chargehand.broker.weather import Weather
from chargehand.domain.messages import WorkOrder
from chargehand.testing.orchestrator import AGENT_ID, KEY, Orchestrator
from chargehand.testing.orders import make_order


class Harness(Orchestrator):
    """Runs an agent and orders work from it: `async with Harness(agent) as orchestrator: ...`.

    `home` keeps journal and directories (a temporary one unless given). Without `grants`, work that is not safe to
    repeat waits for `grant`; without `records`, results are repeated until `record`. `weather` loses, doubles and
    delays messages. Heartbeats come fast, so that what is repeated with them need not be waited for.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        home: Path | None = None,
        grants: bool = True,
        records: bool = True,
        weather: Weather | None = None,
        heartbeat_seconds: float = 0.05,
        patience: float = 10.0,
    ) -> None:
        super().__init__(weather=weather, grants=grants, records=records, patience=patience)
        self.agent = agent
        self._heartbeat_seconds = heartbeat_seconds
        self._temporary = TemporaryDirectory(prefix="chargehand-testing-") if home is None else None
        self.home = home or Path(self._temporary.name if self._temporary else "")
        self.runtime: AgentRuntime
        self._draining: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Harness:
        await self.open()
        await self._begin_life()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runtime.stop()
        await self.broker.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def order(self, intent: str, parameters: Mapping[str, JsonValue] | None = None, **fields: Any) -> WorkOrder:
        """Send an order for what the agent offers and return it; `fields` are those of `WorkOrder` that should differ.

        Raises `UnknownId` when the agent does not offer the intent.
        """
        order = make_order(self.agent, intent, parameters, **fields)
        await self.send(order)
        return order

    async def drain(self) -> None:
        """Let the agent finish what runs and stop, as SIGTERM does; it goes on in the background."""
        self._draining = asyncio.create_task(self.runtime.stop(drain=True), name="drain")
        await asyncio.sleep(0)  # from here on it takes nothing new

    async def restart(self) -> None:
        """Stop the agent at once, as a shutdown of its machine does, and start its next life on the same journal."""
        await self.runtime.stop()
        await self._begin_life()

    async def _begin_life(self) -> None:
        self.runtime = AgentRuntime(
            self.agent,
            self.broker,
            agent_id=AGENT_ID,
            key=KEY,
            home=self.home,
            heartbeat_seconds=self._heartbeat_seconds,
        )
        await self.runtime.start()
