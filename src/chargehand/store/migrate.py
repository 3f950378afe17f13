"""Bring a database to the schema of this version, or refuse one that is newer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chargehand.domain.errors import BadConfiguration, SchemaTooNew
from chargehand.store import address
from chargehand.store.failures import translated

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

FOLDER = Path(__file__).parent / "migrations"
HEAD = "0008"
"""The newest revision in the folder; a test compares. Known without importing Alembic, which start-up must not."""

MIGRATION_LOCK = 0x63686D67  # processes that start together upgrade one after the other


async def current(dsn: str) -> str | None:
    """Return the database's revision; None for an empty one. Raises `DatabaseUnreachable`."""
    with translated():
        connection = await address.connect(dsn)
        try:
            if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
                return None
            revision = await connection.fetchval("SELECT version_num FROM alembic_version")
            return None if revision is None else str(revision)
        finally:
            await connection.close()


async def ensure(dsn: str, *, upgrade_old: bool) -> None:
    """Make sure that the schema is this version's.

    An empty database is always filled. An older one is upgraded only when `upgrade_old`; else `BadConfiguration` says
    how. Raises `SchemaTooNew` for one written by a newer Chargehand.
    """
    revision = await current(dsn)
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        raise SchemaTooNew(
            f"the database has schema {revision}, this Chargehand knows {HEAD}",
            hint="Run a Chargehand at least as new as the one that wrote it, or restore a backup.",
        )
    if revision is not None and not upgrade_old:
        raise BadConfiguration(
            f"the database has schema {revision}, this Chargehand needs {HEAD}",
            hint="Make a backup, then run `chargehand db upgrade`.",
        )
    with translated():
        await asyncio.to_thread(upgrade, dsn)


def upgrade(dsn: str) -> None:
    """Upgrade to the newest schema. Safe to call from several processes at once. Not from a running event loop."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["dsn"] = dsn
    command.upgrade(config, "head")


def engine(dsn: str, **options: Any) -> AsyncEngine:
    """Return SQLAlchemy's engine over connections that asyncpg makes of the same URL as everywhere else.

    SQLAlchemy would read the URL in its own way, and hand asyncpg what it does not know: `sslmode`, several hosts.
    """
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine("postgresql+asyncpg://", async_creator=lambda: address.connect(dsn), **options)
