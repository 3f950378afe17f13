"""What a command that works on requests has in front of it: the office, the screen, and whoever sits there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from chargehand.app.application import Office
from chargehand.app.worker import Worker
from chargehand.cli.show import Row, Rows
from chargehand.cli.terminal.screen import Screen
from chargehand.store.queries import Views

PAUSE = 1.0
"""Seconds after which a watcher looks again although nobody said that anything has changed."""


@dataclass
class Desk:
    """One command's view of everything. `worker` is None for commands that only look or decide."""

    office: Office
    screen: Screen
    worker: Worker | None = None
    request_id: UUID | None = None  # what Ctrl-C must say how to go on with
    told: set[str] = field(default_factory=set)

    @property
    def views(self) -> Views:
        """What can be read."""
        return self.office.views

    @property
    def who(self) -> str:
        """Who decides here."""
        return self.office.settings.user_name

    async def changed(self, seconds: float = PAUSE) -> bool:
        """Wait until something has changed, or return False after so long. Raises whatever has ended the worker."""
        news = await self.office.changed(seconds)
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
        return sum(
            row["in_flight"] for row in await self.views.agents() if str(row["agent_id"]) == self.worker.agent_id
        )


@dataclass(frozen=True)
class Papers:
    """One request with everything that is shown of it."""

    request: Row
    plan: Row | None
    tasks: Rows
    attempts: Rows
    decomposition: Row | None
    questions: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """How long the work has taken, from the approval to the end."""
        ended = self.request["ended_at"]
        if ended is None or self.plan is None or self.plan["decided_at"] is None:
            return None
        return float((ended - self.plan["decided_at"]).total_seconds())


async def papers(views: Views, request_id: UUID) -> Papers:
    """Read one request with its newest plan. Raises `UnknownId`."""
    request = await views.request(request_id)
    plan, decompositions = await asyncio.gather(views.plan(request_id), views.decompositions(request_id))
    tasks, attempts = await asyncio.gather(views.tasks(request_id), views.attempts(request_id))
    latest = decompositions[-1] if decompositions else None
    return Papers(request, plan, of_plan(tasks, plan), attempts, latest, asked_back(request, latest))


def of_plan(tasks: Rows, plan: Row | None) -> Rows:
    """Return the newest plan's tasks, and those that were done under an earlier one."""
    return [t for t in tasks if plan is None or t["plan_id"] == plan["plan_id"] or t["status"] == "succeeded"]


def asked_back(request: Row, decomposition: Row | None) -> tuple[str, ...]:
    """Return the questions a request waits with."""
    if request["status"] != "asking" or decomposition is None:
        return ()
    value: Any = decomposition["value"]
    return tuple(value["ambiguities"])
