"""Gathers all that is stored about a request's decisions, for `why`."""

from __future__ import annotations

from uuid import UUID

from chargehand.cli.show.why import Story, why_lines
from chargehand.cli.terminal.lines import Line
from chargehand.store.queries import Views


async def story(views: Views, request_id: UUID) -> Story:
    """Read everything about one request. Raises `UnknownId`."""
    return Story(
        request=await views.request(request_id),
        decompositions=await views.decompositions(request_id),
        llm_calls=await views.llm_calls(request_id),
        plans=await views.plans(request_id),
        approvals=await views.approvals(request_id),
        tasks=await views.tasks(request_id),
        decisions=await views.decisions(request_id),
        attempts=await views.attempts(request_id),
        reviews=await views.reviews(request_id, open_only=False),
        anomalies=await views.anomalies(request_id),
        events=tuple(await views.events(request_id)),
    )


async def story_lines(views: Views, request_id: UUID, *, only: UUID | None = None, full: bool = False) -> list[Line]:
    """Return the story of one request, or of one of its tasks."""
    return why_lines(await story(views, request_id), only=only, full=full)
