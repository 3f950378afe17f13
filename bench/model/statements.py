"""The named statements of `store/sql/hot.sql`, modelled: requests, plans, tasks and events.

`tests/contract/test_store.py` holds the models to what PostgreSQL does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from bench.model.database import EPOCH, Row, Statement, Transaction, moment

OPEN = ("leased", "accepted", "started")
MODELLED: dict[str, Statement] = {}


def statement(function: Statement) -> Statement:
    """Register a model under its function's name."""
    MODELLED[function.__name__] = function
    return function


def seconds_of(when: datetime | None) -> float:
    """Return a stored time as simulated seconds; long ago when there is none, as GREATEST leaves NULL out."""
    return float("-inf") if when is None else (when - EPOCH).total_seconds()


def microseconds(seconds: float) -> int:
    """Return a simulated time as the database's microseconds since 1970."""
    return round(moment(seconds).timestamp() * 1_000_000)


def columns(*names: str) -> Callable[[Row], Row]:
    """Return what picks these columns."""
    return lambda row: {name: row[name] for name in names}


_claimed = columns(
    *("request_id", "wording", "requester", "mode", "dry_run", "status", "trace_id", "claim_token", "failures"),
    *("priority", "not_before", "otherwise", "reworded_by"),
)


@statement
def accept_request(
    tx: Transaction, request_id: UUID, key: str | None, digest: str, text: str, requester: str, mode: str,
    dry_run: bool, trace_id: UUID, priority: str, head_start: float, not_before: datetime | None,
    otherwise: Sequence[str],
) -> list[Row]:  # fmt: skip
    if key is not None:
        tx.hold("requests.idempotency_key", [key])
        taken = [row["request_id"] for row in tx.rows("requests") if row["idempotency_key"] == key]
        if taken:
            tx.wait_for_writers("requests", taken)
            return []
    tx.hold("requests", [request_id])
    row = {
        "request_id": request_id, "idempotency_key": key, "body_digest": digest, "text": text, "wording": text,
        "requester": requester, "mode": mode, "dry_run": dry_run, "status": "accepted", "status_reason": "",
        "trace_id": trace_id, "claim_token": None, "claim_until": None, "failures": 0, "event_count": 0,
        "read_by_tier": None, "read_by_model": None, "ended_at": None,
        "priority": priority, "head_start": head_start, "not_before": not_before, "otherwise": list(otherwise),
        "reworded_by": [],
        "turn": (tx.now - head_start, tx.database.next_number("requests")),
    }  # fmt: skip
    tx.put("requests", request_id, row)
    put_seal(tx, request_id, 1, "accepted")
    return [{"request_id": request_id}]


@statement
def request_by_key(tx: Transaction, key: str) -> list[Row]:
    return [_request_and_digest(row) for row in tx.rows("requests") if row["idempotency_key"] == key]


_request_and_digest = columns("request_id", "body_digest")


@statement
def claim_requests(tx: Transaction, limit: int, seconds: float, only: UUID | None) -> list[Row]:
    def due(row: Row) -> bool:
        lapsed = row["status"] == "decomposing" and row["claim_until"] is not None and row["claim_until"] < tx.now
        return (row["status"] == "accepted" or lapsed) and only in (None, row["request_id"])

    found = sorted(filter(due, tx.rows("requests")), key=lambda row: row["turn"])
    free = [row["request_id"] for row in found if tx.is_free("requests", row["request_id"])][:limit]
    tx.hold("requests", free)
    for request_id in free:
        token = tx.database.next_number("lease_tokens")
        tx.update("requests", request_id, claim_token=token, claim_until=tx.now + seconds)
    return [_claimed(row_of(tx, "requests", request_id)) for request_id in free]


@statement
def end_claims(tx: Transaction) -> int:
    claimed = [
        row["request_id"]
        for row in tx.rows("requests")
        if row["status"] == "decomposing" and row["claim_until"] is not None and row["claim_until"] > tx.now
    ]
    tx.hold("requests", claimed)
    for request_id in claimed:
        tx.update("requests", request_id, claim_until=tx.now - 1)
    return len(claimed)


@statement
def lock_requests(tx: Transaction, ids: Sequence[UUID]) -> list[Row]:
    there = [key for key in sorted(ids) if tx.get("requests", key)]
    tx.hold("requests", there)
    return [_claimed(row_of(tx, "requests", key)) for key in there]


def _to_move(tx: Transaction, table: str, ids: Sequence[UUID], old: Sequence[str]) -> dict[UUID, Row]:
    """Hold the rows and return those that are where they were: once each, as they are before any is changed."""
    tx.hold(table, [key for key in ids if tx.get(table, key)])
    rows = {key: tx.get(table, key) for key in ids}
    return {key: row for key, before in zip(ids, old, strict=True) if (row := rows[key]) and row["status"] == before}


@statement
def move_requests(
    tx: Transaction, ids: Sequence[UUID], old: Sequence[str], new: Sequence[str], reasons: Sequence[str],
    ended: Sequence[bool],
) -> int:  # fmt: skip
    found = _to_move(tx, "requests", ids, old)
    for key, before, after, reason, over in zip(ids, old, new, reasons, ended, strict=True):
        row = found.get(key)
        if row is None or row["status"] != before:
            continue
        kept = after == "decomposing"
        tx.update(
            "requests", key, status=after, status_reason=reason, ended_at=tx.now if over else None,
            claim_token=row["claim_token"] if kept else None, claim_until=row["claim_until"] if kept else None,
        )  # fmt: skip
    return len(found)


@statement
def move_plans(tx: Transaction, ids: Sequence[UUID], old: Sequence[str], new: Sequence[str]) -> int:
    found = _to_move(tx, "plans", ids, old)
    for key, before, after in zip(ids, old, new, strict=True):
        if key in found and found[key]["status"] == before:
            tx.update("plans", key, status=after, written_by=tx.number)
    return len(found)


@statement
def move_tasks(
    tx: Transaction, ids: Sequence[UUID], old: Sequence[str], new: Sequence[str], reasons: Sequence[str],
    delays: Sequence[float], ended: Sequence[bool], results: Sequence[Any],
) -> int:  # fmt: skip
    found = _to_move(tx, "tasks", ids, old)
    for key, before, after, reason, delay, over, result in zip(
        ids, old, new, reasons, delays, ended, results, strict=True
    ):
        row = found.get(key)  # of tasks
        if row is None or row["status"] != before:
            continue
        ready, request = after == "ready", row_of(tx, "requests", row["request_id"])
        earliest = seconds_of(request["not_before"])
        turn = max(tx.now, earliest) - request["head_start"]
        tx.update(
            "tasks", key, status=after, status_reason=reason,
            ready_since=max(tx.now, earliest) if ready else row["ready_since"],
            due_at=max(tx.now + delay, earliest) if ready else None,
            turn=turn if ready and row["turn"] is None else row["turn"], waits_for=None, chose_until=None,
            ended_at=tx.now if over else None,
            result=row["result"] if result is None else result,
        )  # fmt: skip
    return len(found)


@statement
def move_attempts(
    tx: Transaction, ids: Sequence[UUID], old: Sequence[str], new: Sequence[str], ended: Sequence[bool],
    incarnations: Sequence[str | None], results: Sequence[Any], durations: Sequence[int | None],
) -> int:  # fmt: skip
    found = _to_move(tx, "attempts", ids, old)
    for key, before, after, over, incarnation, result, duration in zip(
        ids, old, new, ended, incarnations, results, durations, strict=True
    ):
        row = found.get(key)  # of attempts
        if row is None or row["status"] != before:
            continue
        tx.update(
            "attempts", key, status=after, ended_at=tx.now if over else None,
            started_at=tx.now if after == "started" else row["started_at"],
            incarnation=row["incarnation"] if incarnation is None else incarnation,
            result=row["result"] if result is None else result,
            duration_ms=row["duration_ms"] if duration is None else duration,
            deadline_at=tx.now + (row["deadline_at"] - row["start_by"]) if after == "started" else row["deadline_at"],
        )  # fmt: skip
    return len(found)


@statement
def write_events(
    tx: Transaction, requests: Sequence[UUID], ordinals: Sequence[int], kinds: Sequence[str],
    tasks: Sequence[UUID | None], attempts: Sequence[UUID | None], data: Sequence[Any], wakes: str,
) -> int:  # fmt: skip
    tx.notices.append(wakes)
    counts = Counter(requests)
    tx.hold("requests", counts)
    base = {}
    for key, n in counts.items():
        base[key] = row_of(tx, "requests", key)["event_count"]
        tx.update("requests", key, event_count=base[key] + n)
    for key, ordinal, kind, task, attempt, said in zip(requests, ordinals, kinds, tasks, attempts, data, strict=True):
        seq = base[key] + ordinal
        row = {"seq": seq, "kind": kind, "task_id": task, "attempt_id": attempt, "data": said, "at": moment(tx.now)}
        tx.put("events", (key, seq), row | {"request_id": key})
    return 1  # the row of the notification


@statement
def events_of(tx: Transaction, request_id: UUID) -> list[Row]:
    found = sorted((row for row in tx.rows("events") if row["request_id"] == request_id), key=lambda row: row["seq"])
    return [_event(row) for row in found]


_event = columns("seq", "kind", "task_id", "attempt_id", "data", "at")


@statement
def events_of_ended(tx: Transaction, requests: Sequence[UUID]) -> list[Row]:
    found = [row for row in tx.rows("events") if row["request_id"] in requests]
    return [{"request_id": row["request_id"], **_event(row)} for row in sorted(found, key=_place)]


def _place(row: Row) -> tuple[UUID, int]:
    return row["request_id"], row["seq"]


def put_seal(tx: Transaction, request_id: UUID, count: int, kind: str, mac: str = "", key_name: str = "") -> None:
    """Write a seal that has no place in the chain yet."""
    number = tx.database.next_number("seals")
    row = {"seal_id": number, "request_id": request_id, "event_count": count, "kind": kind, "mac": mac}
    tx.put("seals", (request_id, kind, count), {**row, "key_name": key_name, "position": None, "link": None})


@statement
def write_seals(
    tx: Transaction, requests: Sequence[UUID], counts: Sequence[int], macs: Sequence[str], key_name: str
) -> int:
    for key, count, mac in zip(requests, counts, macs, strict=True):
        put_seal(tx, key, count, "ended", mac, key_name)
    return len(requests)


@statement
def insert_tasks(
    tx: Transaction, ids: Sequence[UUID], requests: Sequence[UUID], plans: Sequence[UUID], orders: Sequence[int],
    intents: Sequence[str], work_types: Sequence[str], agent_types: Sequence[str], specs: Sequence[Any],
) -> int:  # fmt: skip
    for key, request, plan, order, intent, work_type, spec in zip(
        ids, requests, plans, orders, intents, work_types, specs, strict=True
    ):
        reader = columns("read_by_tier", "read_by_model")(row_of(tx, "requests", request))
        row = reader | {
            "task_id": key, "request_id": request, "plan_id": plan, "task_order": order, "intent": intent,
            "work_type": work_type, "spec": spec, "spec_text": json.dumps(spec),
            "status": "pending", "status_reason": "", "attempts_made": 0,
            "forgiven": 0, "tried": [], "ready_since": None, "turn": None,
            "due_at": None, "wants_capacity": False, "waits_for": None, "chose_until": None, "failures": 0,
            "result": None, "ended_at": None,
        }  # fmt: skip
        tx.hold("tasks", [key])
        tx.put("tasks", key, row)
    return len(ids)


_task = columns(
    *("task_id", "request_id", "plan_id", "task_order", "intent", "work_type", "spec", "status", "status_reason"),
    *("attempts_made", "forgiven", "tried", "failures"),
)


def _waiting(tx: Transaction, row: Row) -> Row:
    since = row["ready_since"]
    return {**_task(row), "spec": row["spec_text"], "waited": 0.0 if since is None else tx.now - since}


@statement
def claim_ready(tx: Transaction, limit: int, only: UUID | None) -> list[Row]:
    def due(row: Row) -> bool:
        request = tx.get("requests", row["request_id"])
        running = request is not None and request["status"] == "running"
        late = row["due_at"] is not None and row["due_at"] <= tx.now
        return running and late and row["status"] == "ready" and only in (None, row["task_id"])

    def longest_waiting(row: Row) -> Any:
        return row["turn"], row["task_order"]

    found = sorted(filter(due, tx.rows("tasks")), key=longest_waiting)[:limit]
    requests = [key for key in sorted({row["request_id"] for row in found}) if tx.is_free("requests", key)]
    tx.hold("requests", requests)
    return [{**_waiting(tx, row), **_choice(tx, row)} for row in found if row["request_id"] in requests]


def _choice(tx: Transaction, row: Row) -> Row:
    """Return for whom it waits, whether it ever chose to, and how long it has been ready but for that."""
    since, until = row["ready_since"], row["chose_until"]
    stranded = 0.0 if since is None else max(0.0, tx.now - max(since, until or since))
    return {"waits_for": row["waits_for"], "chose": until is not None, "stranded": stranded}


@statement
def tasks_of(tx: Transaction, requests: Sequence[UUID]) -> list[Row]:
    return [_waiting(tx, row) for row in _of_newest_plans(tx, requests)]


def _of_newest_plans(tx: Transaction, requests: Sequence[UUID]) -> list[Row]:
    newest: dict[UUID, Row] = {}
    for plan in tx.rows("plans"):
        key = plan["request_id"]
        if key in requests and (key not in newest or newest[key]["version"] < plan["version"]):
            newest[key] = plan
    plans = {plan["plan_id"] for plan in newest.values()}
    found = [row for row in tx.rows("tasks") if row["request_id"] in requests and row["plan_id"] in plans]
    return sorted(found, key=lambda row: (row["request_id"], row["task_order"]))


@statement
def standings(tx: Transaction, requests: Sequence[UUID]) -> list[Row]:
    found: dict[UUID, Row] = {}
    for row in _of_newest_plans(tx, requests):
        request_id = row["request_id"]
        lists = found.setdefault(request_id, {"request_id": request_id, "task_ids": [], "statuses": []})
        lists["task_ids"].append(row["task_id"])
        lists["statuses"].append(row["status"])
    return list(found.values())


@statement
def task_specs(tx: Transaction, ids: Sequence[UUID]) -> list[Row]:
    return [{"task_id": key, "spec": row["spec_text"]} for key in ids if (row := tx.get("tasks", key))]


@statement
def tasks_by_id(tx: Transaction, ids: Sequence[UUID]) -> list[Row]:
    return [_waiting(tx, row) for key in ids if (row := tx.get("tasks", key))]


@statement
def count_attempts(tx: Transaction, tasks: Sequence[UUID], agents: Sequence[UUID]) -> int:
    tx.hold("tasks", tasks)
    for key, agent in zip(tasks, agents, strict=True):
        row = row_of(tx, "tasks", key)
        tx.update("tasks", key, attempts_made=row["attempts_made"] + 1, tried=[*row["tried"], agent])
    return len(tasks)


@statement
def postpone_tasks(
    tx: Transaction, ids: Sequence[UUID], delays: Sequence[float], reasons: Sequence[str], agents: Sequence[UUID | None]
) -> int:
    found = _to_move(tx, "tasks", ids, ["ready"] * len(ids))
    for key, delay, reason, agent in zip(ids, delays, reasons, agents, strict=True):
        if key in found:
            due = tx.now + delay
            until = found[key]["chose_until"] if agent is None else due
            tx.update(
                "tasks", key, due_at=due, status_reason=reason, wants_capacity=True, waits_for=agent, chose_until=until
            )
    return len(found)


@statement
def hasten_tasks(tx: Transaction, limit: int, freed: Sequence[UUID]) -> int:
    def wants(row: Row) -> bool:
        waits = row["status"] == "ready" and row["wants_capacity"] and row["due_at"] > tx.now
        return bool(waits and row["waits_for"] in (None, *freed))

    found = sorted(filter(wants, tx.rows("tasks")), key=lambda row: row["turn"])
    free = [row["task_id"] for row in found if tx.is_free("tasks", row["task_id"])][:limit]
    tx.hold("tasks", free)
    for key in free:
        tx.update("tasks", key, due_at=tx.now, wants_capacity=False)
    return len(free)


def delete(tx: Transaction, table: str, keys: Sequence[Any]) -> int:
    """Delete the rows that are there; return how many."""
    tx.hold(table, keys)
    there = [key for key in keys if tx.get(table, key) is not None]
    for key in there:
        tx.delete(table, key)
    return len(there)


def row_of(tx: Transaction, table: str, key: Any) -> Row:
    """Return a row that must be there."""
    row = tx.get(table, key)
    assert row is not None, f"no row {key} in {table}"
    return row
