"""Everything that doors look at, as typed values: rows in, values of `snapshot`, `trail` and `fleet` out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from chargehand.app import differences
from chargehand.app.audit import Auditor
from chargehand.app.fleet import LOCAL_AGENT, Agent, CatalogEntry, Concern, Offer, Wish, concerns, local_entries
from chargehand.app.history import HistoryEvent, read_events
from chargehand.app.reports import Appraisal, Replayed, Report, read_replay, read_report
from chargehand.app.snapshot import (
    Attempt,
    Decomposition,
    LlmCall,
    Plan,
    Request,
    Review,
    Routed,
    Snapshot,
    Task,
    asked_back,
    of_plan,
    read,
    read_all,
)
from chargehand.app.trail import Anomaly, DecisionTrail
from chargehand.domain.intents import IntentSpec
from chargehand.domain.states import RequestStatus
from chargehand.routing.report import appraised
from chargehand.settings import Settings
from chargehand.store.queries import MANY, Queries, Rows

AGAIN = 3
"""Times that a trail is read again because its request went on meanwhile."""


class Reads:
    """What can be looked at. Nothing here changes anything."""

    def __init__(self, queries: Queries, settings: Settings, auditor: Auditor | None = None) -> None:
        self.queries = queries
        self.settings = settings
        self.auditor = auditor

    # --- requests -----------------------------------------------------------------------------------------------------

    async def request_id(self, given: str) -> UUID:
        """Return the request that an id, or the beginning of its or its task's id, names. Raises `UnknownId`."""
        return await self.queries.request_id(given)

    async def task_id(self, given: str) -> UUID | None:
        """Return the task that an id, or the beginning of one, names; None where there is not exactly one."""
        return await self.queries.task_id(given)

    async def request(self, request_id: UUID) -> Request:
        """Return one request. Raises `UnknownId`."""
        return read(Request, await self.queries.request(request_id))

    async def requests(self, status: RequestStatus | None = None, limit: int = MANY) -> Sequence[Request]:
        """Return requests, newest first: all, or those in one status."""
        return read_all(Request, await self.queries.requests(status, limit))

    async def open_requests(self) -> Sequence[Request]:
        """Return the requests that have not ended, newest first."""
        return read_all(Request, await self.queries.open_requests())

    async def plan(self, request_id: UUID) -> Plan | None:
        """Return the newest plan of a request."""
        row = await self.queries.plan(request_id)
        return read(Plan, row) if row else None

    async def tasks(self, request_id: UUID) -> Sequence[Task]:
        """Return the tasks of every version of a request's plan, in order."""
        return read_all(Task, await self.queries.tasks(request_id))

    async def snapshot(self, request_id: UUID) -> Snapshot:
        """Return one request with its newest plan and what became of each step. Raises `UnknownId`."""
        request = await self.request(request_id)
        plan, readings = await asyncio.gather(self.plan(request_id), self._decompositions(request_id))
        tasks, attempts = await asyncio.gather(self.tasks(request_id), self._attempts(request_id))
        latest = readings[-1] if readings else None
        decisions = read_all(Routed, await self.queries.decisions(request_id))
        return Snapshot(request, plan, of_plan(tasks, plan), attempts, latest, asked_back(request, latest), decisions)

    async def events(self, request_id: UUID, after: int = 0) -> list[HistoryEvent]:
        """Return a request's history in order, from after that number on."""
        return read_events(await self.queries.events(request_id, after))

    async def trail(self, request_id: UUID) -> DecisionTrail:
        """Return every decision about a request. Raises `UnknownId`.

        Its parts are read one after the other. Where they differ because it went on meanwhile, they are read again.
        """
        trail = await self._trail(request_id)
        for _ in range(AGAIN):
            if not trail.differences or not await self.events(request_id, len(trail.events)):
                break
            trail = await self._trail(request_id)
        return trail

    async def _trail(self, request_id: UUID) -> DecisionTrail:
        rows = self.queries
        approvals = await rows.approvals(request_id)
        trail = DecisionTrail(
            request=await self.request(request_id),
            decompositions=await self._decompositions(request_id),
            llm_calls=await self.llm_calls(request_id),
            plans=read_all(Plan, await rows.plans(request_id)),
            approvals=(),
            tasks=read_all(Task, await rows.tasks(request_id)),
            decisions=read_all(Routed, await rows.decisions(request_id)),
            attempts=await self._attempts(request_id),
            reviews=read_all(Review, await rows.reviews(request_id, open_only=False)),
            anomalies=read_all(Anomaly, await rows.anomalies(request_id)),
            events=tuple(await self.events(request_id)),
            sealed=await self.auditor.look_at(request_id) if self.auditor else None,
        )
        told = differences.approvals_told(trail.events, approvals)
        return replace(trail, approvals=told, differences=tuple(self._differences(trail, approvals)))

    def _differences(self, trail: DecisionTrail, approvals: Rows) -> Iterator[str]:
        auditor, events, request_id = self.auditor, trail.events, trail.request.request_id
        unsigned = [row for row in approvals if auditor and not auditor.is_signed(request_id, row)]
        yield from differences.compared([
            differences.of_events(events),
            differences.of_request(trail.request, events),
            differences.of_decompositions(trail.decompositions, events),
            differences.of_plans(trail.plans, events),
            differences.of_approvals(approvals, events, unsigned),
            differences.of_tasks(trail.tasks, trail.plans, events),
            differences.of_attempts(trail.attempts, events),
            differences.of_reviews(trail.reviews, events),
        ])  # fmt: skip

    async def llm_calls(self, request_id: UUID) -> tuple[LlmCall, ...]:
        """Return each call of each tier for a request."""
        return read_all(LlmCall, await self.queries.llm_calls(request_id))

    async def _decompositions(self, request_id: UUID) -> tuple[Decomposition, ...]:
        return read_all(Decomposition, await self.queries.decompositions(request_id))

    async def _attempts(self, request_id: UUID) -> tuple[Attempt, ...]:
        return read_all(Attempt, await self.queries.attempts(request_id))

    # --- what waits for a person, and who is there --------------------------------------------------------------------

    async def reviews(self, request_id: UUID | None = None) -> Sequence[Review]:
        """Return the open reviews of one request, or all of them, oldest first."""
        return read_all(Review, await self.queries.reviews(request_id))

    async def statuses(self, wanted: Collection[UUID]) -> dict[UUID, RequestStatus]:
        """Return where these requests stand, newest first."""
        rows = await self.queries.requests(limit=10_000) if wanted else ()
        return {row["request_id"]: RequestStatus(row["status"]) for row in rows if row["request_id"] in wanted}

    async def agents(self) -> Sequence[Agent]:
        """Return the agents by name, with what they have done."""
        return read_all(Agent, await self.queries.agents())

    async def catalog(self) -> list[CatalogEntry]:
        """Return what this machine offers as its files are now, and what the other agents have registered."""
        local = await asyncio.to_thread(local_entries, self.settings)
        offers = read_all(Offer, await self.queries.intents())
        return [*local, *(offer.entry for offer in offers if offer.name != LOCAL_AGENT)]

    async def concerns(self) -> list[Concern]:
        """Return what about agents a person should look at: second ones, suspended grants, offers that differ."""
        agents, offers = await asyncio.gather(self.queries.agents(), self.queries.intents())
        return concerns(read_all(Agent, agents), read_all(Offer, offers))

    async def grants(self) -> list[IntentSpec]:
        """Return what agents may run: a person who writes a decomposition chooses from it."""
        offers = read_all(Offer, await self.queries.intents())
        return [offer.spec for offer in offers if offer.granted and not offer.unavailable]

    async def wishes(self) -> Sequence[Wish]:
        """Return what was asked for and no agent can do, most frequent first."""
        return read_all(Wish, await self.queries.wishes())

    # --- looking back -------------------------------------------------------------------------------------------------

    async def routing_report(self, days: float | None, limit: int) -> Appraisal:
        """Return how the newest so many choices of agents turned out, of the last so many days."""
        return appraised(await self.queries.routing(days, limit))

    async def routing_replay(self, policy: str | None, days: float | None, limit: int) -> Replayed:
        """Take stored choices again, each by its own policy or by another. Raises `BadConfiguration`."""
        rows = await self.queries.routing(days, limit)
        return read_replay(rows, policy, self.settings.routing_minimum_runs)

    async def models_report(self, days: float | None, limit: int) -> list[Report]:
        """Return how rightly each tier and model read the newest so many requests, of the last so many days."""
        readings, plans = await self.queries.readings(days, limit)
        return read_report(readings, plans, self.settings)
