"""What an operator does to the database itself."""

from __future__ import annotations

from chargehand.app.application import start_private_postgres
from chargehand.private_postgres import PrivatePostgres
from chargehand.settings import Settings
from chargehand.store import migrate


async def upgrade(settings: Settings) -> str:
    """Bring the schema to this version and return its revision. Raises `DatabaseUnreachable` or `SchemaTooNew`."""
    dsn = settings.database_url or start_private_postgres(settings.home)
    await migrate.ensure(dsn, upgrade_old=True)
    return migrate.HEAD


def stop_private(settings: Settings) -> bool:
    """Stop the private PostgreSQL and return whether it was running."""
    server = PrivatePostgres(settings.home)
    running = server.status().running
    server.stop()
    return running
