"""What people do to a request on its way: approve, reject, answer, cancel, retry, settle an unknown outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import JsonValue

from chargehand.catalog.catalog import Catalog
from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import (
    BadDecomposition,
    ContentChanged,
    NotPermitted,
    PlanChanged,
    UnknownId,
    WrongStatus,
)
from chargehand.domain.llm import Reply
from chargehand.domain.plans import DecomposedRequest, WorkTask
from chargehand.domain.records import (
    Anomaly,
    AttemptRecord,
    Call,
    PlanMove,
    PlanRecord,
    RequestMove,
    RequestRecord,
    TaskMove,
    TaskRecord,
)
from chargehand.domain.states import PlanStatus, RequestStatus, TaskStatus
from chargehand.domain.tiers import PERSON
from chargehand.engine.engine import Engine
from chargehand.engine.tier_chain import Understood
from chargehand.planning import approval, replan
from chargehand.understanding import nlu, questions, readings

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction

R, T = RequestStatus, TaskStatus

BEFORE_WORK = frozenset({R.ACCEPTED, R.DECOMPOSING, R.ASKING, R.AWAITING_APPROVAL})


REREAD_AT_ONCE = 200  # requests in one transaction


class RequestControl:
    """People's decisions. Each is one transaction, recorded with who made it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recorder = engine.recorder

    async def approve(self, request_id: UUID, digest: str, approver: str, words: str = "") -> RequestStatus:
        """Approve the plan with that digest and return where the request stands then.

        Repeating it changes nothing. Raises `UnknownId`, `PlanChanged` when the digest is not the current plan's,
        `NotPermitted` for an expired plan or one's own where another person is needed, `WrongStatus` otherwise.
        """
        async with self._engine.store.transaction() as tx:
            request = await tx.lock_request(request_id)
            plan = await tx.latest_plan(request_id)
            if plan is not None and plan.digest == digest and plan.status is PlanStatus.APPROVED:
                return request.status
            plan = approval.check_approvable(request, plan, digest, approver, self._engine.context(request))
            await tx.record_approval(plan, approver, "approved", words)
            await self._keep_unsigned(tx, plan, approver)
            plan = replace(plan, approvers=tuple(sorted({*plan.approvers, approver})), intact=True)
            if approval.still_missing(request, plan, self._engine.context(request)):
                return request.status
            reason = f"approved by {', '.join(plan.approvers)}"
            await self._engine.start_approved(tx, [(request, plan, reason)])
            return RequestStatus.RUNNING

    async def _keep_unsigned(self, tx: Transaction, plan: PlanRecord, approver: str) -> None:
        """Keep that somebody wrote approvals into the database who could not sign them. They do not count."""
        names = [name for name in plan.unsigned if name != approver]
        if names:
            detail = {"plan_id": str(plan.plan_id), "unsigned": names}
            await tx.keep_anomalies([Anomaly("forged_approval", detail, request_id=plan.request_id)])

    async def _check_consent(self, tx: Transaction, request: RequestRecord, plan: PlanRecord | None = None) -> None:
        """Raise `NotPermitted` unless the approval that was given still lets work of this request start."""
        plan = plan or await tx.latest_plan(request.request_id)
        reason = self._why_ask_again(request, plan) if plan else "it has no plan"
        if reason:
            raise NotPermitted(
                f"request {request.request_id} cannot go on: {reason}",
                hint="Cancel it, and submit it again: a new plan is approved anew.",
            )

    def _why_ask_again(self, request: RequestRecord, plan: PlanRecord) -> str | None:
        engine = self._engine
        return approval.why_ask_again(request, plan, engine.context(request), engine.settings.approval_expires)

    async def reject(self, request_id: UUID, digest: str, who: str, words: str = "") -> RequestStatus:
        """Refuse the plan with that digest. With `words` the request is understood anew from them and asked again.

        Raises `UnknownId`, `WrongStatus`, `PlanChanged`, and `BadRequest` for words that cannot be accepted.
        """
        wording = nlu.clean(words) if words else ""
        async with self._engine.store.transaction() as tx:
            request = await tx.lock_request(request_id)
            plan = await tx.latest_plan(request_id)
            if plan is None or request.status is not R.AWAITING_APPROVAL:
                raise _not_now(request, "reject a plan")
            if plan.digest != digest:
                raise PlanChanged("the plan is not the one you were shown", hint="Look at it again first.")
            await tx.record_approval(plan, who, "rejected", wording)
            new = PlanStatus.SUPERSEDED if wording else PlanStatus.REJECTED
            await tx.move_plans([PlanMove(plan.plan_id, request_id, plan.status, new)])
            if wording:
                await tx.reword(request_id, wording, who)
            after = R.ACCEPTED if wording else R.REJECTED
            await tx.move_requests([_move(request, after, f"rejected by {who}")])
            return after

    async def answer(self, request_id: UUID, words: str, who: str) -> RequestStatus:
        """Say a request again, more plainly, after it has asked, or pick one of the readings it offers by its number.

        The accepted text is kept beside what is said again. Raises `BadRequest`, `UnknownId`, `WrongStatus`.
        """
        wording = nlu.clean(words)
        async with self._engine.store.transaction() as tx:
            request = await tx.lock_request(request_id)
            if request.status not in (R.ASKING, R.IN_REVIEW) or await tx.latest_plan(request_id):
                raise _not_now(request, "answer")
            asked = await tx.latest_decomposition(request_id)
            if asked is not None and (picked := readings.picked(asked, wording)) is not None:
                return await self._pick(tx, request, picked, who)
            await tx.reword(request_id, wording, who)
            await tx.resolve_reviews(request_id, "said again", who)
            await tx.move_requests([_move(request, R.ACCEPTED, f"said again by {who}")])
            return R.ACCEPTED

    async def _pick(
        self, tx: Transaction, request: RequestRecord, picked: DecomposedRequest, who: str
    ) -> RequestStatus:
        """Go on with one of two readings of the same words, as the person who was asked says."""
        known = await tx.catalog()
        ask = questions.build_ask(request.request_id, request.wording, known)
        reply = Reply(tier=PERSON, model=who, value=None)
        await tx.record_calls([(ask, Call(reply, None, None, f"picked by {who}", "used", datetime.now(UTC)))])
        await tx.add_asker(request.request_id, who)
        request = request.asked_too(who)
        await tx.resolve_reviews(request.request_id, "picked", who)
        for new in (R.ACCEPTED, R.DECOMPOSING):
            await tx.move_requests([_move(request, new, f"one of its readings was picked by {who}")])
            request = replace(request, status=new)
        await self._engine.take_up(tx, [Understood(request, known, picked, ask)])
        return (await tx.lock_request(request.request_id)).status

    async def write(self, request_id: UUID, value: dict[str, JsonValue], who: str) -> RequestStatus:
        """Take what a person wrote as the decomposition of a request that could not be planned; it is then planned.

        It is checked as a model's is. Raises `BadDecomposition`, which says what to change (also where a needed
        parameter is missing), `UnknownId`, `WrongStatus`.
        """
        async with self._engine.store.transaction() as tx:
            request = await tx.lock_request(request_id)
            if request.status not in (R.ASKING, R.IN_REVIEW) or await tx.latest_plan(request_id):
                raise _not_now(request, "write its decomposition")
            known = await tx.catalog()
            ask = questions.build_ask(request_id, request.wording, known)
            reply = Reply(tier=PERSON, model=who, value=value)
            decomposed = nlu.read_reply(reply, ask, self._engine.thresholds)
            if decomposed.ambiguities:
                raise BadDecomposition("; ".join(decomposed.ambiguities))
            await tx.record_calls([(ask, Call(reply, None, None, f"written by {who}", "used", datetime.now(UTC)))])
            await tx.add_asker(request_id, who)
            request = request.asked_too(who)
            await tx.resolve_reviews(request_id, "written", who)
            for new in (R.ACCEPTED, R.DECOMPOSING):
                await tx.move_requests([_move(request, new, f"its decomposition was written by {who}")])
                request = replace(request, status=new)
            await self._engine.take_up(tx, [Understood(request, known, decomposed, ask)])
            return (await tx.lock_request(request_id)).status

    async def reread(self, who: str) -> list[UUID]:
        """Have everything read again that no model could plan: for when models can be reached again.

        Returns the requests, oldest first.
        """
        again: list[UUID] = []
        while True:
            async with self._engine.store.transaction() as tx:
                unread = await tx.unread_requests(REREAD_AT_ONCE)  # oldest first; locked in the order of their ids
                locked = await tx.lock_requests(unread)
                waiting = [locked[n] for n in unread if n in locked and locked[n].status is R.IN_REVIEW]
                for request in waiting:
                    await tx.resolve_reviews(request.request_id, "read again", who)
                await tx.move_requests([_move(r, R.ACCEPTED, f"read again by {who}") for r in waiting])
            again += [request.request_id for request in waiting]
            if not waiting:
                return again

    async def cancel(self, request_id: UUID, who: str) -> RequestStatus:
        """Stop a request: nothing new starts, what runs is ended by its agent. Repeating it changes nothing."""
        async with self._engine.store.transaction() as tx:
            request = await tx.lock_request(request_id)
            if request.status in (R.CANCELLING, R.CANCELLED):
                return request.status
            reason = f"cancelled by {who}"
            if request.status in BEFORE_WORK:
                await self._withdraw_plan(tx, request)
                await tx.move_requests([_move(request, R.CANCELLED, reason)])
                return R.CANCELLED
            if request.status not in (R.RUNNING, R.PAUSED, R.IN_REVIEW):
                raise _not_now(request, "cancel")
            return await self._stop_work(tx, request, reason, who)

    async def pause(self, request_id: UUID, who: str, task_id: UUID | None = None) -> RequestStatus:
        """Start nothing more of a request, or hold one task of it back; what runs is finished.

        Raises `UnknownId`, or `WrongStatus` when there is nothing to hold back any more.
        """
        async with self._engine.store.transaction() as tx:
            request = await tx.lock_request(request_id)
            if task_id is not None:
                task = await self._one_task(tx, request, task_id)
                if request.status not in (R.RUNNING, R.PAUSED) or task.status not in (T.PENDING, T.READY):
                    raise _not_now(request, f"pause a task that is {task.status}")
                await tx.move_tasks([_task(task, T.PAUSED, f"paused by {who}")])
            elif request.status is R.RUNNING:
                await tx.move_requests([_move(request, R.PAUSED, f"paused by {who}")])
                return R.PAUSED
            elif request.status is not R.PAUSED:
                raise _not_now(request, "pause")
            return request.status

    async def resume(self, request_id: UUID, who: str, task_id: UUID | None = None) -> RequestStatus:
        """Go on with what `pause` held back.

        Raises `UnknownId`, `WrongStatus`, and `NotPermitted` when the approval does not last that long.
        """
        async with self._engine.store.transaction() as tx:
            request = await tx.lock_request(request_id)
            if task_id is not None:
                task = await self._one_task(tx, request, task_id)
                if task.status is not T.PAUSED:
                    raise _not_now(request, f"resume a task that is {task.status}")
                await self._check_consent(tx, request)
                await tx.move_tasks([_task(task, T.PENDING, f"resumed by {who}")])
            elif request.status is R.PAUSED:
                await self._check_consent(tx, request)
                await tx.move_requests([_move(request, R.RUNNING, f"resumed by {who}")])
                tx.wakes.add("dispatch")
            elif request.status is not R.RUNNING:
                raise _not_now(request, "resume")
            await self._recorder.settle(tx, [request_id])
            return (await tx.lock_request(request_id)).status

    async def _one_task(self, tx: Transaction, request: RequestRecord, task_id: UUID) -> TaskRecord:
        tasks = (await tx.tasks_of([request.request_id])).get(request.request_id, [])
        for task in tasks:
            if task.task_id == task_id:
                return task
        raise UnknownId(f"request {request.request_id} has no task {task_id}")

    async def tell_agents(
        self, tx: Transaction, request: RequestRecord, only: Sequence[AttemptRecord] | None = None
    ) -> None:
        """Send a cancel for every attempt of a request that holds a lease, or for some of them."""
        open_attempts = await tx.open_attempts(request.request_id)
        if only is not None:
            chosen = {attempt.attempt_id for attempt in only}
            open_attempts = [a for a in open_attempts if a.attempt_id in chosen]
        agents = await tx.known_agents(a.agent_id for a in open_attempts)
        await tx.send(
            [
                self._recorder.control(
                    agents[a.agent_id],
                    MessageType.CANCEL,
                    {
                        "attempt_id": str(a.attempt_id),
                        "lease_token": a.lease_token,
                        "reason": f"the request is {request.status}",
                    },
                    request,
                )
                for a in open_attempts
            ]
        )
        await tx.mark_cancel_sent([a.attempt_id for a in open_attempts])

    async def retry(self, request_id: UUID, who: str, *, assume_done: bool = False) -> RequestStatus:
        """Go on with a request that failed or waits for a person.

        Failed tasks are run again and what was skipped after them follows; what succeeded stays. A task whose outcome
        is unknown is run again too, or counted as done with `assume_done`. When a playbook was changed since the
        approval, or the approval does not last that long, a new plan of what is left is made and must be approved.
        Raises `UnknownId`, `WrongStatus`, `MissingOutput` when that needs what a done task did not return, and
        `NotPermitted` where a step with an unknown outcome is in the way of a new plan.
        """
        async with self._engine.store.transaction() as tx:
            request = await tx.lock_request(request_id)
            plan = await tx.latest_plan(request_id)
            if plan is None and request.status is R.IN_REVIEW:
                await tx.resolve_reviews(request_id, "tried again", who)
                await tx.move_requests([_move(request, R.ACCEPTED, f"tried again by {who}")])
                return R.ACCEPTED
            if plan is None or request.status not in (R.FAILED, R.IN_REVIEW):
                raise _not_now(request, "retry")
            tasks = (await tx.tasks_of([request_id])).get(request_id, [])
            known = await tx.catalog()
            changed = [t.spec for t in tasks if t.status is not T.SUCCEEDED and _content_differs(t.spec, known)]
            if changed and not assume_done:
                return await self._plan_the_rest(tx, request, plan, tasks, known)
            if self._why_ask_again(request, plan) and _would_start(tasks, assume_done=assume_done):
                if request.status is R.FAILED:
                    return await self._plan_the_rest(tx, request, plan, tasks, known)
                await self._check_consent(tx, request, plan)
            return await self._go_on(tx, request, tasks, who, assume_done=assume_done)

    async def _go_on(
        self, tx: Transaction, request: RequestRecord, tasks: Sequence[TaskRecord], who: str, *, assume_done: bool
    ) -> RequestStatus:
        again = [t for t in tasks if t.status in (T.FAILED, T.IN_REVIEW)]
        done = [t for t in again if assume_done and t.status is T.IN_REVIEW]
        rerun = [t for t in again if t not in done]
        skipped = [t for t in tasks if t.status is T.SKIPPED]
        await tx.reset_tasks([t.task_id for t in rerun])
        await tx.move_requests([_move(request, R.RUNNING, f"taken up again by {who}")])
        await tx.move_tasks(
            [_task(t, T.SUCCEEDED, f"{who} says that it is done") for t in done]
            + [_task(t, T.READY, f"run again by {who}") for t in rerun]
            + [_task(t, T.PENDING, "what failed before it is tried again") for t in skipped]
        )
        await tx.resolve_reviews(request.request_id, "done" if assume_done else "run again", who)
        await self._recorder.settle(tx, [request.request_id])
        return R.RUNNING

    async def _plan_the_rest(
        self,
        tx: Transaction,
        request: RequestRecord,
        plan: PlanRecord,
        tasks: Sequence[TaskRecord],
        known: Catalog,
    ) -> RequestStatus:
        """Make a new plan of what is not done, because the content that was approved is no longer there."""
        if request.status is not R.FAILED:
            raise ContentChanged(
                "a playbook was changed since this was approved",
                hint="Say with --done that the task is done, or cancel the request and submit it again.",
            )
        decomposed = await tx.latest_decomposition(request.request_id)
        if decomposed is None:
            raise _not_now(request, "retry")
        wanted = {(request.request_id, plan.plan_id, order) for order in replan.givers(tasks)}
        returned = (await tx.returned(wanted)).get(plan.plan_id, {}) if wanted else {}
        rest = replan.rest(decomposed, tasks, returned)
        await tx.move_plans([PlanMove(plan.plan_id, request.request_id, plan.status, PlanStatus.SUPERSEDED)])
        await tx.save_decompositions([(request.wording, rest)], asdict(self._engine.thresholds))
        await self._engine.plan(tx, [(request, rest)], {request.request_id: known})
        return (await tx.lock_request(request.request_id)).status

    async def _stop_work(self, tx: Transaction, request: RequestRecord, reason: str, who: str) -> RequestStatus:
        if request.status is R.IN_REVIEW and not await tx.latest_plan(request.request_id):
            await tx.resolve_reviews(request.request_id, "cancelled", who)
            await tx.move_requests([_move(request, R.CANCELLED, reason)])
            return R.CANCELLED
        tasks = (await tx.tasks_of([request.request_id])).get(request.request_id, [])
        waiting = [t for t in tasks if t.status in (T.PENDING, T.READY, T.PAUSED, T.IN_REVIEW)]
        await tx.move_requests([_move(request, R.CANCELLING, reason)])
        await tx.move_tasks([_task(t, T.CANCELLED, reason) for t in waiting])
        await tx.resolve_reviews(request.request_id, "cancelled", who)
        await self.tell_agents(tx, request)
        await self._recorder.settle(tx, [request.request_id])
        return (await tx.lock_request(request.request_id)).status

    async def _withdraw_plan(self, tx: Transaction, request: RequestRecord) -> None:
        plan = await tx.latest_plan(request.request_id)
        if plan is not None and plan.status is PlanStatus.PENDING_APPROVAL:
            moved = PlanMove(plan.plan_id, request.request_id, plan.status, PlanStatus.SUPERSEDED)
            await tx.move_plans([moved])


def _would_start(tasks: Sequence[TaskRecord], *, assume_done: bool) -> bool:
    """Whether any work is left to do, once what is in review is counted as done or run again."""
    done = {T.SUCCEEDED, T.CANCELLED} | ({T.IN_REVIEW} if assume_done else set())
    return any(task.status not in done for task in tasks)


def _content_differs(task: WorkTask, known: Catalog) -> bool:
    spec = known.get(task.intent)
    return spec is None or spec.content_hash != task.content_hash


def _not_now(request: RequestRecord, what: str) -> WrongStatus:
    return WrongStatus(
        f"request {request.request_id} is {request.status}: you cannot {what} now",
        hint=f"`chargehand status {request.request_id}` shows where it stands.",
    )


def _move(request: RequestRecord, new: RequestStatus, reason: str) -> RequestMove:
    return RequestMove(request.request_id, request.status, new, reason)


def _task(task: TaskRecord, new: TaskStatus, reason: str) -> TaskMove:
    return TaskMove(task.task_id, task.request_id, task.status, new, reason)
