"""The simulation's model of the database, held to what PostgreSQL does.

What simulated schedules asked of the model, statement by statement in the order in which it was answered, is asked of
PostgreSQL again: as many transactions are open at once, each on a connection of its own, `now()` is the simulated time,
and every answer must be the same. A lock that only one of the two takes shows as a wait without end.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from bench.model.database import Database, Transaction, moment
from bench.model.statements_all import MODELLED
from bench.model.world import simulate
from chargehand.store.postgres import speak_json
from chargehand.store.status_moves import SQL
from tests.builders import NOW, make_id, make_spec, make_task

Transcript = list[tuple[Any, ...]]

SIMULATED_TIME = """
CREATE SCHEMA simulated;
CREATE FUNCTION simulated.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT '2026-01-01 00:00+00'::timestamptz + make_interval(secs => current_setting('simulated.seconds')::float8)
$$;
"""
SESSION = "SET search_path = simulated, public, pg_catalog; SET lock_timeout = '3s'"

NOT_SIMULATED = {
    *("agent_by_name", "configure_agent", "drop_all_offers", "next_generation", "remove_agent", "set_drained"),
    *("set_grants", "statuses", "prunable_requests", "lock_ended", "seals_of", "write_pruned", "allow_pruning"),
    *("prune_events", "prune_request", "mark_gone"),
}
"""What only an operator's commands or a screen ask for."""

NOT_COMPARED = {"at", "claim_token", "version", "state"}
"""When an event was written is a column's default; of several claims each may get any number."""


def test_every_statement_of_the_path_has_a_model() -> None:
    assert SQL.keys() - MODELLED.keys() == NOT_SIMULATED, "model it in chargehand/simulation/statements*.py"
    assert MODELLED.keys() <= SQL.keys(), "a model of a statement that is gone"


@pytest.mark.parametrize("seeds", [range(4), range(4, 8), range(8, 12)], ids=str)
async def test_postgresql_answers_what_the_model_answered(replayer: Replayer, seeds: range) -> None:
    for seed in seeds:
        transcript: Transcript = []
        assert not simulate(seed, transcript=transcript).broken
        await replayer.replay(transcript, f"seed {seed}")


async def test_what_schedules_seldom_ask_is_answered_alike(replayer: Replayer) -> None:
    transcript: Transcript = []
    _ask_for_the_rest(transcript)
    await replayer.replay(transcript, "the rest")


def test_the_two_transcripts_cover_the_model() -> None:
    asked: Transcript = []
    for seed in range(12):
        simulate(seed, transcript=asked)
    _ask_for_the_rest(asked)
    assert MODELLED.keys() - {entry[2] for entry in asked if entry[0] == "run"} == set()


@pytest.fixture
async def replayer(database_url: str) -> AsyncIterator[Replayer]:
    made = Replayer(database_url)
    await made.open()
    yield made
    await made.close()


class Replayer:
    """Asks PostgreSQL what was asked of the model."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[asyncpg.Connection[Any]] = []
        self._open: dict[int, tuple[asyncpg.Connection[Any], Any]] = {}

    async def open(self) -> None:
        connection = await asyncpg.connect(self._url)
        await connection.execute(SIMULATED_TIME)
        self._tables = [
            row["tablename"]
            for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            if row["tablename"] != "alembic_version"
        ]
        await connection.close()

    async def close(self) -> None:
        for connection, _ in self._open.values():
            await connection.close()
        for connection in self._idle:
            await connection.close()

    async def replay(self, transcript: Transcript, name: str) -> None:
        """Ask it all of an empty database. Fails at the first answer that differs."""
        await self._empty()
        for place, (what, number, *rest) in enumerate(transcript):
            if what == "begin":
                await self._begin(number, rest[0])
            elif what == "run":
                await self._ask(number, f"{name}, entry {place}: {rest[0]}", *rest)
            else:
                connection, transaction = self._open.pop(number)
                await (transaction.commit() if what == "commit" else transaction.rollback())
                self._idle.append(connection)
        for number in list(self._open):
            connection, transaction = self._open.pop(number)
            await transaction.rollback()
            self._idle.append(connection)

    async def _begin(self, number: int, now: float) -> None:
        connection = self._idle.pop() if self._idle else await self._connect()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"SET LOCAL simulated.seconds = '{now!r}'")
        self._open[number] = (connection, transaction)

    async def _connect(self) -> asyncpg.Connection[Any]:
        connection = await asyncpg.connect(self._url)
        await speak_json(connection)
        await connection.execute(SESSION)
        return connection

    async def _ask(self, number: int, where: str, name: str, args: tuple[Any, ...], expected: Any) -> None:
        try:
            await self._compare(number, where, name, args, expected)
        except asyncpg.PostgresError as error:
            open_ones = {n: transaction for n, (_, transaction) in self._open.items()}
            raise AssertionError(f"{where} {args}, with {sorted(open_ones)} open, by {number}") from error

    async def _compare(self, number: int, where: str, name: str, args: tuple[Any, ...], expected: Any) -> None:
        connection, _ = self._open[number]
        if isinstance(expected, int):
            status = await connection.execute(SQL[name], *args)
            assert int(status.rsplit(" ", 1)[-1]) == expected, where
        else:
            rows = [dict(row) for row in await connection.fetch(SQL[name], *args)]
            assert _comparable(rows) == _comparable(expected), where

    async def _empty(self) -> None:
        connection = await self._connect()
        await connection.execute("SET session_replication_role = replica")  # no trigger that keeps events from us
        await connection.execute(f"TRUNCATE {', '.join(self._tables)} RESTART IDENTITY CASCADE")
        await connection.execute("ALTER SEQUENCE lease_tokens RESTART")
        await connection.close()


def _comparable(rows: Iterable[dict[str, Any]]) -> list[Any]:
    """Return rows in an order of their own; a task's spec is read as text, whose form is PostgreSQL's."""
    plain = []
    for row in rows:
        read = {**row, "spec": json.loads(row["spec"])} if isinstance(row.get("spec"), str) else row
        plain.append([(key, _plain(read[key])) for key in sorted(read) if key not in NOT_COMPARED])
    return sorted(plain, key=repr)


def _plain(value: Any) -> Any:
    """Times to the millisecond; ids of the driver's class as ours; statuses as text."""
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else value
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


class Asking:
    """Asks the model by hand, at times of its own."""

    def __init__(self, transcript: Transcript) -> None:
        self.now = 0.0
        self.database = Database(lambda: self.now, MODELLED)
        self.database.transcript = transcript

    def all(self, *asked: tuple[Any, ...]) -> None:
        """Ask in one transaction; every answer is written down."""
        tx = Transaction(self.database)
        for name, *args in asked:
            tx.statement_begins()
            self.database.tell("run", tx.number, name, tuple(args), MODELLED[name](tx, *args))
        tx.commit()


LATER = ("high", 60.0, moment(0.5), ["wait"])
"""A priority, its head start, the earliest time, and what may be done otherwise."""


def _ask_for_the_rest(transcript: Transcript) -> None:
    asking = Asking(transcript)
    agent, other, request, task = (make_id(name) for name in ("agent", "other", "request", "task"))
    spec = make_spec().model_dump(mode="json")
    value = {"cpu_cores": 2, "n": 1.5, "words": ["a", None], "deep": {"b": True}}
    asking.all(
        ("enrol_agent", agent, "infra-1", "infra", "pool", "policy", ["databases"]),
        ("enrol_agent", agent, "infra-1", "infra", "pool", None, None),
        ("enrol_agent", other, "infra-2", "infra", "pool", None, None),
        ("speak_generation", agent, 2),
        ("speak_generation", agent, 1),
        ("known_agents", [agent, other]),
        ("register_agent", agent, ["deploy"], ["own words"], "journal.1", 3, value, "1", False, "journal"),
        ("register_agent", agent, ["deploy"], [], "other.1", 3, value, "1", False, "other"),
        ("refuse_rivals", [agent, other], ["other.1", "third.1"]),
        ("refuse_rivals", [agent, other], ["other.1", "fourth.1"]),
        ("register_agent", agent, ["deploy"], [], "journal.2", 3, value, "1", False, "journal"),
        ("put_offers", agent, ["one", "two"], [spec, spec], ["h1", "h2"], [None, "no program"], False, None),
        ("put_offers", agent, ["one"], [spec], ["h3"], [None], True, "policy"),
        ("put_offers", agent, ["one"], [spec], ["h4"], [None], False, None),
        ("put_offers", agent, ["one"], [{**spec, "risk": "read"}], ["h4"], [None], False, None),
        ("catalog",),
        ("put_offers", agent, ["one"], [{**spec, "source": "elsewhere"}], ["h5"], [None], False, None),
        ("catalog",),
        ("forget_offers", agent, ["two"], False),
        ("miss_offers", agent, ["two"]),
        ("pool", ["one", "two"], ["deploy", "deploy"]),
        ("put_offers", agent, ["one"], [spec], ["h5"], [None], False, None),
        ("forget_offers", agent, ["one"], False),
        ("miss_offers", agent, ["one"]),
        ("catalog",),
        ("catalog_state",),
        ("pool", ["one", "two"], ["deploy", "deploy"]),
        ("count_agents",),
        ("mark_offline", 10.0),
    )
    asking.all(
        ("accept_request", request, "key", "d" * 64, "words", "ann", "parallel", False, make_id("trace"), *LATER),
        (
            "accept_request",
            make_id("second"),
            "key",
            "d" * 64,
            "words",
            "ann",
            "parallel",
            False,
            make_id("trace"),
            *LATER,
        ),
        ("request_by_key", "key"),
        ("claim_requests", 10, 5.0, make_id("nobody")),
        ("claim_requests", 10, 5.0, None),
        ("move_requests", [request], ["accepted"], ["decomposing"], ["read"], [False]),
        ("count_request_failure", request),
        ("reword_request", request, "other words"),
        ("add_asker", request, "eve"),
        ("add_asker", request, "eve"),
        ("set_readers", [request], ["local"], ["model"]),
        ("count_wish", "a pony", request),
        ("count_wish", "a pony", request),
        ("insert_decompositions", [request], ["words"], ["local"], ["model"], [value], {"flag": 0.6}),
        ("insert_decompositions", [request], ["words"], ["local"], ["model"], [{"newest": True}], {"flag": 0.6}),
        ("latest_decomposition", request),
        ("lock_requests", [request]),
        ("write_events", [request], [1], ["request.read"], [None], [None], [value], "dispatch"),
        ("events_of", request),
    )
    asking.now = 1.0
    asking.all(("claim_requests", 10, 5.0, None), ("end_claims",), ("end_claims",), ("claim_requests", 10, 5.0, None))
    _ask_about_work(asking, agent, request, task, make_task(task_id=task).model_dump(mode="json"))


RESULT = {"ok": True, "message_id": "m"}


def _ask_about_work(asking: Asking, agent: UUID, request: UUID, task: UUID, spec: Any) -> None:
    plan, attempt, body = make_id("plan"), make_id("attempt"), b"\x00bytes"
    asking.all(
        ("insert_plans", [plan], [request], [1], ["e" * 64], [{"tasks": []}], [{"action": "ask"}], ["a" * 64], 0.5),
        ("insert_approval", plan, "e" * 64, "ann", "approved", "", "1" * 64),
        ("insert_approval", plan, "e" * 64, "ann", "approved", "again", "2" * 64),
        ("insert_approval", plan, "f" * 64, "bob", "approved", "", "3" * 64),
        ("latest_plans", [request, agent]),
        ("insert_tasks", [task], [request], [plan], [1], ["one"], ["deploy"], ["infra"], [spec]),
        ("move_requests", [request], ["decomposing"], ["running"], ["go"], [False]),
        ("move_tasks", [task] * 2, ["pending", "ready"], ["ready", "failed"], [""] * 2, [0.0] * 2, [False] * 2, [None] * 2),  # noqa: E501
        ("insert_review", request, task, "no_plan", "why", {"a": 1}),
        ("unread_requests", 5),
        ("resolve_reviews", request, "done", "ann"),
        ("resolve_reviews", request, "done", "ann"),
        ("idle_requests", 5),
    )  # fmt: skip
    asking.now = 2.0
    asking.all(
        ("expired_plans", 5),
        ("plans_by_id", [plan]),
        ("claim_ready", 5, make_id("nobody")),
        ("claim_ready", 5, task),
        ("postpone_tasks", [task], [30.0], ["no agent"], [None]),
        ("claim_ready", 5, None),
        ("hasten_tasks", 4, [agent]),
        ("postpone_tasks", [task], [30.0], ["waits for infra-1"], [agent]),
        ("pool", ["two"], ["deploy"]),
        ("hasten_tasks", 4, [make_id("other")]),
        ("hasten_tasks", 4, [agent]),
        ("pool", ["two"], ["deploy"]),
        ("claim_ready", 5, task),
        ("count_task_failure", task),
        ("count_task_failure", task),
        ("tasks_of", [request]),
        ("standings", [request, make_id("nobody")]),
        ("task_specs", [task, make_id("nobody")]),
        ("reset_tasks", [task]),
        ("take_slots", [agent], [4]),
        ("take_slots", [agent], [2]),
        ("insert_attempts", [attempt], [task], [request], [agent], [1], [77], [10.0], [3.0], [60.0]),
        ("take_keys", ["host:a", "host:b"], [attempt] * 2, [request] * 2),
        ("take_keys", ["host:b", "host:c"], [attempt] * 2, [request] * 2),
        ("held_keys", ["host:a", "host:z"]),
        ("undelivered_attempts", agent),
        ("promised", None),
        ("promised", [make_id("other")]),
        ("tasks_by_id", [task, make_id("nobody")]),
        ("plan_versions", [plan]),
        ("put_outbox", ["queue", "queue"], [body, b""], [attempt, None]),
        ("take_outbox", 5),
        ("postpone_outbox", [1, 2, 99]),
        ("take_outbox", 5),
    )
    asking.now = 6.0
    asking.all(
        ("take_outbox", 5),
        ("staff",),
        ("lapsed_attempts", 5, 1.0),
        ("renew_leases", [attempt, attempt], [agent, make_id("other")]),
        ("move_attempts", [attempt], ["leased"], ["accepted"], [False], ["journal.1"], [None], [None]),
        ("move_attempts", [attempt], ["leased"], ["lost"], [True], [None], [None], [None]),
        ("open_attempts_of", request),
        ("mark_cancel_sent", [attempt]),
        ("mark_begun", [attempt]),
        ("mark_begun", [attempt]),
        ("attempts_by_id", [attempt]),
        ("unsettled_cancels", 5),
        ("move_attempts", [attempt], ["accepted"], ["succeeded"], [True], [None], [RESULT], [12]),
        ("compare_results", [attempt], ["m"], [{"ok": True}]),
        ("compare_results", [attempt], ["n"], [{"ok": False}]),
        ("able_elsewhere", [attempt]),
        ("attempts_by_id", [attempt, make_id("nobody")]),
        ("performance", [agent, make_id("nobody")], ["deploy", "deploy"], ["", ""]),
        ("learn", [agent], ["deploy"], [""], [2], [1], [30], [500.0], [9.5], [20.0], [1.9], [2.8], [{"memory_mb": 1.5}], ["tricky"], [8.5], [0.5]),  # noqa: E501
        ("learn", [agent], ["deploy"], ["one"], [2], [0], [30], [500.0], [9.5], [20.0], [1.9], [2.8], [{"cpu_cores": 1.5}], ["tricky"], [8.5], [0.5]),  # noqa: E501
        ("pool", ["one", "two"], ["deploy", "deploy"]),
        ("learn", [agent], ["deploy"], [""], [3], [1], [40], [600.0], [9.5], [20.0], [2.8], [3.7], [{}], [None], [None], [None]),  # noqa: E501
        ("learn_overall", [agent], [2.5], [3.5]),
        ("performance", [agent, agent], ["deploy", "deploy"], ["", "one"]),
        ("resources_of", [agent]),
        ("count_infrastructure", [agent], [True], 1, 30.0),
        ("pool", ["one"], ["deploy"]),
        ("drop_unsent", [attempt]),
        ("drop_outbox", [2, 3]),
        ("drop_keys", [attempt]),
        ("free_slots", [agent], [5]),
        ("lease_tokens", 3),
        (
            "insert_llm_calls", [request, request], ["skeleton", "parameters"], ["local"] * 2, ["m"] * 2,
            ["v1"] * 2, [0.5] * 2,
            [1, 0], [2, 0], [1, 0], [0.1, 0], [None, "TimedOut"], [None, "late"], ["why"] * 2, ["used", "leave"],
            ["{}", None], [NOW] * 2,
        ),
        ("insert_anomalies", ["odd"], ["x"], [attempt], [None], [{"a": 1}]),
        ("idle_requests", 5),
    )  # fmt: skip
