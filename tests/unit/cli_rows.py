"""Rows as the views return them, for what renders them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
REQUEST_ID = UUID("4f5c0001-0000-4000-8000-000000000000")


def task_id(order: int) -> UUID:
    return UUID(int=REQUEST_ID.int + order)


def a_request(**fields: Any) -> dict[str, Any]:
    return {
        "request_id": REQUEST_ID,
        "idempotency_key": "k1",
        "text": "write the greeting",
        "wording": "write the greeting",
        "requester": "ann",
        "mode": "sequential",
        "dry_run": False,
        "status": "completed",
        "status_reason": "all 2 done",
        "created_at": NOW - timedelta(minutes=2),
        "ended_at": NOW,
        "event_count": 12,
    } | fields


def a_step(order: int = 1, **fields: Any) -> dict[str, Any]:
    """A task as it stands in a plan."""
    return {
        "order": order,
        "name": f"Step {order}",
        "intent": f"do_{order}",
        "parameters": {},
        "risk": "change",
        "retry_safe": True,
        "depends_on": [],
        "resource_requirements": {
            "cpu_cores": 1,
            "memory_mb": 64,
            "gpu_vram_mb": 0,
            "estimated_duration_seconds": 6,
        },
        "source": f"/playbooks/{order}.yml",
        "content_hash": "c" * 64,
    } | fields


def a_plan(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    plan = {
        "tasks": list(steps or [a_step()]),
        "mode": "sequential",
        "dry_run": False,
        "notes": [],
        "out_of_scope": [],
        "estimated_duration_seconds": 6,
        "complexity_level": "simple",
    } | fields
    return {
        "plan_id": UUID(int=7),
        "version": 1,
        "digest": "ab12" * 16,
        "status": "approved",
        "plan": plan,
        "ruling": {"rule": "default", "action": "ask", "reason": "a person agrees to every plan"},
        "expires_at": NOW,
        "decided_at": NOW - timedelta(seconds=9),
    }


def a_task(order: int = 1, status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    return {
        "task_id": task_id(order),
        "plan_id": UUID(int=7),
        "task_order": order,
        "intent": f"do_{order}",
        "spec": a_step(order),
        "status": status,
        "status_reason": "ok 3, changed 1, failed 0",
        "wants_capacity": False,
        "result": {"changed": True, "outputs": {}, "data": {}},
    } | fields


def an_attempt(order: int = 1, number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "attempt_id": UUID(int=order * 100 + number),
        "task_id": task_id(order),
        "number": number,
        "agent": "infra-1",
        "status": "succeeded",
        "duration_ms": 2300,
        "lease_token": 4,
        "result": {"summary": "ok 3, changed 1, failed 0", "data": {}},
    } | fields


def a_decomposition(**fields: Any) -> dict[str, Any]:
    value = {
        "subtasks": [{"words": "write it", "name": "Write", "intent": "do_1", "parameters": {}, "confidence": 0.97,
                      "flags": []}],
        "ambiguities": [],
        "out_of_scope": [],
        "assumptions": [],
        "notice": "No LLM is configured: plain commands only.",
    }  # fmt: skip
    row = {"tier": "embedded", "model": "catalogue match", "wording": "write it", "thresholds": {"flag": 0.6}}
    return row | {"value": value | fields}


def a_decision(order: int = 1, **fields: Any) -> dict[str, Any]:
    rejected = {"name": "infra-2", "rejected_by": "online", "reason": "offline for 40 s", "terms": {}, "score": None}
    chosen = {"name": "infra-1", "rejected_by": None, "reason": "", "terms": {"chance": 0.9}, "score": 0.9}
    return {
        "task_id": task_id(order),
        "attempt_id": UUID(int=order * 100 + 1),
        "reason": "infra-1: chance 0.90 (46 runs); no other candidate",
        "decision": {"candidates": [chosen, rejected]},
    } | fields
