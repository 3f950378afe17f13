"""The core of a transaction: guarded moves of statuses, the events that go with them, and seals of ended requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from chargehand.catalog.catalog import Catalog
from chargehand.domain import seals
from chargehand.domain.errors import StaleStatus
from chargehand.domain.records import AttemptMove, Event, PlanMove, RequestMove, TaskMove
from chargehand.domain.states import (
    ATTEMPT,
    ATTEMPT_OPEN,
    PLAN,
    REQUEST,
    REQUEST_ENDED,
    TASK,
    TASK_ENDED,
    RequestStatus,
    TaskStatus,
    check_move,
)
from chargehand.store.named_sql import load

SQL = load("hot.sql", "decisions.sql")

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]


@dataclass(slots=True)
class Traffic:
    """What a store has asked of its database so far. Each statement is a round trip; BEGIN and COMMIT are two more."""

    transactions: int = 0
    statements: int = 0


class Moves:
    """One transaction. Events and the things they tell of are written together, at the end, in one statement."""

    def __init__(
        self,
        connection: Connection,
        seal_key: bytes,
        catalogs: dict[str, Catalog] | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self._connection = connection
        self._traffic = traffic or Traffic()
        self._seal_key = seal_key
        self._catalogs = {} if catalogs is None else catalogs  # the latest, by the state it was read in
        self._events: list[tuple[UUID, str, UUID | None, UUID | None, Mapping[str, Any]]] = []
        self._ended: set[UUID] = set()
        self.wakes: set[str] = set()  # which steps have something to do after the commit
        self._touched = False  # whether anybody who watches has something to see

    async def fetch(self, name: str, *args: object) -> list[asyncpg.Record]:
        """Run a named statement and return its rows."""
        self._traffic.statements += 1
        return await self._connection.fetch(SQL[name], *args)

    async def execute(self, name: str, *args: object) -> int:
        """Run a named statement and return how many rows it touched."""
        self._traffic.statements += 1
        status = await self._connection.execute(SQL[name], *args)
        return int(status.rsplit(" ", 1)[-1])

    def note(
        self,
        request_id: UUID,
        kind: str,
        data: Mapping[str, Any] | None = None,
        *,
        task_id: UUID | None = None,
        attempt_id: UUID | None = None,
    ) -> None:
        """Add a line to a request's history; its row must be locked by this transaction."""
        self._events.append((request_id, kind, task_id, attempt_id, data or {}))
        self._touched = True

    async def move_requests(self, moves: Sequence[RequestMove]) -> None:
        """Move requests along their table. Raises `StaleStatus` when one is not where it was."""
        if not moves:
            return
        for move in moves:
            check_move(REQUEST, move.old, move.new)
            data = {"from": move.old, "reason": move.reason, **move.data}
            self.note(move.request_id, f"request.{move.new}", data)
            (self._ended.add if move.new in REQUEST_ENDED else self._ended.discard)(move.request_id)
            if move.new is RequestStatus.ACCEPTED:
                self.wakes.add("decompose")
        done = await self.execute(
            "move_requests",
            [m.request_id for m in moves],
            _text(m.old for m in moves),
            _text(m.new for m in moves),
            [m.reason for m in moves],
            [m.new in REQUEST_ENDED for m in moves],
        )
        _all_moved(done, moves, "request")

    async def move_plans(self, moves: Sequence[PlanMove]) -> None:
        """Move plans along their table. Raises `StaleStatus` when one is not where it was."""
        if not moves:
            return
        for move in moves:
            check_move(PLAN, move.old, move.new)
            data = {"plan_id": str(move.plan_id), "from": move.old, **move.data}
            self.note(move.request_id, f"plan.{move.new}", data)
        ids, old, new = [m.plan_id for m in moves], _text(m.old for m in moves), _text(m.new for m in moves)
        _all_moved(await self.execute("move_plans", ids, old, new), moves, "plan")

    async def move_tasks(self, moves: Sequence[TaskMove]) -> None:
        """Move tasks along their table. Raises `StaleStatus` when one is not where it was."""
        if not moves:
            return
        for move in moves:
            check_move(TASK, move.old, move.new)
            data = {"from": move.old, "reason": move.reason, **move.data}
            self.note(move.request_id, f"task.{move.new}", data, task_id=move.task_id)
            if move.new is TaskStatus.READY:
                self.wakes.add("dispatch")
        done = await self.execute(
            "move_tasks",
            [m.task_id for m in moves],
            _text(m.old for m in moves),
            _text(m.new for m in moves),
            [m.reason for m in moves],
            [m.delay for m in moves],
            [m.new in TASK_ENDED for m in moves],
            [m.result for m in moves],
        )
        _all_moved(done, moves, "task")

    async def move_attempts(self, moves: Sequence[AttemptMove]) -> None:
        """Move attempts along their table. Raises `StaleStatus` when one is not where it was."""
        if not moves:
            return
        for move in moves:
            check_move(ATTEMPT, move.old, move.new)
            data = {"from": move.old, "reason": move.reason}
            self.note(move.request_id, f"attempt.{move.new}", data, task_id=move.task_id, attempt_id=move.attempt_id)
        done = await self.execute(
            "move_attempts",
            [m.attempt_id for m in moves],
            _text(m.old for m in moves),
            _text(m.new for m in moves),
            [m.new not in ATTEMPT_OPEN for m in moves],
            [m.incarnation for m in moves],
            [m.result for m in moves],
            [m.duration_ms for m in moves],
        )
        _all_moved(done, moves, "attempt")

    async def finish(self) -> None:
        """Write the events and the seals of what ended, and wake everybody once. Called once, before the commit."""
        wakes = " ".join(sorted(self.wakes))
        if self._events:
            await self._write_events(wakes)
        elif self._touched or self.wakes:
            self._traffic.statements += 1
            await self._connection.execute("SELECT pg_notify('chargehand', $1)", wakes)
        if self._ended:
            await self._seal(sorted(self._ended))

    async def events_of(self, request_id: UUID) -> list[Event]:
        """Return a request's history in order, as stored."""
        return [Event(*row) for row in await self.fetch("events_of", request_id)]

    async def _write_events(self, wakes: str) -> None:
        ordinals: dict[UUID, int] = {}
        numbered = []
        for request_id, *_ in self._events:
            ordinals[request_id] = ordinals.get(request_id, 0) + 1
            numbered.append(ordinals[request_id])
        await self.execute(
            "write_events",
            [e[0] for e in self._events],
            numbered,
            [e[1] for e in self._events],
            [e[2] for e in self._events],
            [e[3] for e in self._events],
            [e[4] for e in self._events],
            wakes,
        )
        self._events.clear()

    async def _seal(self, ended: Sequence[UUID]) -> None:
        histories: dict[UUID, list[Event]] = {request_id: [] for request_id in ended}
        for request_id, *event in await self.fetch("events_of_ended", ended):
            histories[request_id].append(Event(*event))
        key = self._seal_key
        macs = [seals.mac(key, request_id, events) for request_id, events in histories.items()]
        counts = [len(events) for events in histories.values()]
        await self.execute("write_seals", list(histories), counts, macs, seals.key_name(key))


def _text(statuses: Any) -> list[str]:
    return [str(status) for status in statuses]


def _all_moved(done: int, moves: Sequence[object], what: str) -> None:
    if done != len(moves):
        raise StaleStatus(f"{len(moves) - done} of {len(moves)} {what} rows were moved by somebody else first")
