"""Alembic's entry: one async connection, one transaction, one lock for processes that start together."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool

from chargehand.store.migrate import MIGRATION_LOCK, engine
from chargehand.store.tables import metadata


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        context.run_migrations()


async def main() -> None:
    database = engine(context.config.attributes["dsn"], poolclass=NullPool)
    async with database.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await database.dispose()


asyncio.run(main())
