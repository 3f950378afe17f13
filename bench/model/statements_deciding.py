"""The named statements of `store/sql/decisions.sql`, modelled; what only an operator's commands run is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bench.model.database import Row, Transaction, moment
from bench.model.statements import OPEN, columns, microseconds, row_of, statement
from chargehand.domain.intents import NO_TERMS


@statement
def insert_decompositions(
    tx: Transaction, ids: Sequence[UUID], wordings: Sequence[str], tiers: Sequence[str], models: Sequence[str],
    values: Sequence[Any], thresholds: Any,
) -> int:  # fmt: skip
    for request_id, value in zip(ids, values, strict=True):
        number = tx.database.next_number("decompositions")
        tx.put("decompositions", number, {"decomposition_id": number, "request_id": request_id, "value": value})
    return len(ids)


@statement
def latest_decomposition(tx: Transaction, request_id: UUID) -> list[Row]:
    found = [row for row in tx.rows("decompositions") if row["request_id"] == request_id]
    return [{"value": row["value"]} for row in sorted(found, key=lambda row: -row["decomposition_id"])[:1]]


@statement
def insert_llm_calls(tx: Transaction, ids: Sequence[UUID], *said: Sequence[Any]) -> int:
    for request_id, *words in zip(ids, *said, strict=True):
        tx.put("llm_calls", tx.database.next_number("llm_calls"), {"request_id": request_id, "said": words})
    return len(ids)


@statement
def set_readers(tx: Transaction, ids: Sequence[UUID], tiers: Sequence[str], models: Sequence[str]) -> int:
    tx.hold("requests", ids)
    for request_id, tier, model in zip(ids, tiers, models, strict=True):
        tx.update("requests", request_id, read_by_tier=tier, read_by_model=model)
    return len(ids)


@statement
def count_wish(tx: Transaction, wish: str, request_id: UUID) -> int:
    tx.hold("out_of_scope", [wish])
    known = tx.get("out_of_scope", wish) or {"times": 0}
    tx.put("out_of_scope", wish, {"wish": wish, "times": known["times"] + 1, "last_request_id": request_id})
    return 1


@statement
def insert_plans(
    tx: Transaction, ids: Sequence[UUID], requests: Sequence[UUID], versions: Sequence[int], digests: Sequence[str],
    plans: Sequence[Any], rulings: Sequence[Any], macs: Sequence[str], expires: float,
) -> int:  # fmt: skip
    tx.hold("plans", ids)
    for plan_id, *values in zip(ids, requests, versions, digests, plans, rulings, macs, strict=True):
        row = dict(zip(("request_id", "version", "digest", "plan", "ruling", "mac"), values, strict=True))
        row |= {"plan_id": plan_id, "status": "pending_approval", "expires_at": tx.now + expires}
        tx.put("plans", plan_id, row | {"written_by": tx.number})
    return len(ids)


_plan = columns("plan_id", "request_id", "version", "digest", "status", "plan", "ruling", "mac")


@statement
def latest_plans(tx: Transaction, request_ids: Sequence[UUID]) -> list[Row]:
    newest: dict[UUID, Row] = {}
    for row in sorted(tx.rows("plans"), key=lambda row: (row["request_id"], row["version"])):
        if row["request_id"] in request_ids:
            newest[row["request_id"]] = row
    return [_with_approvals(tx, row) for row in newest.values()]


def _with_approvals(tx: Transaction, row: Row) -> Row:
    said = [a for a in _approvals_of(tx, row["plan_id"]) if (a["digest"], a["decision"]) == (row["digest"], "approved")]
    return {
        **_plan(row),
        "expired": row["expires_at"] < tx.now,
        "asked_by": "\n".join(_askers(tx, row)),
        "at": microseconds(tx.now),
        "approvals": [[a["approver"], a["at"], a["mac"]] for a in said],
    }


def _askers(tx: Transaction, row: Row) -> list[str]:
    request = row_of(tx, "requests", row["request_id"])
    return [request["requester"], *request["reworded_by"]]


def _approvals_of(tx: Transaction, plan_id: UUID) -> list[Row]:
    found = [approval for approval in tx.rows("approvals") if approval["plan_id"] == plan_id]
    return sorted(found, key=lambda approval: approval["approval_id"])


@statement
def plans_by_id(tx: Transaction, ids: Sequence[UUID]) -> list[Row]:
    found = [tx.get("plans", key) for key in ids]
    return [_with_approvals(tx, row) for row in found if row]


@statement
def plan_versions(tx: Transaction, ids: Sequence[UUID]) -> list[Row]:
    found = [tx.get("plans", key) for key in ids]
    return [{"plan_id": row["plan_id"], "version": _version(tx, row)} for row in found if row]


def _version(tx: Transaction, row: Row) -> str:
    requester = " ".join(_askers(tx, row))
    approvals = ",".join(str(approval["written_by"]) for approval in _approvals_of(tx, row["plan_id"]))
    return f"{row['written_by']} {requester} {approvals}"


@statement
def insert_approval(
    tx: Transaction, plan_id: UUID, digest: str, approver: str, decision: str, words: str, mac: str
) -> int:
    key = (plan_id, approver, decision)
    tx.hold("approvals", [key])
    number = tx.database.next_number("approvals")
    row = {
        "plan_id": plan_id, "digest": digest, "approver": approver, "decision": decision, "words": words, "mac": mac,
        "at": microseconds(tx.now), "written_by": tx.number,
    }  # fmt: skip
    tx.put("approvals", key, {"approval_id": number, **(tx.get("approvals", key) or {}), **row})
    return 1


@statement
def expired_plans(tx: Transaction, limit: int) -> list[Row]:
    def late(row: Row) -> bool:
        return bool(row["status"] == "pending_approval" and row["expires_at"] < tx.now)

    return [{"request_id": row["request_id"]} for row in filter(late, tx.rows("plans"))][:limit]


@statement
def reword_request(tx: Transaction, request_id: UUID, wording: str) -> int:
    tx.hold("requests", [request_id])
    tx.update("requests", request_id, wording=wording)
    return 1


@statement
def add_asker(tx: Transaction, request_id: UUID, who: str) -> int:
    tx.hold("requests", [request_id])
    row = row_of(tx, "requests", request_id)
    if who == row["requester"] or who in row["reworded_by"]:
        return 0
    tx.update("requests", request_id, reworded_by=[*row["reworded_by"], who])
    return 1


@statement
def returned(tx: Transaction, requests: Sequence[UUID], plans: Sequence[UUID], orders: Sequence[int]) -> list[Row]:
    wanted = set(zip(requests, plans, orders, strict=True))
    found = [row for row in tx.rows("tasks") if (row["request_id"], row["plan_id"], row["task_order"]) in wanted]
    return [_returned(row) for row in sorted(found, key=lambda row: (row["plan_id"], row["task_order"]))]


def _returned(row: Row) -> Row:
    result = row["result"] or {}
    return {**_giver(row), "outputs": result.get("outputs") if result.get("ok") else None}


_giver = columns("plan_id", "task_order", "intent", "status")


@statement
def reset_tasks(tx: Transaction, ids: Sequence[UUID]) -> int:
    tx.hold("tasks", ids)
    for key in ids:
        row = tx.get("tasks", key)
        if row is not None:
            tx.update("tasks", key, forgiven=row["attempts_made"], tried=[], failures=0)
    return len(ids)


@statement
def insert_review(tx: Transaction, request_id: UUID, task_id: UUID | None, kind: str, reason: str, context: Any) -> int:
    number = tx.database.next_number("reviews")
    row = {"review_id": number, "request_id": request_id, "task_id": task_id, "kind": kind, "status": "open"}
    tx.put("reviews", number, row)
    return 1


@statement
def resolve_reviews(tx: Transaction, request_id: UUID, resolution: str, who: str) -> int:
    found = [
        row["review_id"] for row in tx.rows("reviews") if row["request_id"] == request_id and row["status"] == "open"
    ]
    tx.hold("reviews", found)
    for key in found:
        tx.update("reviews", key, status="resolved", resolution=resolution, resolved_by=who)
    return len(found)


@statement
def count_request_failure(tx: Transaction, request_id: UUID) -> list[Row]:
    tx.hold("requests", [request_id])
    row = tx.get("requests", request_id)
    if row is None:
        return []
    tx.update("requests", request_id, failures=row["failures"] + 1)
    return [{"failures": row["failures"] + 1, "status": row["status"]}]


@statement
def count_task_failure(tx: Transaction, task_id: UUID) -> list[Row]:
    tx.hold("tasks", [task_id])
    row = tx.get("tasks", task_id)
    if row is None:
        return []
    tx.update("tasks", task_id, failures=row["failures"] + 1, due_at=tx.now + min(2.0 ** row["failures"], 60.0))
    return [{"failures": row["failures"] + 1, "status": row["status"], "request_id": row["request_id"]}]


@statement
def unread_requests(tx: Transaction, limit: int) -> list[Row]:
    unread = {row["request_id"] for row in tx.rows("reviews") if row["status"] == "open" and row["kind"] == "no_plan"}
    planned = {row["request_id"] for row in tx.rows("plans")}
    found = [r for r in tx.rows("requests") if r["status"] == "in_review" and r["request_id"] in unread - planned]
    return [{"request_id": row["request_id"]} for row in sorted(found, key=lambda row: row["turn"][1])][:limit]


@statement
def catalog(tx: Transaction) -> list[Row]:
    granted = [row for row in tx.rows("agent_intents") if row["granted"]]
    return [
        {
            "spec": row["spec"], "granted_at": row["granted_at"],
            "agent": row_of(tx, "agent_registry", row["agent_id"])["name"],
        }
        for row in sorted(granted, key=lambda row: (row["intent"], row["agent_id"]))
    ]  # fmt: skip


@statement
def catalog_state(tx: Transaction) -> list[Row]:
    rows = list(tx.rows("agent_intents"))
    return [{"state": f"{len(rows)}.{sum(row['written_by'] for row in rows)}"}]


@statement
def enrol_agent(
    tx: Transaction, agent_id: UUID, name: str, agent_type: str, pool: str, policy: str | None, own: Any
) -> list[Row]:
    tx.hold("agent_registry", [agent_id])
    known = tx.get("agent_registry", agent_id)
    row = known or {
        "agent_id": agent_id, "name": name, "agent_type": agent_type, "pool_name": pool, "capabilities": [],
        "specializations": [], "status": "offline", "last_heartbeat_at": None, "incarnation": "", "key_generation": 1,
        "spoken_generation": 1, "admin_specializations": own, "drained": False, "slots": 1, "in_flight": 0,
        "overall_successes": 0.0, "overall_runs": 0.0,
        "resources": {}, "free": {}, "load": 0.0, "version": "", "infrastructure_failures": 0,
        "circuit_open_until": None, "rival": None, "rival_since": None, "rival_at": None,
    }  # fmt: skip
    tx.put("agent_registry", agent_id, {**row, "grant_policy": policy})
    return [{"key_generation": row["key_generation"]}]


@statement
def known_agents(tx: Transaction, ids: Sequence[UUID]) -> list[Row]:
    return [_known(row) for key in ids if (row := tx.get("agent_registry", key))]


_known = columns("agent_id", "name", "key_generation", "spoken_generation", "incarnation", "grant_policy", "status")
NO_RIVAL = {"rival": None, "rival_since": None, "rival_at": None}


@statement
def speak_generation(tx: Transaction, agent_id: UUID, generation: int) -> int:
    tx.hold("agent_registry", [agent_id])
    row = tx.get("agent_registry", agent_id)
    if row is None or row["spoken_generation"] >= generation:
        return 0
    tx.update("agent_registry", agent_id, spoken_generation=generation, status="offline", **NO_RIVAL)
    return 1


@statement
def register_agent(
    tx: Transaction, agent_id: UUID, capabilities: Any, specializations: Any, incarnation: str, slots: int,
    resources: Any, version: str, draining: bool, journal: str,
) -> int:  # fmt: skip
    def count() -> int:
        return sum(a["agent_id"] == agent_id and a["status"] in OPEN for a in tx.rows("attempts"))

    held = tx.once("held", count)  # before the wait for the agent's row, as the subquery of an UPDATE is
    tx.hold("agent_registry", [agent_id])
    row = tx.get("agent_registry", agent_id)
    if row is None or not _may_take_over(row, journal):
        return 0
    own = row["admin_specializations"]
    rival = {} if row["rival"] != incarnation else NO_RIVAL
    tx.update(
        "agent_registry", agent_id, capabilities=capabilities, incarnation=incarnation, slots=slots,
        specializations=specializations if own is None else own, resources=resources, version=version,
        last_heartbeat_at=tx.now, status="draining" if row["drained"] or draining else "online",
        infrastructure_failures=0, circuit_open_until=None, in_flight=held, **rival,
    )  # fmt: skip
    return 1


def _may_take_over(row: Row, journal: str) -> bool:
    known = row["incarnation"]
    return row["status"] == "offline" or "." not in known or known.startswith(f"{journal}.")


@statement
def refuse_rivals(tx: Transaction, agents: Sequence[UUID], rivals: Sequence[str]) -> list[Row]:
    tx.hold("agent_registry", agents)
    told = []
    for agent_id, rival in zip(agents, rivals, strict=True):
        row = row_of(tx, "agent_registry", agent_id)
        known, heard = row["rival"], row["rival_at"]
        news = known is None or (known != rival and heard is not None and heard < moment(tx.now - 60))
        since = row["rival_since"] if known == rival else moment(tx.now)
        tx.update("agent_registry", agent_id, rival=rival, rival_at=moment(tx.now), rival_since=since)
        told.append({"agent_id": agent_id, "news": news})
    return told


@statement
def forget_offers(tx: Transaction, agent_id: UUID, intents: Sequence[str], by_policy: bool) -> int:
    rows = _not_offered(tx, agent_id, intents)
    gone = [(agent_id, row["intent"]) for row in rows if by_policy or row["granted_terms"] is None]
    tx.hold("agent_intents", gone)
    for key in gone:
        tx.delete("agent_intents", key)
    return len(gone)


@statement
def miss_offers(tx: Transaction, agent_id: UUID, intents: Sequence[str]) -> int:
    rows = _not_offered(tx, agent_id, intents)
    missed = [(agent_id, row["intent"]) for row in rows if row["absent_since"] is None]
    tx.hold("agent_intents", missed)
    for key in missed:
        tx.update("agent_intents", key, granted=False, absent_since=moment(tx.now), written_by=tx.number)
    return len(missed)


def _not_offered(tx: Transaction, agent_id: UUID, intents: Sequence[str]) -> list[Row]:
    return [row for row in tx.rows("agent_intents") if row["agent_id"] == agent_id and row["intent"] not in intents]


NEVER_GRANTED: Row = {"granted_by": None, "granted_at": None, "granted_terms": None}


@statement
def put_offers(
    tx: Transaction, agent_id: UUID, intents: Sequence[str], specs: Sequence[Any], hashes: Sequence[str],
    unavailable: Sequence[str | None], granted: bool, granted_by: str | None,
) -> int:  # fmt: skip
    tx.hold("agent_intents", [(agent_id, intent) for intent in intents])
    for intent, spec, content, reason in zip(intents, specs, hashes, unavailable, strict=True):
        known = tx.get("agent_intents", (agent_id, intent)) or NEVER_GRANTED
        terms = {name: value for name, value in spec.items() if name not in NO_TERMS}
        same = known["granted_terms"] == terms
        row = {
            "agent_id": agent_id, "intent": intent, "spec": spec, "content_hash": content, "unavailable": reason,
            "granted": granted or same, "absent_since": None,
            "granted_at": moment(tx.now) if granted and not same else known["granted_at"],
            "granted_terms": terms if granted else known["granted_terms"],
            "granted_by": known["granted_by"] or (granted_by if granted else None), "written_by": tx.number,
        }  # fmt: skip
        tx.put("agent_intents", (agent_id, intent), row)
    return len(intents)


@statement
def idle_requests(tx: Transaction, limit: int) -> list[Row]:
    found = []
    for row in tx.rows("requests"):
        if row["status"] not in ("running", "cancelling"):
            continue
        statuses = {task["status"] for task in tx.rows("tasks") if task["request_id"] == row["request_id"]}
        if statuses & {"dispatched", "running"} or (row["status"] == "running" and "ready" in statuses):
            continue
        found.append({"request_id": row["request_id"]})
    return found[:limit]


@statement
def unsettled_cancels(tx: Transaction, limit: int) -> list[Row]:
    found = []
    for row in tx.rows("attempts"):
        request = tx.get("requests", row["request_id"])
        if request and request["status"] == "cancelling" and row["status"] in OPEN and not row["cancel_sent"]:
            found.append({"attempt_id": row["attempt_id"], "request_id": row["request_id"]})
    return found[:limit]
