"""What a transaction does for dispatching, recording and sweeping: set-based, one statement for all its items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from chargehand.catalog.outputs import Returned
from chargehand.domain.errors import StaleStatus
from chargehand.domain.messages import Heartbeat
from chargehand.domain.plans import WorkTask
from chargehand.domain.records import (
    Anomaly,
    AttemptRecord,
    Compared,
    Outcome,
    OutMessage,
    Placement,
    PlanRecord,
    Staff,
    Standing,
    TaskRecord,
    Undelivered,
)
from chargehand.domain.routing import AgentFacts
from chargehand.domain.signed_messages import Message
from chargehand.domain.states import TaskStatus
from chargehand.routing.performance import Run
from chargehand.routing.replay import stored
from chargehand.routing.reservations import NO_PROMISE, Machine, Promise, needs_memory
from chargehand.store import performance_rows
from chargehand.store.planning_statements import Deciding
from chargehand.store.work_rows import attempt_of, facts_of, spec_of, task_of

if TYPE_CHECKING:
    from chargehand.catalog.catalog import Catalog
    from chargehand.store.status_moves import Connection, Traffic


SPECS_KEPT = 5_000
"""What was approved of so many tasks stays in memory: more than are usually on their way, some 10 MB."""

_SPECS: dict[UUID, WorkTask] = {}

MOST_LET_GO = 200  # tasks at once, of those that wait when agents go; what is left is due by itself soon


class Transaction(Deciding):
    """The statements of the path from a ready task to a recorded result."""

    def __init__(
        self,
        connection: Connection,
        seal_key: bytes,
        catalogs: dict[str, Catalog] | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        super().__init__(connection, seal_key, catalogs, traffic)
        self._outcomes: list[Outcome] = []
        self._circuit = (0, 0.0)

    async def insert_tasks(self, plans: Sequence[PlanRecord]) -> dict[UUID, list[TaskRecord]]:
        """Store the tasks of approved plans, all of them pending, and return them by request, as stored."""
        rows = [
            TaskRecord(
                t.task_id, p.request_id, p.plan_id, t.order, t.intent, t.work_type, t, TaskStatus.PENDING, "",
                attempts_made=0, tried=(),
            )
            for p in plans for t in p.plan.tasks
        ]  # fmt: skip
        if rows:
            await self.execute(
                "insert_tasks",
                [t.task_id for t in rows],
                [t.request_id for t in rows],
                [t.plan_id for t in rows],
                [t.order for t in rows],
                [t.intent for t in rows],
                [t.work_type for t in rows],
                [t.spec.agent_type for t in rows],
                [t.spec.model_dump(mode="json") for t in rows],
            )
            _keep({t.task_id: t.spec for t in rows})
        return {p.request_id: [t for t in rows if t.request_id == p.request_id] for p in plans}

    async def claim_ready(self, limit: int, only: UUID | None) -> list[TaskRecord]:
        """Lock the requests of tasks that are due and return those tasks, longest waiting first."""
        return [task_of(row) for row in await self.fetch("claim_ready", limit, only)]

    async def tasks(self, ids: Iterable[UUID]) -> dict[UUID, TaskRecord]:
        """Return tasks by id."""
        return {row["task_id"]: task_of(row) for row in await self.fetch("tasks_by_id", sorted(set(ids)))}

    async def tasks_of(self, request_ids: Iterable[UUID]) -> dict[UUID, list[TaskRecord]]:
        """Return the tasks of the requests' newest plans, in order."""
        found: dict[UUID, list[TaskRecord]] = {}
        for row in await self.fetch("tasks_of", sorted(set(request_ids))):
            found.setdefault(row["request_id"], []).append(task_of(row))
        return found

    async def standings(self, request_ids: Iterable[UUID]) -> dict[UUID, list[Standing]]:
        """Return where the tasks of the requests' newest plans stand, in order."""
        rows = await self.fetch("standings", sorted(set(request_ids)))
        ids = [task_id for row in rows for task_id in row["task_ids"]]
        specs = {task_id: _SPECS[task_id] for task_id in ids if task_id in _SPECS}
        read = {row["task_id"]: spec_of(row["spec"]) for row in await self._specs([n for n in ids if n not in specs])}
        _keep(read)
        specs |= read
        return {
            (request_id := row["request_id"]): [
                Standing(task_id, request_id, specs[task_id].order, TaskStatus(status), specs[task_id])
                for task_id, status in zip(row["task_ids"], row["statuses"], strict=True)
            ]
            for row in rows
        }

    async def _specs(self, ids: Sequence[UUID]) -> list[asyncpg.Record]:
        return await self.fetch("task_specs", ids) if ids else []

    async def returned(self, wanted: Iterable[tuple[UUID, UUID, int]]) -> dict[UUID, dict[int, Returned]]:
        """Return what tasks have returned, by plan and order; they are asked for as (request, plan, order)."""
        requests, plans, orders = zip(*sorted(set(wanted)), strict=True)
        found: dict[UUID, dict[int, Returned]] = {}
        for row in await self.fetch("returned", requests, plans, orders):
            order, status = row["task_order"], TaskStatus(row["status"])
            found.setdefault(row["plan_id"], {})[order] = Returned(order, row["intent"], status, row["outputs"])
        return found

    async def pool(self, intents: Iterable[tuple[str, str]]) -> dict[str, list[AgentFacts]]:
        """Return what the router may know, per (intent, work type) asked about, of the agents that may run it.

        Where none may, of all agents: so that it can be said who is there. Offers without a grant are not looked at.
        """
        wanted = sorted(set(intents))
        rows = await self.fetch("pool", [i for i, _ in wanted], [w for _, w in wanted])
        found: dict[str, list[AgentFacts]] = {intent: [] for intent, _ in wanted}
        for row in rows:
            found[row["intent"]].append(facts_of(row))
        return found

    async def staff(self) -> list[Staff]:
        """Return every agent that may run anything, by name, and whether it is there."""
        return [Staff(**dict(row)) for row in await self.fetch("staff")]

    async def count_agents(self) -> int:
        """Return how many agents are enrolled, whatever they offer."""
        return int((await self.fetch("count_agents"))[0]["n"])

    async def promised(self, agents: Iterable[UUID] | None = None) -> dict[UUID, Promise]:
        """Return what the work of these agents, or of all, was promised."""
        rows = await self.fetch("promised", None if agents is None else sorted(set(agents)))
        return {row["agent_id"]: Promise(*list(row.values())[1:]) for row in rows}

    async def recent_agents(self, request_ids: Iterable[UUID]) -> set[tuple[UUID, UUID]]:
        """Return (request, agent) pairs that have worked together."""
        rows = await self.fetch("recent_agents", sorted(set(request_ids)))
        return {(row["request_id"], row["agent_id"]) for row in rows}

    async def held_keys(self, keys: Iterable[str]) -> dict[str, UUID]:
        """Return which of these exclusive keys are held, and by which request."""
        return {row["key"]: row["request_id"] for row in await self.fetch("held_keys", sorted(set(keys)))}

    async def lease_tokens(self, n: int) -> list[int]:
        """Return n fencing tokens, each higher than every one before it."""
        return [row["token"] for row in await self.fetch("lease_tokens", n)]

    async def place(self, placements: Sequence[Placement]) -> None:
        """Write leases, slots, exclusive keys and decisions. Raises `StaleStatus` when a slot or a key went first."""
        if not placements:
            return
        await self._take_slots(placements)
        await self.execute(
            "insert_attempts",
            [p.attempt_id for p in placements],
            [p.task.task_id for p in placements],
            [p.task.request_id for p in placements],
            [p.agent_id for p in placements],
            [p.number for p in placements],
            [p.lease_token for p in placements],
            [p.limits.lease for p in placements],
            [p.limits.start for p in placements],
            [p.limits.run for p in placements],
        )
        await self._take_keys(placements)
        await self.execute("count_attempts", [p.task.task_id for p in placements], [p.agent_id for p in placements])
        for p in placements:
            stretched = (
                {"may_take_seconds": p.limits.run, "stretched": p.limits.stretched} if p.limits.stretched else {}
            )
            self.note(
                p.task.request_id,
                "attempt.leased",
                {"agent_id": str(p.agent_id), "lease_token": p.lease_token, "reason": p.decision.reason, **stretched},
                task_id=p.task.task_id,
                attempt_id=p.attempt_id,
            )

    async def record_decisions(self, decisions: Sequence[tuple[TaskRecord, Any, UUID | None]]) -> None:
        """Keep routing decisions, also those that found nobody: (task, decision, attempt or None)."""
        if not decisions:
            return
        rows = [d for _, d, _ in decisions]
        await self.execute(
            "insert_decisions",
            [t.task_id for t, _, _ in decisions],
            [d.work_type for d in rows],
            [d.agent_pool for d in rows],
            [UUID(d.selected) if d.selected else None for d in rows],
            [d.success_rate_percent for d in rows],
            [d.specialization_match for d in rows],
            [d.recent_context_match for d in rows],
            [d.retried for d in rows],
            [d.reason for d in rows],
            [a for _, _, a in decisions],
            [stored(d) for d in rows],
            [d.predicted_success for d in rows],
            [d.predicted_ms for d in rows],
        )

    async def postpone(self, waits: Sequence[tuple[TaskRecord, float, str, UUID | None]]) -> None:
        """Let ready tasks wait: (task, seconds, why, the agent that it waits for by choice)."""
        if waits:
            tasks, delays, reasons, agents = zip(*waits, strict=True)
            await self.execute("postpone_tasks", [task.task_id for task in tasks], delays, reasons, agents)
        for task, seconds, reason, agent_id in waits:
            if agent_id is not None:
                said = {"agent_id": str(agent_id), "at_most_seconds": round(seconds, 3), "reason": reason}
                self.note(task.request_id, "task.waits", said, task_id=task.task_id)

    async def send(self, messages: Sequence[OutMessage]) -> None:
        """Put messages into the outbox; they are published after the commit."""
        if messages:
            await self.execute(
                "put_outbox",
                [m.queue for m in messages],
                [m.body for m in messages],
                [m.attempt_id for m in messages],
            )
            self.wakes.add("publish")

    async def take_outbox(self, limit: int) -> list[tuple[int, OutMessage]]:
        """Lock messages that wait to be published, oldest first."""
        rows = await self.fetch("take_outbox", limit)
        return [(row["message_id"], OutMessage(row["queue"], row["body"], row["attempt_id"])) for row in rows]

    async def drop_outbox(self, ids: Sequence[int]) -> None:
        """Forget messages that the broker has confirmed."""
        await self.execute("drop_outbox", ids)

    async def postpone_outbox(self, ids: Sequence[int]) -> None:
        """Try these again later, waiting longer each time (at most 30 s)."""
        await self.execute("postpone_outbox", ids)

    async def attempts(self, ids: Iterable[UUID]) -> dict[UUID, AttemptRecord]:
        """Return attempts by id."""
        return {row["attempt_id"]: attempt_of(row) for row in await self.fetch("attempts_by_id", sorted(set(ids)))}

    async def compare_results(self, messages: Sequence[Message]) -> dict[UUID, Compared]:
        """Return, by attempt, how results compare with the stored ones. At most one message for an attempt."""
        if not messages:
            return {}
        rows = await self.fetch(
            "compare_results",
            [message.attempt_id for message in messages],
            [str(message.message_id) for message in messages],
            [message.payload.model_dump(mode="json") for message in messages],
        )
        return {row["attempt_id"]: Compared(row["same_message"], row["same_result"]) for row in rows}

    async def able_elsewhere(self, attempt_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Return the attempts of which the task could be done by an agent that is there and has not tried it."""
        if not attempt_ids:
            return frozenset()
        return frozenset(row["attempt_id"] for row in await self.fetch("able_elsewhere", attempt_ids))

    async def open_attempts(self, request_id: UUID) -> list[AttemptRecord]:
        """Return a request's attempts that hold a lease."""
        return [attempt_of(row) for row in await self.fetch("open_attempts_of", request_id)]

    async def lapsed_attempts(self, limit: int, grace: float) -> dict[UUID, tuple[UUID, str]]:
        """Return attempt -> (request, why) where the lease and its grace, or another deadline, are over."""
        rows = await self.fetch("lapsed_attempts", limit, grace)
        return {row["attempt_id"]: (row["request_id"], row["why"]) for row in rows}

    async def mark_begun(self, attempt_ids: Sequence[UUID]) -> None:
        """Remember that the agents of these attempts have said that they began."""
        if attempt_ids:
            await self.execute("mark_begun", attempt_ids)

    async def mark_cancel_sent(self, attempt_ids: Sequence[UUID]) -> None:
        """Remember that these agents have been told to stop."""
        if attempt_ids:
            await self.execute("mark_cancel_sent", attempt_ids)

    def learn(self, outcomes: Sequence[Outcome], circuit_failures: int, circuit_seconds: float) -> None:
        """Free slots and exclusive keys of ended attempts and keep what they teach about their agents.

        It is done when the transaction ends, for all at once: agents are locked in id order, and not for long.
        """
        self._outcomes += outcomes
        self._circuit = circuit_failures, circuit_seconds

    async def finish(self) -> None:
        """Write what was learnt, the events and the seals, and wake everybody once. Called once, before the commit."""
        if self._outcomes:
            await self._settle_outcomes(self._outcomes, *self._circuit)
        await super().finish()

    async def _settle_outcomes(
        self, outcomes: Sequence[Outcome], circuit_failures: int, circuit_seconds: float
    ) -> None:
        ids = [o.attempt_id for o in outcomes]
        await self.execute("drop_keys", ids)
        await self.execute("drop_unsent", ids)
        freed = sorted(Counter(o.agent_id for o in outcomes).items())
        await self.execute("lock_agents", [a for a, _ in freed])
        await self.execute("free_slots", [a for a, _ in freed], [n for _, n in freed])
        told = [o for o in outcomes if o.counts]
        if told:
            await self._learn(told)
        last = {o.agent_id: o.infrastructure for o in outcomes}
        await self.execute("count_infrastructure", list(last), list(last.values()), circuit_failures, circuit_seconds)
        # More than were freed, because some of those that wait may not fit.
        if await self.execute("hasten_tasks", len(outcomes) * 4, [a for a, _ in freed]):
            self.wakes.add("dispatch")

    async def undelivered(self, agent_id: UUID) -> list[Undelivered]:
        """Return an agent's leased attempts that it has not accepted."""
        rows = await self.fetch("undelivered_attempts", agent_id)
        return [
            Undelivered(
                row["attempt_id"],
                row["lease_token"],
                row["number"],
                WorkTask.model_validate(row["spec"]),
                row["trace_id"],
                row["request_id"],
                row["dry_run"],
                row["run_seconds"],
            )
            for row in rows
        ]

    async def renew(self, beats: Sequence[tuple[UUID, UUID]]) -> None:
        """Renew leases: (attempt, agent) pairs. An attempt that is not that agent's is left alone."""
        if beats:
            attempts, agents = zip(*beats, strict=True)
            await self.execute("renew_leases", attempts, agents)

    async def beat(self, beats: Sequence[Heartbeat]) -> None:
        """Write heartbeats, one statement for all."""
        latest = {beat.agent_id: beat for beat in beats}
        rows = [latest[agent_id] for agent_id in sorted(latest)]
        if not rows:
            return
        agents = [UUID(b.agent_id) for b in rows]
        await self.execute("lock_agents", agents)
        await self.execute(
            "heartbeats",
            agents,
            [b.incarnation for b in rows],
            [b.free.model_dump() for b in rows],
            [b.load for b in rows],
            [b.draining for b in rows],
        )

    async def mark_offline(self, after: float) -> list[str]:
        """Mark agents that have been silent for `after` seconds; return their names. Nobody waits for them any more."""
        gone = await self.fetch("mark_offline", after)
        if gone and await self.execute("hasten_tasks", MOST_LET_GO, [row["agent_id"] for row in gone]):
            self.wakes.add("dispatch")
        return [row["name"] for row in gone]

    async def keep_anomalies(self, anomalies: Sequence[Anomaly]) -> None:
        """Keep messages that should not have come."""
        if anomalies:
            await self.execute(
                "insert_anomalies",
                [a.kind for a in anomalies],
                [a.agent_id for a in anomalies],
                [a.attempt_id for a in anomalies],
                [a.request_id for a in anomalies],
                [a.detail for a in anomalies],
            )

    async def idle_requests(self, limit: int) -> list[UUID]:
        """Return requests in progress of which nothing is on its way."""
        return [row["request_id"] for row in await self.fetch("idle_requests", limit)]

    async def unsettled_cancels(self, limit: int) -> list[UUID]:
        """Return requests being cancelled whose agents have not all been told."""
        return sorted({row["request_id"] for row in await self.fetch("unsettled_cancels", limit)})

    async def reset_tasks(self, ids: Sequence[UUID]) -> None:
        """Forget the attempts a person has decided to go beyond."""
        await self.execute("reset_tasks", ids)

    async def count_task_failure(self, task_id: UUID) -> tuple[int, TaskStatus, UUID]:
        """Count that a step failed on this task and let it wait; return how often, its status and its request."""
        row = (await self.fetch("count_task_failure", task_id))[0]
        return row["failures"], TaskStatus(row["status"]), row["request_id"]

    async def _take_slots(self, placements: Sequence[Placement]) -> None:
        taken = sorted(Counter(p.agent_id for p in placements).items())
        await self.execute("lock_agents", [a for a, _ in taken])
        done = await self.execute("take_slots", [a for a, _ in taken], [n for _, n in taken])
        if done != len(taken):
            raise StaleStatus("an agent's last slot was taken by another process")
        greedy = [p for p in placements if needs_memory(p.task)]
        if greedy:
            await self._check_room(greedy)

    async def _check_room(self, placements: Sequence[Placement]) -> None:
        """Look again at what is promised, now that the agents are locked: another process may have been first."""
        agents = {p.agent_id for p in placements}
        promised = await self.promised(agents)
        for row in await self.fetch("resources_of", sorted(agents)):
            agent_id, machine = row["agent_id"], Machine.of(row["resources"], row["free"])
            needs = [p.task.spec for p in placements if p.agent_id == agent_id]
            if machine.is_overbooked(promised.get(agent_id, NO_PROMISE), needs):
                raise StaleStatus("an agent's memory was promised to other work by another process")

    async def _take_keys(self, placements: Sequence[Placement]) -> None:
        wanted = [(key, p.attempt_id, p.task.request_id) for p in placements for key in p.task.spec.exclusive_keys]
        if not wanted:
            return
        keys, attempts, requests = zip(*sorted(wanted), strict=True)
        if await self.execute("take_keys", keys, attempts, requests) != len(wanted):
            raise StaleStatus("an exclusive key was taken by another process")

    async def _learn(self, outcomes: Sequence[Outcome]) -> None:
        keys = sorted({key for o in outcomes for key in performance_rows.keys_of(o)})
        rows = await self.fetch("performance", *map(list, zip(*keys, strict=True)))
        kept = {(r["agent_id"], r["work_type"], r["intent"]): performance_rows.performance(r) for r in rows}
        overall = {row["agent_id"]: performance_rows.overall(row) for row in rows}
        for o in outcomes:
            run = Run(o.ok, o.duration_ms, o.resources_used, o.difficulty, o.dry_run, o.repeated)
            run = kept[o.agent_id, o.work_type, o.intent].judged(run)
            for key in performance_rows.keys_of(o):
                kept[key] = kept[key].after(run)
            overall[o.agent_id] = overall[o.agent_id].after(o.ok)
        await self.execute("learn", *performance_rows.columns(kept))
        lately = sorted(overall.items())
        await self.execute(
            "learn_overall", [a for a, _ in lately], [x.successes for _, x in lately], [x.runs for _, x in lately]
        )
        await self.execute(
            "judge_decisions",
            [o.attempt_id for o in outcomes],
            [o.ok for o in outcomes],
            [o.duration_ms for o in outcomes],
        )


def _keep(specs: Mapping[UUID, WorkTask]) -> None:
    _SPECS.update(specs)
    while len(_SPECS) > SPECS_KEPT:
        del _SPECS[next(iter(_SPECS))]
