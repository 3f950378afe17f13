"""The fixtures other tests stand on: a database of one's own, cheaply."""

from __future__ import annotations

import asyncpg


async def _tables(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE mine (id int)")
        return await connection.fetchval("SELECT count(*) FROM pg_tables WHERE tablename = 'mine'")
    finally:
        await connection.close()


async def test_a_test_may_make_any_table(database_url: str) -> None:
    assert await _tables(database_url) == 1


async def test_and_the_next_one_does_not_see_it(database_url: str) -> None:
    assert await _tables(database_url) == 1


def test_a_test_without_a_loop_gets_one_too(database_url: str) -> None:
    assert "/test_" in database_url
