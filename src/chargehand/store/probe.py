"""A write that is taken back: whether the database lets the product do what it does all the time."""

from __future__ import annotations

from chargehand.store import address
from chargehand.store.failures import translated

WRITE = "INSERT INTO anomalies (kind, detail) VALUES ('probe', '{}')"
LISTEN = "LISTEN chargehand_probe"


async def try_write(dsn: str) -> None:
    """Connect as the product does, listen, write a row, and take both back.

    Raises `DatabaseUnreachable`, `DatabaseBusy`, `DatabaseRefuses` or `DiskFull` with what to do.
    """
    with translated():
        connection = await address.connect(dsn)
        try:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(LISTEN)
                await connection.execute(WRITE)
            finally:
                await transaction.rollback()
        finally:
            await connection.close()
