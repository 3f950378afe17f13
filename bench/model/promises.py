"""What must hold, checked at every commit, at every start of work, and when everything has come to rest.

Each promise has a name, under which a breach is reported. The checks look at committed rows and at what agents really
did (`Effect`), not at what anybody says of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

from bench.model.database import Database, Row, Transaction
from chargehand.domain import seals
from chargehand.domain.messages import WorkOrder
from chargehand.domain.states import ATTEMPT, PLAN, REQUEST, REQUEST_ENDED, TASK

OPEN = frozenset({"leased", "accepted", "started"})
SAYS_NOTHING = ("cancelled", "content_changed")
AT_REST = frozenset({*REQUEST_ENDED, "in_review"})

PROMISES = {
    "kept": "an accepted request is never lost",
    "one_per_key": "the same idempotency key never makes two requests",
    "once_per_lease": "an attempt starts at most once per lease",
    "no_blind_repeat": "work that is not safe to repeat never starts twice without a person",
    "applied_once": "a result is applied at most once",
    "approved": "nothing runs that is not in the approved plan",
    "one_holder": "whoever held a lease has stopped before the successor starts",
    "one_per_key_held": "an exclusive key is never held twice, and is free when its attempt has ended",
    "slots": "an agent never has more attempts than slots, and the count is right",
    "another_agent": "a task is tried on another agent while there is one that can have it",
    "published": "a message is forgotten only when the broker has confirmed it",
    "history": "every change of a status has its event, in order, and every ended request its seal",
    "comes_to_rest": "when the weather clears, everything ends or waits for a person",
    "fair_weather": "when nothing goes wrong nothing is lost, doubtful or odd",
    "no_mistake": "no step fails by a mistake, and no two transactions wait for each other",
}


class Broken(Exception):
    """A promise is broken."""

    def __init__(self, promise: str, detail: str) -> None:
        super().__init__(f"{PROMISES[promise]}: {detail}")
        self.promise = promise


@dataclass(eq=False, slots=True)
class Effect:
    """Work that an agent really did: what would have changed the world."""

    order: WorkOrder
    agent: str
    keys: tuple[str, ...]
    process: object
    began: float
    ended: float | None = None


class Promises:
    """Checks one simulation. The first breach is kept; what follows from it would only hide it."""

    def __init__(self, database: Database, seal_key: bytes) -> None:
        self._seal_key = seal_key
        self.broken: Broken | None = None
        self.effects: list[Effect] = []
        self.running: dict[Effect, None] = {}
        self.accepted: dict[str, set[UUID]] = {}  # what callers heard, by idempotency key
        self.rerun: Counter[UUID] = Counter()  # how often a person had a task run again
        self.approvals: dict[UUID, str] = {}  # plan -> the digest a person approved
        self.confirmed: set[bytes] = set()
        self.checked = 0
        self._database = database
        self._ended: Counter[UUID] = Counter()
        database.on_commit = self.committing

    def breach(self, promise: str, detail: str) -> None:
        """Note that a promise is broken."""
        if self.broken is None:
            self.broken = Broken(promise, detail)

    # --- at every commit ---------------------------------------------------------------------------------------------

    def committing(self, tx: Transaction) -> None:
        """Look at a transaction that is about to take effect."""
        self.checked += 1
        try:
            self._check_history(tx)
            if "attempts" in tx.changed or "agent_registry" in tx.changed or "exclusive_keys" in tx.changed:
                self._check_slots(tx)
                self._check_keys(tx)
            if "attempts" in tx.changed:
                self._check_attempts(tx)
            if "outbox" in tx.changed:
                self._check_outbox(tx)
        except Broken as broken:
            self.broken = self.broken or broken

    def _check_history(self, tx: Transaction) -> None:
        events = [row for row in tx.changed.get("events", {}).values() if row]
        told: dict[tuple[str, Any], list[Row]] = {}
        for event in events:
            what, _, status = event["kind"].partition(".")
            key = {"task": event["task_id"], "attempt": event["attempt_id"], "request": event["request_id"]}.get(what)
            if what == "plan":
                key = UUID(event["data"]["plan_id"]) if "plan_id" in event["data"] else None
            told.setdefault((what, key), []).append({"to": status, "from": event["data"].get("from")})
        for table, what, machine in MACHINES:
            for key, row in tx.changed.get(table, {}).items():
                old = self._database.tables[table].get(key)
                if row is not None:
                    said = [e for e in told.get((what, key), []) if e["to"] in machine]
                    _follow(f"{what} {key}", machine, old and old["status"], row["status"], said)
        for key, row in tx.changed.get("requests", {}).items():
            if row is None:
                _fail("kept", f"request {key} was deleted")
            before = self._database.tables["requests"].get(key, {"event_count": 0})["event_count"]
            mine = [event["seq"] for event in events if event["request_id"] == key]
            if mine != list(range(before + 1, row["event_count"] + 1)):
                _fail("history", f"request {key}: events {mine} after {before} of {row['event_count']}")
            if row["status"] in REQUEST_ENDED and tx.get("seals", (key, "ended", row["event_count"])) is None:
                _fail("history", f"request {key} is {row['status']} and has no seal")

    def _check_slots(self, tx: Transaction) -> None:
        held = Counter(row["agent_id"] for row in tx.rows("attempts") if row["status"] in OPEN)
        for row in tx.rows("agent_registry"):
            if row["in_flight"] != held[row["agent_id"]] or row["in_flight"] > row["slots"]:
                open_ones = held[row["agent_id"]]
                _fail("slots", f"{row['name']}: counts {row['in_flight']} of {row['slots']}, {open_ones} are open")

    def _check_keys(self, tx: Transaction) -> None:
        for row in tx.rows("exclusive_keys"):
            attempt = tx.get("attempts", row["attempt_id"])
            if attempt is None or attempt["status"] not in OPEN:
                _fail("one_per_key_held", f"{row['key']} is held by attempt {row['attempt_id']}, which has ended")
        for row in tx.rows("attempts"):
            if row["status"] not in OPEN:
                continue
            task = tx.get("tasks", row["task_id"])
            for key in task["spec"]["exclusive_keys"] if task else ():
                holder = tx.get("exclusive_keys", key)
                if holder is None or holder["attempt_id"] != row["attempt_id"]:
                    _fail("one_per_key_held", f"attempt {row['attempt_id']} runs without its key {key}")

    def _check_attempts(self, tx: Transaction) -> None:
        for key, row in tx.changed["attempts"].items():
            old = self._database.tables["attempts"].get(key)
            if row is None:
                continue
            if old is None and row["number"] > 1:
                self._check_another_agent(tx, row)
            if old is not None and old["status"] in OPEN and row["status"] not in OPEN:
                self._ended[key] += 1
            if self._ended[key] > 1 or (old is not None and old["result"] not in (None, row["result"])):
                _fail("applied_once", f"attempt {key} has ended twice")
        for key, row in tx.changed.get("tasks", {}).items():
            old = self._database.tables["tasks"].get(key)
            if row and old and old["status"] != "succeeded" == row["status"] and not self.rerun[key]:
                good = [a for a in tx.rows("attempts") if a["task_id"] == key and a["status"] == "succeeded"]
                if len(good) != 1:
                    _fail("applied_once", f"task {key} succeeded by {len(good)} attempts")

    def _check_another_agent(self, tx: Transaction, attempt: Row) -> None:
        task = self._database.tables["tasks"].get(attempt["task_id"])
        if task is None or attempt["agent_id"] not in task["tried"]:
            return
        for agent in tx.rows("agent_registry"):
            offer = tx.get("agent_intents", (agent["agent_id"], task["intent"]))
            able = offer is not None and offer["granted"] and agent["status"] in ("online", "busy")
            able = able and agent["name"] in task["spec"]["agents"]
            resting = agent["circuit_open_until"] is not None and agent["circuit_open_until"] > tx.now
            if able and not resting and agent["agent_id"] not in task["tried"] and agent["in_flight"] < agent["slots"]:
                _fail(
                    "another_agent", f"task {task['task_id']} was given to one that was tried; {agent['name']} is free"
                )

    def _check_outbox(self, tx: Transaction) -> None:
        for key, row in tx.changed["outbox"].items():
            old = self._database.tables["outbox"].get(key)
            if row is not None or old is None or old["body"] in self.confirmed:
                continue
            attempt = tx.get("attempts", old["attempt_id"]) if old["attempt_id"] else None
            if attempt is None or attempt["status"] in OPEN:
                _fail("published", f"message {key} for {old['queue']} was dropped before the broker had it")

    # --- whenever work starts ----------------------------------------------------------------------------------------

    def starting(self, effect: Effect) -> None:
        """Look at work that begins now."""
        try:
            self._check_start(effect)
            self._check_approved(effect.order)
        except Broken as broken:
            self.broken = self.broken or broken
        self.effects.append(effect)
        self.running[effect] = None

    def stopped(self, effect: Effect, now: float) -> None:
        """Note that work has stopped."""
        if effect in self.running:
            del self.running[effect]
            effect.ended = now

    def _check_start(self, effect: Effect) -> None:
        order = effect.order
        earlier = [other.order for other in self.effects if other.order.task_id == order.task_id]
        if any(other.attempt_id == order.attempt_id for other in earlier):
            _fail("once_per_lease", f"attempt {order.attempt_id} was started again by {effect.agent}")
        if not order.retry_safe and len(earlier) > self.rerun[order.task_id]:
            _fail("no_blind_repeat", f"task {order.task_id} ({order.intent}) was started again by {effect.agent}")
        for other in self.running:
            if other.order.task_id == order.task_id:
                _fail("one_holder", f"{effect.agent} starts task {order.task_id} while {other.agent} is at it")
            if shared := set(other.keys) & set(effect.keys):
                _fail("one_per_key_held", f"{effect.agent} and {other.agent} both work on {', '.join(shared)}")

    def _check_approved(self, order: WorkOrder) -> None:
        tables = self._database.tables
        attempt = tables["attempts"].get(order.attempt_id)
        if attempt is None or attempt["lease_token"] != order.lease_token:
            _fail("once_per_lease", f"attempt {order.attempt_id} was started without a lease")
        plan = tables["plans"][tables["tasks"][order.task_id]["plan_id"]]
        allowed = plan["ruling"]["action"] == "run" or self.approvals.get(plan["plan_id"]) == plan["digest"]
        planned = [
            task
            for task in plan["plan"]["tasks"]
            if (task["task_id"], task["intent"], task["content_hash"], self._all_parameters(plan["plan_id"], task))
            == (str(order.task_id), order.intent, order.content_hash, order.parameters)
        ]
        if not allowed or len(planned) != 1 or plan["status"] not in ("approved", "superseded"):
            _fail("approved", f"{order.intent} was started; its plan is {plan['status']}")

    def _all_parameters(self, plan_id: UUID, task: Any) -> dict[str, Any]:
        """Return what was approved, with what the tasks have returned that were approved to give it."""
        rows = self._database.tables["tasks"].values()
        results = {
            row["task_order"]: row["result"]
            for row in rows
            if row["plan_id"] == plan_id and row["status"] == "succeeded" and row["result"]
        }
        given = {
            name: results.get(ref["task"], {}).get("outputs", {}).get(ref["output"])
            for name, ref in task["inputs"].items()
        }
        return {**task["parameters"], **given}

    # --- when everything has come to rest ----------------------------------------------------------------------------

    def resting(self) -> str | None:
        """Return what is still to come, or None."""
        tables = self._database.tables
        for row in tables["requests"].values():
            if row["status"] not in AT_REST:
                return f"request {row['request_id']} is {row['status']}: {row['status_reason']}"
        for row in tables["attempts"].values():
            if row["status"] in OPEN:
                return f"attempt {row['attempt_id']} is {row['status']}"
        if tables["outbox"]:
            return f"{len(tables['outbox'])} messages wait to be published"
        return f"{next(iter(self.running)).agent} is still at work" if self.running else None

    def finally_(self, *, fair: bool) -> None:
        """Look at everything, once it has come to rest."""
        try:
            self._check_accepted()
            self._check_all_free()
            self._check_chain()
            if fair:
                self._check_fair_weather()
        except Broken as broken:
            self.broken = self.broken or broken

    def _check_accepted(self) -> None:
        requests = self._database.tables["requests"]
        keys = Counter(row["idempotency_key"] for row in requests.values())
        for key, ids in self.accepted.items():
            if len(ids) != 1 or keys[key] != 1:
                _fail("one_per_key", f"key {key} made {keys[key]} requests")
            if not ids <= requests.keys():
                _fail("kept", f"the request with key {key} is gone")

    def _check_chain(self) -> None:
        names = ("request_id", "event_count", "mac", "key_name", "kind", "position", "link")
        rows = self._database.tables["seals"].values()
        problems = seals.check_chain(
            self._seal_key, [seals.Seal(**{name: row[name] for name in names}) for row in rows]
        )
        if problems:
            _fail("history", f"the chain of seals is broken: {'; '.join(problems)}")

    def _check_all_free(self) -> None:
        tables = self._database.tables
        if tables["exclusive_keys"]:
            _fail("one_per_key_held", f"still held: {', '.join(tables['exclusive_keys'])}")
        if any(row["in_flight"] for row in tables["agent_registry"].values()):
            _fail("slots", "slots are taken and nothing is open")
        taught = sum(_teaches(row) for row in tables["attempts"].values())
        learnt = tables["agent_performance"].values()
        for rows in ([row for row in learnt if not row["intent"]], [row for row in learnt if row["intent"]]):
            counted = sum(row["success_count"] + row["failure_count"] for row in rows)
            if counted != taught:
                _fail("applied_once", f"{taught} attempts have taught something; {counted} were counted")

    def _check_fair_weather(self) -> None:
        tables = self._database.tables
        odd = [row["status"] for row in tables["attempts"].values() if row["status"] in ("lost", "unknown")]
        kinds = [row["kind"] for row in tables["anomalies"].values()]
        if odd or kinds or tables["reviews"]:
            _fail("fair_weather", f"attempts {odd}, anomalies {kinds}, {len(tables['reviews'])} reviews")


MACHINES: tuple[tuple[str, str, Mapping[Any, frozenset[Any]]], ...] = (
    ("requests", "request", REQUEST),
    ("plans", "plan", PLAN),
    ("tasks", "task", TASK),
    ("attempts", "attempt", ATTEMPT),
)


def _follow(name: str, machine: Mapping[Any, frozenset[Any]], old: Any, new: Any, said: list[Row]) -> None:
    """Check that the events lead from the old status to the new one, along the table of states."""
    at = old
    if at is None and new == "pending":  # tasks are born with the event of their plan
        at = "pending"
    elif (
        at is None and said and said[0]["from"] is None and said[0]["to"] in ("accepted", "pending_approval", "leased")
    ):
        at = said.pop(0)["to"]
    elif at is None and name.startswith("task"):
        at = "pending"
    elif at is None and name.startswith("plan"):
        at = "pending_approval"  # its first event has the whole plan, not its id
    for event in said:
        if event["from"] != at and not (event["from"] is None and event["to"] == at):
            _fail("history", f"{name} is {at}, and an event tells of {event['from']} -> {event['to']}")
        if event["from"] is not None and event["to"] not in machine[at]:
            _fail("history", f"{name} went from {at} to {event['to']}")
        at = event["to"]
    if at != new:
        _fail("history", f"{name} is {new}; its events end with {at}")


def _teaches(attempt: Row) -> bool:
    if attempt["status"] in OPEN:
        return False
    failure = (attempt["result"] or {}).get("failure")
    return not failure or failure["kind"] not in SAYS_NOTHING


def _fail(promise: str, detail: str) -> NoReturn:
    raise Broken(promise, detail)
