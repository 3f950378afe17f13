"""Values as doors get them, with good defaults: name only what the test is about."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from chargehand.app.fleet import Agent, CatalogEntry, Offer, Wish
from chargehand.app.history import HistoryEvent
from chargehand.app.snapshot import (
    Attempt,
    Decomposition,
    LlmCall,
    Plan,
    Request,
    Result,
    Review,
    ReviewContext,
    Snapshot,
    Task,
)
from chargehand.app.trail import Anomaly, Approval, DecisionTrail, Routed
from chargehand.domain.intents import Resources
from chargehand.domain.plans import DecomposedRequest, Ruling, Subtask, WorkTask
from chargehand.domain.states import AttemptStatus, PlanStatus, RequestStatus, TaskStatus
from tests.builders import NOW, make_plan, make_spec, make_task

REQUEST_ID = UUID("4f5c0001-0000-4000-8000-000000000000")
PLAN_ID, AGENT_ID = UUID(int=7), UUID(int=5)


def task_id(order: int) -> UUID:
    return UUID(int=REQUEST_ID.int + order)


def a_request(**fields: Any) -> Request:
    defaults: dict[str, Any] = {
        "request_id": REQUEST_ID,
        "idempotency_key": "k1",
        "body_digest": "d" * 64,
        "text": "write the greeting",
        "wording": "write the greeting",
        "requester": "ann",
        "mode": "sequential",
        "dry_run": False,
        "status": RequestStatus.COMPLETED,
        "status_reason": "all 2 done",
        "trace_id": UUID(int=8),
        "priority": "normal",
        "head_start": 0.0,
        "not_before": None,
        "otherwise": (),
        "claim_token": None,
        "claim_until": None,
        "failures": 0,
        "read_by_tier": "embedded",
        "read_by_model": "catalogue match",
        "event_count": 12,
        "turn": NOW,
        "created_at": NOW - timedelta(minutes=2),
        "updated_at": NOW,
        "ended_at": NOW,
    }
    return Request(**(defaults | fields))


def a_step(order: int = 1, **fields: Any) -> WorkTask:
    """A task as it stands in a plan."""
    defaults: dict[str, Any] = {
        "name": f"Step {order}",
        "retry_safe": True,
        "resource_requirements": Resources(cpu_cores=1, memory_mb=64, gpu_vram_mb=0, estimated_duration_seconds=6),
        "source": f"/playbooks/{order}.yml",
        "content_hash": "c" * 64,
    }
    return make_task(order, f"do_{order}", **(defaults | fields))


def a_plan(*steps: WorkTask, **fields: Any) -> Plan:
    """A stored plan of these steps (one if none); fields are those of the plan in it."""
    return Plan(
        plan_id=PLAN_ID,
        request_id=REQUEST_ID,
        version=1,
        digest="ab12" * 16,
        status=PlanStatus.APPROVED,
        plan=make_plan(*(steps or (a_step(),)), **({"estimated_duration_seconds": 6} | fields)),
        ruling=Ruling(rule="default", action="ask", reason="a person agrees to every plan"),
        created_at=NOW,
        expires_at=NOW,
        decided_at=NOW - timedelta(seconds=9),
    )


def a_result(**fields: Any) -> Result:
    return Result(**({"ok": True, "changed": True, "outputs": {}, "data": {}} | fields))


def a_task(order: int = 1, status: TaskStatus = TaskStatus.SUCCEEDED, **fields: Any) -> Task:
    defaults: dict[str, Any] = {
        "task_id": task_id(order),
        "request_id": REQUEST_ID,
        "plan_id": PLAN_ID,
        "task_order": order,
        "intent": f"do_{order}",
        "work_type": "run_playbook",
        "agent_type": "infra",
        "spec": a_step(order),
        "status": status,
        "status_reason": "ok 3, changed 1, failed 0",
        "attempts_made": 1,
        "forgiven": 0,
        "tried": (),
        "ready_since": NOW,
        "due_at": None,
        "turn": NOW,
        "wants_capacity": False,
        "waits_for": None,
        "chose_until": None,
        "failures": 0,
        "result": a_result(),
        "read_by_tier": "embedded",
        "read_by_model": "catalogue match",
        "created_at": NOW,
        "updated_at": NOW,
        "ended_at": NOW,
    }
    return Task(**(defaults | fields))


def an_attempt(order: int = 1, number: int = 1, **fields: Any) -> Attempt:
    defaults: dict[str, Any] = {
        "attempt_id": UUID(int=order * 100 + number),
        "task_id": task_id(order),
        "request_id": REQUEST_ID,
        "agent_id": AGENT_ID,
        "number": number,
        "lease_token": 4,
        "status": AttemptStatus.SUCCEEDED,
        "incarnation": "journal.life",
        "lease_until": NOW,
        "start_by": NOW,
        "deadline_at": NOW,
        "lease_seconds": 30.0,
        "created_at": NOW,
        "accepted_at": NOW,
        "started_at": NOW,
        "begun_at": None,
        "ended_at": NOW,
        "cancel_sent": False,
        "duration_ms": 2300,
        "result": a_result(summary="ok 3, changed 1, failed 0"),
        "agent": "infra-1",
    }
    return Attempt(**(defaults | fields))


def a_subtask(**fields: Any) -> Subtask:
    defaults = {"order": 1, "words": "write it", "name": "Write", "intent": "do_1", "confidence": 0.97}
    return Subtask(**(defaults | fields))


def a_decomposition(**fields: Any) -> Decomposition:
    """What was understood; fields are those of the decomposed request in it."""
    defaults: dict[str, Any] = {
        "request_id": REQUEST_ID,
        "subtasks": (a_subtask(),),
        "notice": "No LLM is configured: plain commands only.",
    }
    return Decomposition(
        decomposition_id=1,
        request_id=REQUEST_ID,
        wording="write it",
        tier="embedded",
        model="catalogue match",
        value=DecomposedRequest(**(defaults | fields)),
        thresholds={"flag": 0.6},
        created_at=NOW,
    )


def a_call(**fields: Any) -> LlmCall:
    defaults: dict[str, Any] = {
        "call_id": 1,
        "request_id": REQUEST_ID,
        "purpose": "skeleton",
        "tier": "local",
        "model": "qwen",
        "prompt_version": "1",
        "seconds": 2.0,
        "tokens_in": 0,
        "tokens_out": 0,
        "tokens_cached": 0,
        "cost_usd": Decimal(0),
        "error_class": None,
        "error": None,
        "answer": None,
        "choice": "first choice: the local model",
        "followed": "leave",
        "created_at": NOW,
    }
    return LlmCall(**(defaults | fields))


def a_decision(order: int = 1, stored: dict[str, Any] | None = None, **fields: Any) -> Routed:
    """A routing decision for a step; `stored` is what its document holds besides its candidates."""
    rejected = {"name": "infra-2", "rejected_by": "online", "reason": "offline for 40 s", "terms": {}, "score": None}
    chosen = {"name": "infra-1", "rejected_by": None, "reason": "", "terms": {"chance": 0.9}, "score": 0.9}
    defaults: dict[str, Any] = {
        "id": order,
        "task_id": task_id(order),
        "work_type": "run_playbook",
        "agent_pool": "local",
        "selected_agent_id": AGENT_ID,
        "success_rate_percent": 90,
        "specialization_match": False,
        "recent_context_match": False,
        "retried": False,
        "reason": "infra-1: chance 0.90 (46 runs); no other candidate",
        "created_at": NOW,
        "attempt_id": UUID(int=order * 100 + 1),
        "decision": {"candidates": [chosen, rejected], **(stored or {})},
        "predicted_success": None,
        "predicted_ms": None,
        "succeeded": True,
        "duration_ms": 2300,
    }
    return Routed(**(defaults | fields))


def an_approval(**fields: Any) -> Approval:
    defaults: dict[str, Any] = {
        "approval_id": 1,
        "plan_id": PLAN_ID,
        "digest": "ab12" * 16,
        "approver": "bob",
        "decision": "approved",
        "words": "",
        "created_at": NOW,
        "version": 1,
    }
    return Approval(**(defaults | fields))


def a_review(**fields: Any) -> Review:
    defaults: dict[str, Any] = {
        "review_id": 3,
        "request_id": REQUEST_ID,
        "task_id": None,
        "kind": "no_plan",
        "reason": "nobody knows",
        "context": ReviewContext(),
        "status": "open",
        "resolution": None,
        "resolved_by": None,
        "created_at": NOW,
        "resolved_at": None,
    }
    return Review(**(defaults | fields))


def an_anomaly(**fields: Any) -> Anomaly:
    defaults: dict[str, Any] = {
        "anomaly_id": 1,
        "at": NOW,
        "kind": "late_work_result",
        "agent_id": str(AGENT_ID),
        "attempt_id": None,
        "request_id": REQUEST_ID,
        "detail": {"x": 1},
    }
    return Anomaly(**(defaults | fields))


def an_event(kind: str, data: dict[str, Any], order: int | None = 1, at: datetime = NOW) -> HistoryEvent:
    return HistoryEvent(3, kind, task_id(order) if order else None, None, data, at)


def a_trail(**parts: Any) -> DecisionTrail:
    """A request of two steps that was decided in every way there is."""
    retry = {"action": "again", "reason": "it may pass", "wait_seconds": 1.0}
    defaults: dict[str, Any] = {
        "request": a_request(),
        "decompositions": (a_decomposition(out_of_scope=("make coffee",)),),
        "llm_calls": (a_call(error="no such intent"), a_call(model="catalogue match")),
        "plans": (a_plan(a_step(1), a_step(2, depends_on=(1,))),),
        "approvals": (an_approval(),),
        "tasks": (a_task(1), a_task(2)),
        "decisions": (a_decision(1), a_decision(2)),
        "attempts": (an_attempt(1), an_attempt(2)),
        "reviews": (),
        "anomalies": (an_anomaly(),),
        "events": (an_event("task.ready", {"decision": retry}, at=NOW - timedelta(seconds=5)),),
    }
    return DecisionTrail(**(defaults | parts))


def a_snapshot(*tasks: Task, attempts: tuple[Attempt, ...] = (), **fields: Any) -> Snapshot:
    defaults: dict[str, Any] = {
        "request": a_request(),
        "plan": a_plan(),
        "decomposition": a_decomposition(),
        "questions": (),
    }
    return Snapshot(tasks=tasks, attempts=attempts, **(defaults | fields))


def an_agent(**fields: Any) -> Agent:
    defaults: dict[str, Any] = {
        "agent_id": AGENT_ID,
        "agent_type": "infra",
        "pool_name": "local",
        "capabilities": ("run_playbook",),
        "specializations": (),
        "status": "online",
        "last_heartbeat_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
        "name": "infra-1",
        "incarnation": "journal.life",
        "key_generation": 1,
        "spoken_generation": 1,
        "admin_specializations": None,
        "drained": False,
        "grant_policy": None,
        "slots": 2,
        "in_flight": 1,
        "resources": {},
        "free": {},
        "load": 0.0,
        "version": "1",
        "overall_successes": 3.0,
        "overall_runs": 4.0,
        "infrastructure_failures": 0,
        "circuit_open_until": None,
        "rival": None,
        "rival_since": None,
        "rival_at": None,
        "rival_silent_seconds": None,
        "silent_seconds": Decimal(3),
        "successes": 3,
        "failures": 1,
        "total_ms": Decimal(8000),
    }
    return Agent(**(defaults | fields))


def an_offer(agent: str = "infra-1", **fields: Any) -> Offer:
    """A granted offer of `deploy_it` as it is registered; `spec` holds changes of it."""
    spec = make_spec("deploy_it", **fields.pop("spec", {})).as_registered(agent)
    defaults: dict[str, Any] = {
        "agent_id": UUID(int=7),
        "intent": spec.intent,
        "spec": spec,
        "content_hash": spec.content_hash,
        "unavailable": None,
        "granted": True,
        "granted_by": "ann",
        "granted_at": NOW,
        "granted_terms": spec.terms,
        "absent_since": None,
        "offered_at": NOW,
        "name": agent,
        "status": "online",
    }
    return Offer(**(defaults | fields))


def an_entry(intent: str = "deploy_it", **fields: Any) -> CatalogEntry:
    spec = make_spec(intent, **fields)
    return CatalogEntry(**{**{name: getattr(spec, name) for name in type(spec).model_fields}, "agent": "infra-1"})


def a_wish(wish: str, times: int) -> Wish:
    return Wish(wish=wish, times=times, last_request_id=None, first_at=NOW, last_at=NOW)
