"""Explains a request, or one of its tasks, wherever somebody asks why."""

from __future__ import annotations

from uuid import UUID

from chargehand.app.reads import Reads
from chargehand.cli.show.why import why_lines
from chargehand.cli.terminal.lines import Line


async def story_lines(reads: Reads, request_id: UUID, *, only: UUID | None = None, full: bool = False) -> list[Line]:
    """Return the story of one request, or of one of its tasks."""
    return why_lines(await reads.trail(request_id), only=only, full=full)
