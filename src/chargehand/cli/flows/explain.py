"""Gathers all that is stored about a request's decisions, for `why`."""

from __future__ import annotations

from uuid import UUID

from chargehand.cli.show.why import Story, why_lines
from chargehand.cli.terminal.lines import Line
from chargehand.store.queries import Queries


async def story(queries: Queries, request_id: UUID) -> Story:
    """Read everything about one request. Raises `UnknownId`."""
    return Story(
        request=await queries.request(request_id),
        decompositions=await queries.decompositions(request_id),
        llm_calls=await queries.llm_calls(request_id),
        plans=await queries.plans(request_id),
        approvals=await queries.approvals(request_id),
        tasks=await queries.tasks(request_id),
        decisions=await queries.decisions(request_id),
        attempts=await queries.attempts(request_id),
        reviews=await queries.reviews(request_id, open_only=False),
        anomalies=await queries.anomalies(request_id),
        events=tuple(await queries.events(request_id)),
    )


async def story_lines(
    queries: Queries, request_id: UUID, *, only: UUID | None = None, full: bool = False
) -> list[Line]:
    """Return the story of one request, or of one of its tasks."""
    return why_lines(await story(queries, request_id), only=only, full=full)
