"""What people look at: ordinary reads, written with SQLAlchemy Core. Nothing here changes a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from chargehand.domain.errors import UnknownId
from chargehand.domain.records import Event
from chargehand.store import tables as t
from chargehand.store.failures import translated
from chargehand.store.migrate import engine

Row = Mapping[str, Any]
Rows = Sequence[Row]

MANY = 200
"""Rows a list shows unless told otherwise: a screenful and its history."""


class Queries:
    """Reads over one database. Rows are mappings with the columns' names."""

    def __init__(self, dsn: str) -> None:
        self._engine: AsyncEngine = engine(dsn, poolclass=NullPool, json_serializer=json.dumps)

    async def close(self) -> None:
        """Give the connections back."""
        await self._engine.dispose()

    async def request_id(self, given: str) -> UUID:
        """Return the request an id, or the beginning of one (four characters or more), names. Raises `UnknownId`."""
        found = await self._by_prefix(t.requests, t.requests.c.request_id, given)
        if not found:
            task = await self._by_prefix(t.tasks, t.tasks.c.task_id, given)
            found = [row["request_id"] for row in await self._rows(_where(t.tasks, t.tasks.c.task_id.in_(task)))]
        return _only(given, sorted(set(found)), "request")

    async def task_id(self, given: str) -> UUID | None:
        """Return the task an id or the beginning of one names, or None."""
        found = await self._by_prefix(t.tasks, t.tasks.c.task_id, given)
        return found[0] if len(found) == 1 else None

    async def request(self, request_id: UUID) -> Row:
        """Return one request. Raises `UnknownId`."""
        rows = await self._rows(_where(t.requests, t.requests.c.request_id == request_id))
        if not rows:
            raise UnknownId(f"there is no request {request_id}", hint="`chargehand requests` lists them.")
        return rows[0]

    async def requests(self, status: str | None = None, limit: int = MANY) -> Sequence[Row]:
        """Return requests, newest first."""
        query = select(t.requests).order_by(t.requests.c.created_at.desc()).limit(limit)
        return await self._rows(query.where(t.requests.c.status == status) if status else query)

    async def open_requests(self) -> Sequence[Row]:
        """Return the requests that have not ended, newest first."""
        query = select(t.requests).where(t.requests.c.ended_at.is_(None)).order_by(t.requests.c.created_at.desc())
        return await self._rows(query)

    async def plan(self, request_id: UUID) -> Row | None:
        """Return the newest plan of a request, as stored."""
        query = _plans(request_id).order_by(t.plans.c.version.desc()).limit(1)
        rows = await self._rows(query)
        return rows[0] if rows else None

    async def plans(self, request_id: UUID) -> Sequence[Row]:
        """Return every version of a request's plan."""
        return await self._rows(_plans(request_id).order_by(t.plans.c.version))

    async def approvals(self, request_id: UUID) -> Sequence[Row]:
        """Return who approved or rejected which plan of a request."""
        query = select(t.approvals, t.plans.c.version).join(t.plans).where(t.plans.c.request_id == request_id)
        return await self._rows(query.order_by(t.approvals.c.approval_id))

    async def decompositions(self, request_id: UUID) -> Sequence[Row]:
        """Return what was understood of a request, each time."""
        table = t.decompositions
        return await self._rows(_where(table, table.c.request_id == request_id).order_by(table.c.decomposition_id))

    async def readings(self, since_days: float | None, limit: int) -> tuple[Sequence[Row], Sequence[Row]]:
        """Return the newest decompositions, and the plans of their requests with what people decided about each."""
        d, p = t.decompositions, t.plans
        newest = select(d).order_by(d.c.decomposition_id.desc()).limit(limit)
        if since_days is not None:
            newest = newest.where(d.c.created_at > _days_ago(since_days))
        readings = await self._rows(newest)
        wanted = newest.with_only_columns(d.c.request_id).subquery()
        said = select(func.array_agg(t.approvals.c.decision)).where(t.approvals.c.plan_id == p.c.plan_id)
        intents = func.jsonb_path_query_array(p.c.plan, text("'$.tasks[*].intent'")).label("intents")
        query = select(
            p.c.request_id,
            p.c.created_at,
            intents,
            p.c.ruling["action"].astext.label("action"),
            func.coalesce(said.scalar_subquery(), text("'{}'")).label("decisions"),
        )
        return readings, await self._rows(query.where(p.c.request_id.in_(select(wanted.c.request_id))))

    async def llm_calls(self, request_id: UUID) -> Sequence[Row]:
        """Return each call of each tier for a request, with its cost and what was wrong with it."""
        table = t.llm_calls
        return await self._rows(_where(table, table.c.request_id == request_id).order_by(table.c.call_id))

    async def tasks(self, request_id: UUID) -> Sequence[Row]:
        """Return the tasks of a request, every version's, in order."""
        query = _where(t.tasks, t.tasks.c.request_id == request_id)
        return await self._rows(query.order_by(t.tasks.c.created_at, t.tasks.c.task_order))

    async def attempts(self, request_id: UUID) -> Sequence[Row]:
        """Return the attempts of a request's tasks with their agents' names, oldest first."""
        query = select(t.attempts, t.agent_registry.c.name.label("agent")).join(t.agent_registry)
        return await self._rows(query.where(t.attempts.c.request_id == request_id).order_by(t.attempts.c.lease_token))

    async def decisions(self, request_id: UUID) -> Sequence[Row]:
        """Return the routing decisions for a request's tasks, oldest first."""
        table = t.routing_decisions
        query = select(table).join(t.tasks, t.tasks.c.task_id == table.c.task_id)
        return await self._rows(query.where(t.tasks.c.request_id == request_id).order_by(table.c.id))

    async def routing(self, since_days: float | None = None, limit: int | None = None) -> Sequence[Row]:
        """Return routing decisions with the task (`spec`) each was about, oldest first; the newest `limit` of them."""
        table = t.routing_decisions
        query = select(table, t.tasks.c.spec).join(t.tasks, t.tasks.c.task_id == table.c.task_id)
        if since_days is not None:
            query = query.where(table.c.created_at > _days_ago(since_days))
        rows = await self._rows(query.order_by(table.c.id.desc()).limit(limit))
        return rows[::-1]

    async def reviews(self, request_id: UUID | None = None, *, open_only: bool = True) -> Sequence[Row]:
        """Return what waits for a person."""
        query = select(t.reviews).order_by(t.reviews.c.review_id)
        if request_id:
            query = query.where(t.reviews.c.request_id == request_id)
        return await self._rows(query.where(t.reviews.c.status == "open") if open_only else query)

    async def anomalies(self, request_id: UUID | None = None, limit: int = MANY) -> Sequence[Row]:
        """Return messages that should not have come, newest first."""
        query = select(t.anomalies).order_by(t.anomalies.c.anomaly_id.desc()).limit(limit)
        return await self._rows(query.where(t.anomalies.c.request_id == request_id) if request_id else query)

    async def events(self, request_id: UUID, after: int = 0) -> list[Event]:
        """Return a request's history in order, from after that number on."""
        c = t.events.c
        query = select(c.seq, c.kind, c.task_id, c.attempt_id, c.data, c.at)
        query = query.where(c.request_id == request_id, c.seq > after).order_by(c.seq)
        return [Event(**row) for row in await self._rows(query)]

    async def agents(self) -> Sequence[Row]:
        """Return the agents with what they have done: runs, successes and mean duration over all work types."""
        p, g = t.agent_performance.c, t.agent_registry
        done = (
            select(
                p.agent_id,
                func.sum(p.success_count).label("successes"),
                func.sum(p.failure_count).label("failures"),
                func.sum(p.total_duration_ms).label("total_ms"),
            )
            .where(p.intent == "")
            .group_by(p.agent_id)
        )
        sums = done.subquery()
        silent = func.extract("epoch", func.now() - g.c.last_heartbeat_at).label("silent_seconds")
        rival = func.extract("epoch", func.now() - g.c.rival_at).label("rival_silent_seconds")
        query = select(g, silent, rival, sums.c.successes, sums.c.failures, sums.c.total_ms).outerjoin(
            sums, sums.c.agent_id == g.c.agent_id
        )
        return await self._rows(query.order_by(g.c.name))

    async def performance(self) -> Sequence[Row]:
        """Return what each agent has done, per work type, and before that (intent '') of all the work type."""
        p = t.agent_performance.c
        query = select(t.agent_performance, t.agent_registry.c.name).join(t.agent_registry)
        return await self._rows(query.order_by(t.agent_registry.c.name, p.work_type, p.intent))

    async def intents(self) -> Sequence[Row]:
        """Return every offer of every agent: what can be asked for, and what cannot, and why."""
        query = select(t.agent_intents, t.agent_registry.c.name, t.agent_registry.c.status).join(t.agent_registry)
        return await self._rows(query.order_by(t.agent_intents.c.intent, t.agent_registry.c.name))

    async def wishes(self, limit: int = MANY) -> Sequence[Row]:
        """Return what was asked for and no agent can do, most frequent first."""
        return await self._rows(select(t.out_of_scope).order_by(t.out_of_scope.c.times.desc()).limit(limit))

    async def _by_prefix(self, table: Table, column: ColumnElement[Any], given: str) -> list[UUID]:
        digits = given.strip().lower().replace("-", "")
        if not 4 <= len(digits) <= 32 or not all(c in "0123456789abcdef" for c in digits):
            return []
        low, high = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
        query = select(column.label("id")).select_from(table).where(column.between(low, high)).limit(10)
        return [row["id"] for row in await self._rows(query)]

    async def _rows(self, query: Select[Any]) -> Sequence[Row]:
        with translated():
            async with self._engine.connect() as connection:
                rows: Sequence[Any] = (await connection.execute(query)).mappings().all()
                return rows


def _days_ago(days: float) -> ColumnElement[Any]:
    return func.now() - func.make_interval(0, 0, 0, 0, 0, 0, days * 86400)


def _where(table: Table, condition: ColumnElement[bool]) -> Select[Any]:
    return select(table).where(condition)


def _plans(request_id: UUID) -> Select[Any]:
    """Return the plans of a request without what signs them, which is nothing for people."""
    shown = [column for column in t.plans.c if column is not t.plans.c.mac]
    return select(*shown).where(t.plans.c.request_id == request_id)


def _only(given: str, found: Sequence[UUID], what: str) -> UUID:
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(str(i)[:13] for i in found)
        raise UnknownId(f"{given!r} names {len(found)} {what}s: {shown}", hint="Give more of the id.")
    raise UnknownId(f"there is no {what} {given!r}", hint="`chargehand requests` lists them.")
