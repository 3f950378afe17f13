"""The path of a request, from top to bottom: submit, decompose, plan, approve, dispatch, publish, record.

Every step is idempotent: it claims due rows, gathers facts, decides with pure functions, and writes status, events and
outgoing messages in one transaction; then it commits, and only then publishes. State in PostgreSQL is the truth, so
any number of processes may run these steps, and a crash anywhere means that a later sweep sees the rows again.
People's commands on a request are in `request_control.py`, actions on what is late in `sweep.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from chargehand.catalog.catalog import Catalog
from chargehand.domain.errors import (
    BadDecomposition,
    BadParameters,
    Infeasible,
    NotPermitted,
    Unroutable,
    Unstorable,
)
from chargehand.domain.intents import Otherwise
from chargehand.domain.plans import DecomposedRequest
from chargehand.domain.ports import LLM, Broker
from chargehand.domain.priorities import Priority
from chargehand.domain.records import Placement, PlanMove, PlanRecord, RequestMove, RequestRecord, TaskMove, TaskRecord
from chargehand.domain.routing import RoutingDecision
from chargehand.domain.signed_messages import SignedMessages
from chargehand.domain.states import PlanStatus, RequestStatus, TaskStatus
from chargehand.domain.tiers import MATCH, models, named
from chargehand.engine import admission, asking, tier_chain
from chargehand.engine.assignment import Assignment
from chargehand.engine.batching import Batcher, batch_or_singly
from chargehand.engine.quarantine import Quarantine, to_review
from chargehand.engine.recorder import Recorder
from chargehand.engine.tier_chain import Understood, tried_tier
from chargehand.engine.transactions import Store
from chargehand.execution import task_flow, waiting
from chargehand.execution.outcomes import plain
from chargehand.planning import approval, planner
from chargehand.settings import Settings
from chargehand.understanding import nlu, questions

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction

log = logging.getLogger("chargehand.engine.engine")


def thresholds(settings: Settings) -> nlu.Thresholds:
    """Return when the operator wants to look twice."""
    return nlu.Thresholds(
        flag=settings.confidence_flag,
        max_flags=settings.max_flags,
        embedded=settings.confidence_embedded,
        asking=settings.ask_models,
    )


class Engine:
    """The steps, over one store and one broker. `tiers` are the models that are configured, by tier."""

    def __init__(
        self, store: Store, broker: Broker, tiers: Mapping[str, LLM], master_key: bytes, settings: Settings
    ) -> None:
        self.store = store
        self.broker = broker
        self.tiers = tiers
        self.settings = settings
        self.recorder = Recorder(settings, SignedMessages(master_key))
        self.places = asking.Places({tier.name: settings.llm(tier).concurrency for tier in models()})
        self.assignment = Assignment(settings)
        self.thresholds = thresholds(settings)
        self.trust = asking.Trust()
        self._quarantine = Quarantine(store, self.recorder, settings.quarantine_limit)
        self._readings = Batcher(self._record_readings, self._quarantine.of_reading, settings.batch_size)

    # --- 1. Accept: committed before the caller hears of it, at most once per idempotency key -----------------------

    async def submit(
        self,
        text: str | bytes,
        *,
        requester: str,
        key: str | None = None,
        mode: str | None = None,
        dry_run: bool = False,
        priority: Priority = "normal",
        not_before: datetime | None = None,
        otherwise: Collection[Otherwise] | None = None,
    ) -> UUID:
        """Accept a request and return its id; the same key with the same body returns the same id again.

        Its tasks start no sooner than `not_before`. `otherwise` is what may be done when nobody can do it as asked;
        None, as for `mode`, stands for the setting.
        Raises `BadRequest` for words that cannot be accepted and `IdempotencyConflict` for a key that is taken.
        """
        wording = nlu.clean(text)
        request = RequestRecord(
            *(uuid4(), wording, requester, mode or self.settings.mode, dry_run, RequestStatus.ACCEPTED),
            trace_id=uuid4(),
            priority=priority,
            not_before=not_before,
            otherwise=tuple(sorted(self.settings.otherwise if otherwise is None else otherwise)),
        )
        async with self.store.transaction() as tx:
            return await tx.accept(request, key, request.body_digest)

    # --- 2. Decompose: claimed under a lease, asked outside any lock, written only with the claim's token -----------

    async def decompose(self) -> int:
        """Let the tiers read what was accepted, and wait for all of it. Returns how many requests were taken."""
        claimed, known = await self.claim(self.settings.batch_size)
        await asyncio.gather(*(self.understand(request, known) for request in claimed))
        return len(claimed)

    async def claim(self, most: int) -> tuple[list[RequestRecord], Catalog]:
        """Take up to so many requests that wait to be read, for `claim_seconds`, with what can be asked for now."""
        async with self.store.transaction() as tx:
            claimed = await tx.claim_requests(most, self.settings.claim_seconds, None)
            fresh = [r for r in claimed if r.status is RequestStatus.ACCEPTED]
            await tx.move_requests(
                [RequestMove(r.request_id, r.status, RequestStatus.DECOMPOSING, "being read") for r in fresh]
            )
            known = await tx.catalog() if claimed else Catalog(())
            refused = await self._refuse(tx, [r for r in claimed if not r.may_wait])
        return [r for r in claimed if r.request_id not in refused], known

    async def _refuse(self, tx: Transaction, requests: Sequence[RequestRecord]) -> set[UUID]:
        """Refuse requests that cannot wait while no agent at all is there: no model need read them."""
        reason = planner.nobody_there(await tx.staff()) if requests else None
        if reason is None:
            return set()
        old, new, hint = RequestStatus.DECOMPOSING, RequestStatus.REFUSED, {"hint": planner.WAIT}
        await tx.move_requests([RequestMove(r.request_id, old, new, reason, hint) for r in requests])
        return {r.request_id for r in requests}

    async def understand(self, request: RequestRecord, known: Catalog) -> None:
        """Let the tiers read one claimed request and go on from what they say. Raises only when the database is away.

        Each request is read in a task of its own: a model that hangs holds up nobody else's. What was read at about
        the same time goes on in one transaction.
        """
        try:
            ask = questions.build_ask(request.request_id, request.wording, known)
            decomposed, calls = await tier_chain.understand(ask, self.tiers, self.thresholds, self.places, self.trust)
        except Exception as error:  # noqa: BLE001 - a model is foreign code; counted and kept
            await self._quarantine.of_request(request.request_id, error)
            return
        await self._readings.bring(Understood(request, known, decomposed, ask, calls))

    async def _record_readings(self, readings: Sequence[Understood]) -> None:
        """Keep what was said and go on from it, for all that nobody else has claimed meanwhile."""
        async with self.store.transaction() as tx:
            current = await tx.lock_requests(reading.request.request_id for reading in readings)
            claimed = [reading.now(current) for reading in readings if reading.is_claimed(current)]
            await tx.record_calls([(reading.ask, call) for reading in claimed for call in reading.calls])
            await self.take_up(tx, claimed)

    async def take_up(self, tx: Transaction, readings: Sequence[Understood]) -> None:
        """Go on from what was understood: plan it, ask, refuse, or hand it to a person."""
        for reading in readings:
            if reading.decomposed is None:
                tried = {"tried": [tried_tier(call) for call in reading.calls]}
                await to_review(tx, reading.request, "no_plan", "no model could plan this", tried)
        read = [(r.request, r.decomposed) for r in readings if r.decomposed is not None]
        await tx.save_decompositions([(r.wording, d) for r, d in read], asdict(self.thresholds))
        await tx.count_wishes((_normalised(wish), r.request_id) for r, d in read for wish in d.out_of_scope)
        await tx.move_requests([move for r, d in read if (move := _without_plan(r, d)) is not None])
        planned = [(r, d) for r, d in read if _without_plan(r, d) is None]
        await self.plan(tx, planned, {r.request.request_id: r.known for r in readings})

    # --- 3. Plan: typed tasks in order, or a refusal that counts why ------------------------------------------------

    async def plan(
        self,
        tx: Transaction,
        wanted: Sequence[tuple[RequestRecord, DecomposedRequest]],
        known: Mapping[UUID, Catalog],
    ) -> None:
        """Make plans (the next version, if there was one), rule on their approval, and show them or start them.

        `known` is the catalog that each request was understood by.
        """
        if not wanted:
            return
        asked = {r.request_id: planner.asked_of_pool(d, known[r.request_id]) for r, d in wanted}
        former = await tx.latest_plans(asked)
        pool = await tx.pool(pair for pairs in asked.values() for pair in pairs)
        ruled = []
        for request, decomposed in wanted:
            facts = self._facts(request, decomposed, former.get(request.request_id))
            seen = {intent: pool[intent] for intent, _ in asked[request.request_id]}
            try:
                plan = planner.make_plan(decomposed, known[request.request_id], seen, facts)
            except Infeasible:
                told = replace(facts, agents=await tx.count_agents())
                error = planner.why_infeasible(decomposed, known[request.request_id], seen, told)
                await tx.move_requests([_to(request, RequestStatus.REFUSED, str(error), {"hint": error.hint})])
            except (BadDecomposition, BadParameters) as bad:
                await to_review(tx, request, "no_plan", str(bad), decomposed.model_dump(mode="json"))
            else:
                ruled.append((request, plan, approval.rule_on(plan, self.context(request, decomposed))))
        stored = await tx.save_plans([(r.asked_by, p, x) for r, p, x in ruled], self.settings.approval_expires)
        at_once = {plan.plan_id for _, plan, ruling in ruled if ruling.action == "run"}
        shown = [(request, ruling) for request, plan, ruling in ruled if plan.plan_id not in at_once]
        await tx.move_requests([_to(r, RequestStatus.AWAITING_APPROVAL, ruling.reason) for r, ruling in shown])
        both = zip(ruled, stored, strict=True)
        await self.start_approved(tx, [(r, p, ruling.reason) for (r, _, ruling), p in both if p.plan_id in at_once])

    def _facts(
        self, request: RequestRecord, decomposed: DecomposedRequest, former: PlanRecord | None
    ) -> planner.PlanFacts:
        return planner.PlanFacts(
            plan_id=uuid4(),
            task_ids=[uuid4() for _ in decomposed.subtasks],
            now=datetime.now(UTC),
            version=former.version + 1 if former else 1,
            mode=request.mode,
            dry_run=request.dry_run,
            otherwise=request.otherwise,
            may_wait=request.may_wait,
            minimum_runs=self.settings.routing_minimum_runs,
        )

    def context(self, request: RequestRecord, decomposed: DecomposedRequest | None = None) -> approval.ApprovalContext:
        """Return what the approval policy goes by; without a decomposition, what it allows for a plan as it stands."""
        return approval.ApprovalContext(
            only_matched=decomposed is not None and named(decomposed.tier).kind is MATCH,
            requester=request.requester,
            flags=tuple(flag for subtask in decomposed.subtasks for flag in subtask.flags) if decomposed else (),
            max_flags=self.settings.max_flags,
            four_eyes_for=self.settings.four_eyes,
            auto_approve=self.settings.auto_approve,
        )

    # --- 4. Approve: binds to the digest of exactly the plan that was shown -----------------------------------------

    async def start_approved(self, tx: Transaction, approved: Sequence[tuple[RequestRecord, PlanRecord, str]]) -> None:
        """Make the tasks of approved plans, each with the reason of its approval, and let the first ones go.

        Raises `NotPermitted` for a plan that lacks an approval.
        """
        for request, plan, _ in approved:
            if missing := approval.missing_consent(request, plan):
                raise NotPermitted(missing)
        new = PlanStatus.APPROVED
        await tx.move_plans(
            [PlanMove(p.plan_id, r.request_id, p.status, new, {"digest": p.digest}) for r, p, _ in approved]
        )
        await tx.move_requests([_to(request, RequestStatus.RUNNING, reason) for request, _, reason in approved])
        tasks = await tx.insert_tasks([plan for _, plan, _ in approved])
        running = {r.request_id: replace(r, status=RequestStatus.RUNNING) for r, _, _ in approved}
        await self.recorder.proceed(tx, running, tasks)

    # --- 5. Route and dispatch: the best agent that may and can, under a lease --------------------------------------

    async def dispatch(self) -> int:
        """Hand out the tasks that are ready. Returns how many were looked at."""
        return await batch_or_singly(self._dispatch, self._quarantine.of_task)

    async def _dispatch(self, seen: list[UUID], only: UUID | None) -> None:
        async with self.store.transaction() as tx:
            due = await tx.claim_ready(self.settings.batch_size, only)
            seen.extend(task.task_id for task in due)
            if not due:
                return
            requests = await tx.lock_requests(task.request_id for task in due)
            ready, stopped = await admission.admit(tx, requests, due)
            await self.recorder.settle(tx, {task.request_id for task in stopped})
            decided = await self.assignment.decide(tx, ready)
            self.assignment.learn(decided)
            await self._hand_out(tx, requests, decided)
            await self._let_wait(tx, requests, decided)

    async def _hand_out(
        self,
        tx: Transaction,
        requests: Mapping[UUID, RequestRecord],
        decided: Sequence[tuple[TaskRecord, RoutingDecision]],
    ) -> None:
        """Write lease, decision, status and message of every placed task, in this one transaction."""
        chosen = [(task, decision, UUID(decision.selected)) for task, decision in decided if decision.selected]
        tokens = await tx.lease_tokens(len(chosen)) if chosen else []
        placements = [
            Placement(
                *(uuid4(), task, agent_id, task.attempts_made + 1, token, decision),
                self.recorder.limits(task.spec, decision.figures),
            )
            for (task, decision, agent_id), token in zip(chosen, tokens, strict=True)
        ]
        await tx.place(placements)
        await tx.record_decisions([(p.task, p.decision, p.attempt_id) for p in placements])
        moves = [_task_to(p.task, TaskStatus.DISPATCHED, p.decision.reason, _taken(p.task)) for p in placements]
        await tx.move_tasks(moves)
        agents = await tx.known_agents(p.agent_id for p in placements)
        await tx.send(
            [
                self.recorder.work_order(
                    *(agents[p.agent_id], p.task, requests[p.task.request_id]),
                    (p.attempt_id, p.lease_token, p.number),
                    p.limits.run,
                )
                for p in placements
            ]
        )

    async def _let_wait(
        self,
        tx: Transaction,
        requests: Mapping[UUID, RequestRecord],
        decided: Sequence[tuple[TaskRecord, RoutingDecision]],
    ) -> None:
        """Let tasks without an agent wait, or give way to what somebody can take now, or fail (see `waiting`)."""
        timeout = self.settings.no_agent_timeout
        unplaced = [(task, decision) for task, decision in decided if not decision.selected]
        behind = await self._behind(tx, waiting.may_give_way(unplaced, requests, timeout))
        candidates = [task for some in behind.values() for task in some]
        able = {task.task_id for task, decision in await self.assignment.decide(tx, candidates) if decision.selected}
        follows = waiting.decide(unplaced, behind, able, timeout)
        await tx.record_decisions([(task, decision, None) for task, decision in follows.news])
        await tx.move_tasks(follows.moves)
        await tx.postpone(follows.waits)
        await self.recorder.settle(tx, follows.settle)

    async def _behind(self, tx: Transaction, tasks: Sequence[TaskRecord]) -> dict[UUID, list[TaskRecord]]:
        """Return what may go before each of these tasks, in order, within what was approved."""
        others = await tx.tasks_of(task.request_id for task in tasks) if tasks else {}
        return {task.task_id: task_flow.overtakers(others[task.request_id], task) for task in tasks}

    # --- 6. Publish: after the commit, with confirms; a message is forgotten only when it has arrived ---------------

    async def publish(self) -> int:
        """Send what the transactions left in the outbox. Returns how many were sent."""
        async with self.store.transaction() as tx:
            waiting = await tx.take_outbox(self.settings.batch_size * 2)
            if not waiting:
                return 0
            outcomes = await self.broker.publish([(m.queue, m.body) for _, m in waiting])
            failed = [
                (number, message, error)
                for (number, message), error in zip(waiting, outcomes, strict=True)
                if error is not None
            ]
            # No queue means no reader. A control message is then void; an order waits for its agent, or for its
            # lease to run out, whichever comes first.
            later = {n for n, m, e in failed if not (isinstance(e, Unroutable) and m.attempt_id is None)}
            await tx.postpone_outbox(sorted(later))
            await tx.drop_outbox([number for number, _ in waiting if number not in later])
        return len(waiting) - len(later)

    # --- 7. Record: each result once, with all that follows from it -------------------------------------------------

    async def record(self, wires: Sequence[bytes]) -> None:
        """Apply messages from agents in one transaction; the caller acknowledges them after it."""
        async with self.store.transaction() as tx:
            await self.recorder.record(tx, wires)

    async def put_aside(self, wire: bytes, error: Unstorable) -> None:
        """Record a message that the database cannot hold: a result so that a person looks at it."""
        async with self.store.transaction() as tx:
            await self.recorder.put_aside(tx, wire, plain(str(error)))

    async def heartbeats(self, wires: Sequence[bytes]) -> None:
        """Apply heartbeats in one transaction."""
        async with self.store.transaction() as tx:
            await self.recorder.heartbeats(tx, wires)


def _without_plan(request: RequestRecord, decomposed: DecomposedRequest) -> RequestMove | None:
    """Return where a request goes of which no plan can be made yet, or at all; None when one can."""
    if decomposed.ambiguities:
        return _to(request, RequestStatus.ASKING, decomposed.ambiguities[0])
    if not decomposed.subtasks:
        wishes = "; ".join(decomposed.out_of_scope) or request.wording
        return _to(request, RequestStatus.REFUSED, f"no agent here can do this: {wishes}")
    return None


def _normalised(wish: str) -> str:
    """Return a wish in the form it is counted under."""
    return " ".join(wish.casefold().split()).strip(" .!?")[:200]


def _to(
    request: RequestRecord, new: RequestStatus, reason: str, data: Mapping[str, object] | None = None
) -> RequestMove:
    return RequestMove(request.request_id, request.status, new, reason, data or {})


def _task_to(task: TaskRecord, new: TaskStatus, reason: str, data: Mapping[str, object] | None = None) -> TaskMove:
    return TaskMove(task.task_id, task.request_id, task.status, new, reason, data=data or {})


def _taken(task: TaskRecord) -> dict[str, object]:
    """Return what a task takes from others, and from where, for its history."""
    refs = task.spec.inputs
    given = {n: {"task": refs[n].task, "output": refs[n].output, "value": v} for n, v in task.supplied.items()}
    return {"inputs": given} if given else {}
