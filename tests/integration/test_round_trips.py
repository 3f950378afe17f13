"""What a plan asks of the database is counted, and stays as little as it is."""

from __future__ import annotations

from pathlib import Path

from bench.path import assembled, plans_on

PLANS = 12  # enough that one more or fewer in a single plan does not decide, few enough for a few seconds
QUIET = {"heartbeat_seconds": 3600.0, "sweep_seconds": 3600.0}  # nothing that comes by the clock is counted
MOST_TRANSACTIONS, MOST_STATEMENTS = 28, 175
"""Per plan of three tasks. Measured 25.5 to 26.2 and 169 to 172: which steps share a transaction is partly chance."""


async def test_a_plan_asks_no_more_of_the_database_than_it_did(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path, [], **QUIET) as rig:
        await plans_on(rig, 1, 2)  # what is read once, such as the catalog, is no part of a plan
        found = await plans_on(rig, 1, PLANS)
    assert 10 < found["transactions"] <= MOST_TRANSACTIONS
    assert 100 < found["statements"] <= MOST_STATEMENTS
