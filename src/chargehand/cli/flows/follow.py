"""Follows a request while it is worked on: a board on a terminal, a line per event elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from chargehand.app.history import HistoryEvent
from chargehand.app.snapshot import Request, Task, of_plan
from chargehand.cli.flows.context import PAUSE, Context
from chargehand.cli.show.progress import board, event_line
from chargehand.cli.show.waiting import WAITS, Around, waiting_lines
from chargehand.cli.terminal.lines import Line
from chargehand.cli.terminal.screen import Board
from chargehand.domain.states import RequestStatus as R

AT_WORK = frozenset({R.RUNNING, R.PAUSED, R.CANCELLING})
FRAME = 0.2
"""Seconds between drawings of the board: enough for a spinner and tenths of seconds."""


async def follow(context: Context, request_id: UUID, after: int) -> int:
    """Show what happens until the request is no longer worked on; return the number of the last event shown."""
    with context.screen.live() as draw:
        following = Following(context, request_id, after, draw)
        while await following.look():
            await following.pause()
        return following.seen


class Following:
    """What a watcher knows of one request."""

    def __init__(self, context: Context, request_id: UUID, after: int, draw: Board | None) -> None:
        self.seen = after
        self._desk, self._request_id, self._draw = context, request_id, draw
        self._latest: dict[UUID, str] = {}
        self._began: dict[UUID, datetime] = {}
        self._took: dict[UUID, float] = {}
        self._waiting: list[Line] = []
        self._told: Sequence[Line] = ()
        self._tasks: Sequence[Task] = ()
        self._tick = 0

    async def look(self) -> bool:
        """Show what is new. Returns whether the request is still worked on."""
        app = self._desk.app
        request = await app.request(self._request_id)
        self._tasks = of_plan(await app.tasks(self._request_id), await app.plan(self._request_id))
        steps = {task.task_id: task.task_order for task in self._tasks}
        for event in await app.events(self._request_id, self.seen):
            self._take(event, steps.get(event.task_id) if event.task_id else None)
        self._waiting = await self._waits_now(request)
        self._redraw()
        self._tell_waits()
        return request.status in AT_WORK

    async def _waits_now(self, request: Request) -> list[Line]:
        """Return what is waited for, and until when; read only where something may wait."""
        if request.status not in AT_WORK or not (
            request.status is R.PAUSED or any(t.status in WAITS for t in self._tasks)
        ):
            return []
        app = self._desk.app
        attempts = (await app.snapshot(self._request_id)).attempts
        around = Around(request, attempts, datetime.now(UTC), app.settings.no_agent_timeout)
        return waiting_lines(self._tasks, around)

    async def pause(self) -> None:
        """Wait until there is something new, at most `PAUSE`; a board turns its spinner meanwhile."""
        if self._draw is None:
            await self._desk.changed()
            return
        for _ in range(round(PAUSE / FRAME)):
            if await self._desk.changed(FRAME):
                return
            self._redraw()

    def _redraw(self) -> None:
        if self._draw:
            self._tick += 1
            self._draw(board(self._tasks, self._latest, self._elapsed(), self._tick) + self._waiting)

    def _take(self, event: HistoryEvent, step: int | None) -> None:
        self.seen = event.seq
        if event.task_id is not None:
            self._note(event.task_id, event)
        line = event_line(event, step)
        if line and not self._draw:
            self._desk.screen.show(line)

    def _note(self, task_id: UUID, event: HistoryEvent) -> None:
        if event.kind == "task.running":
            self._began[task_id] = event.at
        elif event.kind == "task.progress":
            self._latest[task_id] = event.message
        elif event.kind.startswith("task.") and task_id in self._began:
            self._took[task_id] = (event.at - self._began.pop(task_id)).total_seconds()

    def _elapsed(self) -> dict[UUID, float]:
        now = datetime.now(UTC)
        return self._took | {task: max(0.0, (now - began).total_seconds()) for task, began in self._began.items()}

    def _tell_waits(self) -> None:
        """A task that waits for an agent or a key makes no event. A board shows it anyway."""
        if not self._draw:
            self._desk.screen.show(*(line for line in self._waiting if line not in self._told))
            self._told = tuple(self._waiting)
