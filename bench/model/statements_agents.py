"""The named statements of `store/sql/hot.sql`, modelled: agents, attempts, keys and messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bench.model.database import UNIQUE, Row, Transaction, moment
from bench.model.statements import OPEN, columns, delete, row_of, statement


@statement
def pool(tx: Transaction, intents: Sequence[str], work_types: Sequence[str]) -> list[Row]:
    everybody = sorted(tx.rows("agent_registry"), key=lambda row: row["agent_id"])
    found = []
    for intent, work_type in sorted(zip(intents, work_types, strict=True)):
        agents = [row for row in everybody if _granted(tx, row["agent_id"], intent)] or everybody
        done = [tx.get("agent_performance", (agent["agent_id"], work_type, "")) or {} for agent in agents]
        own = [tx.get("agent_performance", (agent["agent_id"], work_type, intent)) or {} for agent in agents]
        good, runs = (sum(row.get(name, 0) for row in done) for name in ("lately_successes", "lately_runs"))
        usual = (good + 1) / (runs + 2), _judged(own)
        found += [_seen(tx, intent, agent, rows, usual) for agent, *rows in zip(agents, done, own, strict=True)]
    return found


def _granted(tx: Transaction, agent_id: UUID, intent: str) -> Row | None:
    offer = tx.get("agent_intents", (agent_id, intent))
    return offer if offer is not None and offer["granted"] else None


def _is_offered(tx: Transaction, agent_id: UUID, intent: str) -> bool:
    offer = tx.get("agent_intents", (agent_id, intent))
    return offer is not None and offer["absent_since"] is None


def _judged(own: Sequence[Row]) -> tuple[float, int]:
    runs = [row.get("success_count", 0) + row.get("failure_count", 0) for row in own]
    hard = sum((row.get("difficulty") or 0.0) * n for row, n in zip(own, runs, strict=True))
    return (hard / sum(runs) if sum(runs) else 0.0), sum(runs)


def _figures(done: Row) -> Row:
    runs = done.get("success_count", 0) + done.get("failure_count", 0)
    used = done.get("resources_used", {})
    return {
        "own_runs": done.get("success_count", 0), "own_p50_ms": done.get("p50_ms"), "own_p90_ms": done.get("p90_ms"),
        "own_mean_ms": done["total_duration_ms"] / runs if runs else None, "own_deviation_ms": done.get("deviation_ms"),
        "own_memory_mb": used.get("memory_mb"), "own_cpu_cores": used.get("cpu_cores"),
    }  # fmt: skip


def _seen(tx: Transaction, intent: str, agent: Row, rows: Sequence[Row], usual: tuple[float, tuple[float, int]]) -> Row:
    """Return what the router may know, in the order of the columns."""
    (done, own), (usual_rate, (difficulty, judged)) = rows, usual
    free, used = agent["free"], done.get("resources_used", {})
    offer = _granted(tx, agent["agent_id"], intent) or {}
    size = agent["resources"]
    last, beat, circuit = done.get("last_execution_at"), agent["last_heartbeat_at"], agent["circuit_open_until"]
    return {
        "intent": intent, "agent_id": str(agent["agent_id"]),
        **columns("name", "agent_type", "pool_name", "status")(agent), "granted": offer.get("granted", False),
        "content_hash": offer.get("content_hash", "" if _is_offered(tx, agent["agent_id"], intent) else None),
        "unavailable": offer.get("unavailable"),
        **columns("specializations", "slots", "in_flight")(agent),
        **{name: min(size.get(name, 0), 2**31 - 1) for name in ("cpu_cores", "memory_mb", "gpu_vram_mb")},
        "promised_memory_mb": 0, "promised_gpu_vram_mb": 0,
        **{name: done.get(name, 0) for name in ("success_count", "failure_count", "total_duration_ms")},
        **{name: done.get(name, 0.0) for name in ("lately_successes", "lately_runs")},
        **columns("overall_successes", "overall_runs")(agent), "usual_rate": usual_rate,
        "p50_ms": done.get("p50_ms"), "p90_ms": done.get("p90_ms"),
        "recent_context_age": None if last is None else tx.now - last,
        "heartbeat_age": 1e9 if beat is None else tx.now - beat,
        "circuit_open_for": 0.0 if circuit is None else max(circuit - tx.now, 0.0),
        "in_line": sum(
            row["waits_for"] == agent["agent_id"] and row["status"] == "ready" and row["due_at"] > tx.now
            for row in tx.rows("tasks")
        ),
        "recent_request": False, "tried": False, "deviation_ms": done.get("deviation_ms"),
        "used_memory_mb": used.get("memory_mb"), "used_cpu_cores": used.get("cpu_cores"),
        "free_memory_mb": free.get("memory_mb") or None,
        "free_gpu_vram_mb": free.get("gpu_vram_mb", 0) if free.get("memory_mb") else None,
        "unseen_memory_mb": 0, "unseen_gpu_vram_mb": 0, "load": agent["load"],
        "usual_difficulty": difficulty, "judged_runs": judged, **_figures(own),
    }  # fmt: skip


@statement
def staff(tx: Transaction) -> list[Row]:
    able = {row["agent_id"] for row in tx.rows("agent_intents") if row["granted"]}
    found = []
    for agent in sorted(tx.rows("agent_registry"), key=lambda row: row["name"]):
        until = agent["circuit_open_until"]
        resting = 0.0 if until is None else max(until - tx.now, 0.0)
        if agent["agent_id"] in able:
            found.append({**columns("name", "status", "in_flight", "slots")(agent), "circuit_open_for": resting})
    return found


PROMISED = ("memory_mb", "gpu_vram_mb", "unseen_memory_mb", "unseen_gpu_vram_mb")


@statement
def promised(tx: Transaction, agents: Sequence[UUID] | None) -> list[Row]:
    found: dict[UUID, Row] = {}
    for attempt in tx.rows("attempts"):
        key = attempt["agent_id"]
        if attempt["status"] not in OPEN or (agents is not None and key not in agents):
            continue
        spec = row_of(tx, "tasks", attempt["task_id"])["spec"]
        needs = spec.get("measured_need") or spec["resource_requirements"]
        row = found.setdefault(key, {"agent_id": key, **dict.fromkeys(PROMISED, 0)})
        started, beat = attempt["started_at"], row_of(tx, "agent_registry", key)["last_heartbeat_at"]
        unseen = started is None or beat is None or not started < beat
        for name in ("memory_mb", "gpu_vram_mb"):
            row[name] += needs[name]
            row[f"unseen_{name}"] += needs[name] if unseen else 0
    return list(found.values())


@statement
def count_agents(tx: Transaction) -> list[Row]:
    return [{"n": len(list(tx.rows("agent_registry")))}]


@statement
def resources_of(tx: Transaction, agents: Sequence[UUID]) -> list[Row]:
    found = [tx.get("agent_registry", key) for key in agents]
    return [columns("agent_id", "resources", "free")(row) for row in found if row]


@statement
def recent_agents(tx: Transaction, requests: Sequence[UUID]) -> list[Row]:
    pairs = {(row["request_id"], row["agent_id"]): None for row in tx.rows("attempts") if row["request_id"] in requests}
    return [{"request_id": request, "agent_id": agent} for request, agent in pairs]


@statement
def held_keys(tx: Transaction, keys: Sequence[str]) -> list[Row]:
    found = [tx.get("exclusive_keys", key) for key in keys]
    return [{"key": row["key"], "request_id": row["request_id"]} for row in found if row]


@statement
def take_keys(tx: Transaction, keys: Sequence[str], attempts: Sequence[UUID], requests: Sequence[UUID]) -> int:
    tx.hold("exclusive_keys", keys)  # two inserts of one key: the later waits for the end of the earlier
    done = 0
    for key, attempt, request in zip(keys, attempts, requests, strict=True):
        if tx.get("exclusive_keys", key) is None:
            tx.put("exclusive_keys", key, {"key": key, "attempt_id": attempt, "request_id": request})
            done += 1
    return done


@statement
def drop_keys(tx: Transaction, attempts: Sequence[UUID]) -> int:
    return delete(
        tx, "exclusive_keys", [row["key"] for row in tx.rows("exclusive_keys") if row["attempt_id"] in attempts]
    )


@statement
def drop_unsent(tx: Transaction, attempts: Sequence[UUID]) -> int:
    return delete(tx, "outbox", [row["message_id"] for row in tx.rows("outbox") if row["attempt_id"] in attempts])


@statement
def lock_agents(tx: Transaction, agents: Sequence[UUID]) -> list[Row]:
    there = [key for key in sorted(agents) if tx.get("agent_registry", key)]
    tx.hold("agent_registry", there)
    return [{"agent_id": key} for key in there]


@statement
def take_slots(tx: Transaction, agents: Sequence[UUID], counts: Sequence[int]) -> int:
    tx.hold("agent_registry", agents)
    done = 0
    for key, n in zip(agents, counts, strict=True):
        row = row_of(tx, "agent_registry", key)
        if row["in_flight"] + n <= row["slots"]:
            tx.update("agent_registry", key, in_flight=row["in_flight"] + n)
            done += 1
    return done


@statement
def free_slots(tx: Transaction, agents: Sequence[UUID], counts: Sequence[int]) -> int:
    tx.hold("agent_registry", agents)
    for key, n in zip(agents, counts, strict=True):
        tx.update("agent_registry", key, in_flight=max(row_of(tx, "agent_registry", key)["in_flight"] - n, 0))
    return len(agents)


@statement
def lease_tokens(tx: Transaction, n: int) -> list[Row]:
    return [{"token": tx.database.next_number("lease_tokens")} for _ in range(n)]


@statement
def insert_attempts(
    tx: Transaction, ids: Sequence[UUID], tasks: Sequence[UUID], requests: Sequence[UUID], agents: Sequence[UUID],
    numbers: Sequence[int], tokens: Sequence[int], leases: Sequence[float], starts: Sequence[float],
    runs: Sequence[float],
) -> int:  # fmt: skip
    tx.hold("attempts.task_id", tasks)  # the unique index over open attempts
    held = {row["task_id"] for row in tx.rows("attempts") if row["status"] in OPEN}
    if not held.isdisjoint(tasks):
        raise UNIQUE("uq_attempts_one_open")
    for key, task, request, agent, number, token, lease, start, run in zip(
        ids, tasks, requests, agents, numbers, tokens, leases, starts, runs, strict=True
    ):
        row = {
            "attempt_id": key, "task_id": task, "request_id": request, "agent_id": agent, "number": number,
            "lease_token": token, "status": "leased", "incarnation": "", "lease_seconds": lease,
            "lease_until": tx.now + lease, "start_by": tx.now + start, "deadline_at": tx.now + start + run,
            "started_at": None, "begun_at": None, "ended_at": None, "cancel_sent": False, "duration_ms": None,
            "result": None,
        }  # fmt: skip
        tx.hold("attempts", [key])
        tx.put("attempts", key, row)
    return len(ids)


@statement
def insert_decisions(
    tx: Transaction, tasks: Sequence[UUID], work_types: Sequence[str], pools: Sequence[str],
    selected: Sequence[UUID | None], rates: Sequence[int], matches: Sequence[bool], contexts: Sequence[bool],
    retried: Sequence[bool], reasons: Sequence[str], attempts: Sequence[UUID | None], decisions: Sequence[Any],
    chances: Sequence[float | None], times: Sequence[int | None],
) -> int:  # fmt: skip
    for task, agent, reason, attempt, decision in zip(tasks, selected, reasons, attempts, decisions, strict=True):
        number = tx.database.next_number("routing_decisions")
        row = {
            "id": number, "task_id": task, "selected_agent_id": agent, "reason": reason, "attempt_id": attempt,
            "decision": decision, "succeeded": None, "duration_ms": None,
        }  # fmt: skip
        tx.put("routing_decisions", number, row)
    return len(tasks)


@statement
def put_outbox(tx: Transaction, queues: Sequence[str], bodies: Sequence[bytes], attempts: Sequence[UUID | None]) -> int:
    for queue, body, attempt in zip(queues, bodies, attempts, strict=True):
        key = tx.database.next_number("outbox")
        row = {"message_id": key, "queue": queue, "body": body, "attempt_id": attempt, "failures": 0, "due_at": None}
        tx.put("outbox", key, row)
    return len(queues)


@statement
def take_outbox(tx: Transaction, limit: int) -> list[Row]:
    found = sorted(
        (row for row in tx.rows("outbox") if row["due_at"] is None or row["due_at"] <= tx.now),
        key=lambda row: row["message_id"],
    )
    free = [row for row in found if tx.is_free("outbox", row["message_id"])][:limit]
    tx.hold("outbox", [row["message_id"] for row in free])
    return [_message(row) for row in free]


_message = columns("message_id", "queue", "body", "attempt_id")


@statement
def drop_outbox(tx: Transaction, ids: Sequence[int]) -> int:
    return delete(tx, "outbox", [key for key in ids if tx.get("outbox", key) is not None])


@statement
def postpone_outbox(tx: Transaction, ids: Sequence[int]) -> int:
    there = [key for key in ids if tx.get("outbox", key) is not None]
    tx.hold("outbox", there)
    for key in there:
        failures = row_of(tx, "outbox", key)["failures"]
        tx.update("outbox", key, failures=failures + 1, due_at=tx.now + min(2.0**failures, 30.0))
    return len(there)


_attempt = columns(
    *("attempt_id", "task_id", "request_id", "agent_id", "number", "lease_token", "status", "incarnation")
)


def _held_attempt(tx: Transaction, row: Row) -> Row:
    known = {"has_result": row["result"] is not None, "begun": row["begun_at"] is not None}
    return {**_attempt(row), "lease_left": row["lease_until"] - tx.now, **known}


@statement
def attempts_by_id(tx: Transaction, ids: Sequence[UUID]) -> list[Row]:
    found = [tx.get("attempts", key) for key in ids]
    return [_held_attempt(tx, row) for row in found if row]


@statement
def compare_results(
    tx: Transaction, attempts: Sequence[UUID], message_ids: Sequence[str], said: Sequence[Any]
) -> list[Row]:
    return [_compared(tx, *each) for each in zip(attempts, message_ids, said, strict=True)]


def _compared(tx: Transaction, attempt_id: UUID, message_id: str, said: Any) -> Row:
    kept = dict(row_of(tx, "attempts", attempt_id)["result"])
    same_message = kept.pop("message_id", None) == message_id
    return {"attempt_id": attempt_id, "same_message": same_message, "same_result": kept == said}


@statement
def able_elsewhere(tx: Transaction, attempts: Sequence[UUID]) -> list[Row]:
    found = []
    for attempt in attempts:
        task = row_of(tx, "tasks", row_of(tx, "attempts", attempt)["task_id"])
        if any(_could_do(tx, offer, task) for offer in tx.rows("agent_intents")):
            found.append({"attempt_id": attempt})
    return found


def _could_do(tx: Transaction, offer: Row, task: Row) -> bool:
    agent, spec = row_of(tx, "agent_registry", offer["agent_id"]), task["spec"]
    resting = agent["circuit_open_until"] is not None and agent["circuit_open_until"] > tx.now
    return (
        (offer["intent"], offer["content_hash"]) == (task["intent"], spec["content_hash"])
        and offer["granted"]
        and offer["unavailable"] is None
        and agent["status"] in ("online", "busy")
        and not resting
        and offer["agent_id"] not in task["tried"]
        and spec.get("pinned_agent") in (None, str(offer["agent_id"]), agent["name"])
        and (not spec.get("agents") or agent["name"] in spec["agents"])
    )


@statement
def open_attempts_of(tx: Transaction, request_id: UUID) -> list[Row]:
    rows = [row for row in tx.rows("attempts") if row["request_id"] == request_id and row["status"] in OPEN]
    return [_held_attempt(tx, row) for row in rows]


@statement
def undelivered_attempts(tx: Transaction, agent_id: UUID) -> list[Row]:
    rows = [row for row in tx.rows("attempts") if row["agent_id"] == agent_id and row["status"] == "leased"]
    found = []
    for row in sorted(rows, key=lambda row: row["lease_token"]):
        request, task = row_of(tx, "requests", row["request_id"]), row_of(tx, "tasks", row["task_id"])
        told = columns("attempt_id", "lease_token", "number")(row) | {
            "run_seconds": row["deadline_at"] - row["start_by"]
        }
        found.append({**told, "spec": task["spec"], **columns("trace_id", "request_id", "dry_run")(request)})
    return found


@statement
def renew_leases(tx: Transaction, attempts: Sequence[UUID], agents: Sequence[UUID]) -> int:
    renewed: dict[UUID, None] = {}
    for key, agent in zip(attempts, agents, strict=True):
        row = tx.get("attempts", key)
        if row and row["agent_id"] == agent and row["status"] in OPEN and tx.is_free("attempts", key):
            renewed[key] = None
    tx.hold("attempts", renewed)
    for key in renewed:
        tx.update("attempts", key, lease_until=tx.now + row_of(tx, "attempts", key)["lease_seconds"])
    return len(renewed)


@statement
def lapsed_attempts(tx: Transaction, limit: int, grace: float) -> list[Row]:
    found = []
    for row in sorted(tx.rows("attempts"), key=lambda row: row["lease_until"]):
        silent = row["lease_until"] + grace < tx.now
        unstarted = row["status"] != "started" and row["start_by"] < tx.now
        if row["status"] in OPEN and (silent or unstarted or row["deadline_at"] + grace < tx.now):
            why = "silent" if silent else "not started" if unstarted else "too long"
            found.append({"attempt_id": row["attempt_id"], "request_id": row["request_id"], "why": why})
    return found[:limit]


@statement
def mark_begun(tx: Transaction, ids: Sequence[UUID]) -> int:
    tx.hold("attempts", ids)
    for key in ids:
        tx.update("attempts", key, begun_at=row_of(tx, "attempts", key)["begun_at"] or moment(tx.now))
    return len(ids)


@statement
def mark_cancel_sent(tx: Transaction, ids: Sequence[UUID]) -> int:
    tx.hold("attempts", ids)
    for key in ids:
        tx.update("attempts", key, cancel_sent=True)
    return len(ids)


@statement
def judge_decisions(tx: Transaction, attempts: Sequence[UUID], oks: Sequence[bool], durations: Sequence[int]) -> int:
    done = 0
    outcomes = {key: (ok, duration) for key, ok, duration in zip(attempts, oks, durations, strict=True)}
    for row in list(tx.rows("routing_decisions")):
        if row["attempt_id"] in outcomes:
            ok, duration = outcomes[row["attempt_id"]]
            tx.hold("routing_decisions", [row["id"]])
            tx.update("routing_decisions", row["id"], succeeded=ok, duration_ms=duration)
            done += 1
    return done


@statement
def count_infrastructure(
    tx: Transaction, agents: Sequence[UUID], bad: Sequence[bool], limit: int, seconds: float
) -> int:
    tx.hold("agent_registry", agents)
    for key, broke in zip(agents, bad, strict=True):
        row = row_of(tx, "agent_registry", key)
        failures = row["infrastructure_failures"] + 1 if broke else 0
        until = tx.now + seconds if broke and failures >= limit else row["circuit_open_until"]
        tx.update("agent_registry", key, infrastructure_failures=failures, circuit_open_until=until)
    return len(agents)


@statement
def heartbeats(
    tx: Transaction, agents: Sequence[UUID], incarnations: Sequence[str], free: Sequence[Any], loads: Sequence[float],
    draining: Sequence[bool],
) -> int:  # fmt: skip
    tx.hold("agent_registry", [key for key in agents if tx.get("agent_registry", key)])
    done = 0
    for key, incarnation, left, load, leaves in zip(agents, incarnations, free, loads, draining, strict=True):
        row = tx.get("agent_registry", key)
        if row is None or row["incarnation"] != incarnation:
            continue
        full = "busy" if row["in_flight"] >= row["slots"] else "online"
        status = "draining" if leaves or row["drained"] else full
        tx.update("agent_registry", key, last_heartbeat_at=tx.now, free=left, load=load, status=status)
        done += 1
    return done


@statement
def mark_offline(tx: Transaction, after: float) -> list[Row]:
    def silent(row: Row) -> bool:
        beat = row["last_heartbeat_at"]
        return row["status"] != "offline" and beat is not None and beat < tx.now - after

    found = [row for row in tx.rows("agent_registry") if silent(row)]
    tx.hold("agent_registry", [row["agent_id"] for row in found])
    for row in found:
        tx.update("agent_registry", row["agent_id"], status="offline")
    return [{"agent_id": row["agent_id"], "name": row["name"]} for row in found]


@statement
def insert_anomalies(
    tx: Transaction, kinds: Sequence[str], agents: Sequence[str | None], attempts: Sequence[UUID | None],
    requests: Sequence[UUID | None], details: Sequence[Any],
) -> int:  # fmt: skip
    for kind, agent, attempt, request, detail in zip(kinds, agents, attempts, requests, details, strict=True):
        row = {"kind": kind, "agent_id": agent, "attempt_id": attempt, "request_id": request, "detail": detail}
        tx.put("anomalies", tx.database.next_number("anomalies"), row)
    return len(kinds)
