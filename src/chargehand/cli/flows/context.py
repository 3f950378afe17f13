"""The context of a command that works on requests: the application, the screen, and the person there."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from chargehand.app.application import Application
from chargehand.app.worker import Worker
from chargehand.cli.terminal.screen import Screen

PAUSE = 1.0
"""Seconds after which a watcher looks again although nobody said that anything has changed."""


@dataclass
class Context:
    """One command's view of everything. `worker` is None for commands that only look or decide."""

    app: Application
    screen: Screen
    worker: Worker | None = None
    request_id: UUID | None = None  # what Ctrl-C must say how to go on with
    told: set[str] = field(default_factory=set)

    @property
    def who(self) -> str:
        """Who decides here."""
        return self.app.settings.user_name

    async def changed(self, seconds: float = PAUSE) -> bool:
        """Wait until something has changed, or return False after so long. Raises whatever has ended the worker."""
        news = await self.app.changed(seconds)
        if self.worker is not None:
            await self._check(self.worker)
        return news

    async def _check(self, worker: Worker) -> None:
        if worker.task is not None and worker.task.done():
            await worker.task
        if worker.trouble is not None and str(worker.trouble) not in self.told:
            self.told.add(str(worker.trouble))
            hint = f"; {worker.trouble.hint}" if worker.trouble.hint else ""
            self.screen.tell(f"cannot work now: {worker.trouble}{hint}")

    async def staffed(self) -> None:
        """Wait until somebody works on this database, so that what agents offer is up to date."""
        while self.worker is not None and not self.worker.staffed.is_set():
            await self.changed(0.1)

    async def in_flight(self) -> int:
        """Return how many tasks run in this process's own agent."""
        if self.worker is None or not self.worker.holding.is_set():
            return 0
        agents = await self.app.agents()
        return sum(agent.in_flight for agent in agents if str(agent.agent_id) == self.worker.agent_id)
