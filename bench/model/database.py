"""A model of the database: rows, row locks, transactions at READ COMMITTED. The named statements stand beside it.

A statement takes effect whole, on what is committed when it runs and what its own transaction has written. One that
needs a row that another transaction holds waits for that one's end and is then run again from the start, as PostgreSQL
looks again at a row it had to wait for. `now` is the time at which a transaction began.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from bench.model.loop import Process
from chargehand.catalog.catalog import Catalog
from chargehand.domain.errors import DatabaseUnreachable
from chargehand.store.status_moves import SQL
from chargehand.store.transaction import Transaction as StoreTransaction

Key = Any
Row = dict[str, Any]
Statement = Callable[..., "list[Row] | int"]

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NOTIFY = "SELECT pg_notify('chargehand', $1)"
TABLES = (
    *("requests", "decompositions", "plans", "approvals", "tasks", "attempts", "agent_registry", "agent_intents"),
    *("agent_performance", "routing_decisions", "exclusive_keys", "outbox", "reviews", "out_of_scope", "events"),
    *("seals", "anomalies", "llm_calls"),
)


def moment(seconds: float) -> datetime:
    """Return a simulated time as the database shows it."""
    return EPOCH + timedelta(seconds=seconds)


class Blocked(Exception):
    """The statement needs a row that another transaction holds."""

    def __init__(self, holder: Transaction) -> None:
        super().__init__("a row is held")
        self.holder = holder


class Deadlock(Exception):
    """Two transactions wait for each other."""


class Record(dict[str, Any]):
    """A row as the driver gives it: by name, and in the order of its columns."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


class Database:
    """What is committed, who holds what, and who listens."""

    def __init__(self, clock: Callable[[], float], statements: Mapping[str, Statement]) -> None:
        self.clock = clock
        self.tables: dict[str, dict[Key, Row]] = {name: {} for name in TABLES}
        self.numbers = dict.fromkeys((*TABLES, "lease_tokens"), 0)
        self.locks: dict[tuple[str, Key], Transaction] = {}
        self.on_commit: Callable[[Transaction], None] = lambda _: None
        self.notify: Callable[[str], None] = lambda _: None
        self.transcript: list[tuple[Any, ...]] | None = None
        self.began = 0
        self._statements = {SQL[name]: (name, statement) for name, statement in statements.items()}

    def next_number(self, name: str) -> int:
        """Return the next value of a sequence; like a real one it has gaps where transactions were undone."""
        self.numbers[name] += 1
        return self.numbers[name]

    def named(self, sql: str) -> tuple[str, Statement]:
        """Return a statement's name and its model."""
        return self._statements[sql]

    def tell(self, *what: object) -> None:
        """Keep what was done, for a comparison with PostgreSQL."""
        if self.transcript is not None:
            self.transcript.append(what)


class Transaction:
    """One transaction: what it has changed and holds."""

    def __init__(self, database: Database) -> None:
        self.database, self.now = database, database.clock()
        database.began += 1
        self.number = database.began
        self.changed: dict[str, dict[Key, Row | None]] = {}
        self.notices: list[str] = []
        self.asked: list[str] = []  # the names of its statements
        self.open = True
        self._held: list[tuple[str, Key]] = []
        self.waits_for: Transaction | None = None
        self._at_first: dict[str, Any] = {}
        self._waiters: list[asyncio.Future[None]] = []
        database.tell("begin", self.number, self.now)

    # --- what statements use -----------------------------------------------------------------------------------------

    def rows(self, table: str) -> Iterable[Row]:
        """Return the rows this transaction sees."""
        committed = self.database.tables[table]
        own = self.changed.get(table)
        if not own:
            return committed.values()
        merged: dict[Key, Row | None] = {**committed, **own}
        return [row for row in merged.values() if row is not None]

    def get(self, table: str, key: Key) -> Row | None:
        """Return one row, or None."""
        own = self.changed.get(table)
        return own[key] if own is not None and key in own else self.database.tables[table].get(key)

    def hold(self, table: str, keys: Iterable[Key]) -> None:
        """Lock rows in this order. Raises `Blocked` at the first that somebody else holds."""
        for key in keys:
            place = (table, key)
            holder = self.database.locks.get(place)
            if holder is self:
                continue
            if holder is not None:
                raise Blocked(holder)
            self.database.locks[place] = self
            self._held.append(place)

    def wait_for_writers(self, table: str, keys: Iterable[Key]) -> None:
        """Wait, as ON CONFLICT does, for whoever has written a row and not committed. Nothing is locked for it."""
        for key in keys:
            holder = self.database.locks.get((table, key))
            if holder is not None and holder is not self and key in holder.changed.get(table, {}):
                raise Blocked(holder)

    def is_free(self, table: str, key: Key) -> bool:
        """Whether SKIP LOCKED would take the row."""
        return self.database.locks.get((table, key), self) is self

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return what was computed when the statement began: PostgreSQL does not look again at other tables."""
        if name not in self._at_first:
            self._at_first[name] = compute()
        return self._at_first[name]

    def statement_begins(self) -> None:
        """Forget what the statement before has seen."""
        self._at_first.clear()

    def put(self, table: str, key: Key, row: Row) -> None:
        """Insert a row or a new version of it."""
        self.changed.setdefault(table, {})[key] = row

    def update(self, table: str, key: Key, **values: Any) -> None:
        """Change columns of a row this transaction holds."""
        row = self.get(table, key)
        assert row is not None
        self.put(table, key, {**row, **values})

    def delete(self, table: str, key: Key) -> None:
        """Delete a row this transaction holds."""
        self.changed.setdefault(table, {})[key] = None

    # --- its end -----------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Let everything be seen, and wake who waits or listens."""
        database = self.database
        database.on_commit(self)
        for table, rows in self.changed.items():
            kept = database.tables[table]
            for key, row in rows.items():
                if row is None:
                    kept.pop(key, None)
                else:
                    kept[key] = row
        database.tell("commit", self.number)
        self._release()
        for notice in self.notices:
            database.notify(notice)

    def rollback(self) -> None:
        """Undo everything. Undoing it twice does nothing."""
        if self.open:
            self.database.tell("rollback", self.number)
            self._release()

    async def until_over(self) -> None:
        """Wait for this transaction's end."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _release(self) -> None:
        self.open = False
        for place in self._held:
            del self.database.locks[place]
        self._held.clear()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class Connection:
    """What a transaction talks to: the driver's `fetch` and `execute` for the statements that have a model."""

    def __init__(self, transaction: Transaction, session: Session) -> None:
        self._transaction, self._session = transaction, session

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        """Run a statement and return its rows."""
        result = await self._run(sql, args)
        assert isinstance(result, list)
        return [Record(row) for row in result]

    async def execute(self, sql: str, *args: object) -> str:
        """Run a statement and return the driver's status line."""
        if sql == NOTIFY:
            self._transaction.notices.append(str(args[0]))
            return "SELECT 1"
        result = await self._run(sql, args)
        return f"OK {result if isinstance(result, int) else len(result)}"

    async def _run(self, sql: str, args: tuple[object, ...]) -> list[Row] | int:
        transaction = self._transaction
        name, statement = transaction.database.named(sql)
        await self._session.reach(f"statement {name}")
        transaction.statement_begins()
        transaction.asked.append(name)
        while True:
            if not transaction.open:
                raise DatabaseUnreachable("the connection to the database is gone")
            try:
                result = statement(transaction, *args)
            except Blocked as blocked:
                await self._wait(blocked.holder)
                continue
            transaction.database.tell("run", transaction.number, name, args, result)
            return result

    async def _wait(self, holder: Transaction) -> None:
        transaction, other = self._transaction, holder
        while other.waits_for is not None:
            other = other.waits_for
            if other is transaction:
                raise Deadlock(
                    f"two transactions wait for each other: {transaction.asked[-6:]} and {holder.asked[-6:]}"
                )
        transaction.waits_for = holder
        try:
            await holder.until_over()
        finally:
            transaction.waits_for = None


class Session:
    """One process's way to the database. `reach` is called at every point where that process may die or be cut off."""

    def __init__(self, database: Database, process: Process, seal_key: bytes, reach: Callable[[str], Any]) -> None:
        self.database, self.process = database, process
        self._seal_key, self._reach = seal_key, reach
        self._open: dict[Transaction, None] = {}
        self._catalogs: dict[str, Catalog] = {}
        self.away = False  # the database cannot be reached from here

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        """One transaction: `transactions.Store`."""
        await self.reach("begin")
        transaction = Transaction(self.database)
        self._open[transaction] = None
        try:
            connection = Connection(transaction, self)
            tx = StoreTransaction(connection, self._seal_key, self._catalogs)  # type: ignore[arg-type]  # all it needs of one
            yield tx
            await tx.finish()
            await self.reach("before the commit")
            if not transaction.open:
                raise DatabaseUnreachable("the connection to the database is gone")
            transaction.commit()
        finally:
            transaction.rollback() if transaction.open else None
            self._open.pop(transaction, None)
        await self.reach("after the commit")

    async def reach(self, point: str) -> None:
        """Take as long as a round trip does. Raises `DatabaseUnreachable` when it is cut off."""
        await self._reach(point)
        if self.away:
            raise DatabaseUnreachable("the database does not answer")

    def hang_up(self) -> None:
        """Undo what is open: the process has died, or its connections have."""
        for transaction in list(self._open):
            transaction.rollback()
        self._open.clear()


UNIQUE = asyncpg.UniqueViolationError
