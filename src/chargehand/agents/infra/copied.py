"""The copy that one attempt runs in, for as long as it runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chargehand.agent import Work
from chargehand.agents.infra.snapshots import Copy, Snapshots, Subject


@asynccontextmanager
async def copied(work: Work, subject: Subject, snapshots: Snapshots) -> AsyncIterator[Copy]:
    """Copy what was approved into the attempt's directory, and remove it afterwards: it may be large.

    Raises `ContentChanged` naming the file, `UnfitContent`, `DiskFull`.
    """
    folder = work.workdir / "snapshot"
    try:
        yield await asyncio.to_thread(snapshots.copy, subject, work.order.content_hash, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
