"""Values with good defaults for tests: name only what the test is about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from chargehand.catalog.catalog import Catalog, merge
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.plans import DecomposedRequest, Subtask, WorkPlan, WorkTask
from chargehand.domain.records import AttemptRecord, RequestRecord, TaskRecord
from chargehand.domain.routing import AgentFacts
from chargehand.domain.states import AttemptStatus, RequestStatus, TaskStatus

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NAMESPACE = UUID("6f1e0d52-7f4b-4c0e-9a55-2f3c8d0b7a11")


def make_id(name: object) -> UUID:
    """The same name always gives the same id, so that failures read alike."""
    return uuid5(NAMESPACE, str(name))


def make_resources(seconds: int = 60, cpu: int = 1, memory: int = 0, gpu: int = 0) -> Resources:
    return Resources(estimated_duration_seconds=seconds, cpu_cores=cpu, memory_mb=memory, gpu_vram_mb=gpu)


def make_spec(intent: str = "deploy_service_a", **fields: Any) -> IntentSpec:
    """An available change that takes no parameters, unless `parameters` holds the properties of some."""
    properties = fields.pop("parameters", {})
    schema = properties if "properties" in properties else {"type": "object", "properties": properties}
    defaults: dict[str, Any] = {
        "work_type": "deploy_service",
        "description": intent.replace("_", " "),
        "parameters": schema,
        "content_hash": f"hash-of-{intent}",
        "source": f"{intent}.yml",
    }
    return IntentSpec(intent=intent, **(defaults | fields))


def make_catalog(*specs: IntentSpec | str) -> Catalog:
    """A catalog of specs; a name stands for `make_spec(name)`."""
    return merge(make_spec(spec) if isinstance(spec, str) else spec for spec in specs)


def make_agent(agent_id: str = "infra-1", intent: str = "deploy_service_a", **fields: Any) -> AgentFacts:
    """An idle, granted agent that offers what `make_spec(intent)` describes, on a machine with 8 cores."""
    defaults: dict[str, Any] = {
        "name": agent_id,
        "agent_type": "infra",
        "pool_name": "default",
        "status": "online",
        "granted": True,
        "content_hash": f"hash-of-{intent}",
        "slots": 4,
        "cpu_cores": 8,
        "memory_mb": 16_384,
    }
    return AgentFacts(agent_id=agent_id, **(defaults | fields))


def make_task(order: int = 1, intent: str = "deploy_service_a", **fields: Any) -> WorkTask:
    """A change that any `make_agent(intent=...)` can do; its id follows from its order."""
    defaults: dict[str, Any] = {
        "task_id": make_id(f"task {order}"),
        "name": f"{intent.replace('_', ' ')} ({order})",
        "work_type": "deploy_service",
        "agent_type": "infra",
        "content_hash": f"hash-of-{intent}",
    }
    return WorkTask(order=order, intent=intent, **(defaults | fields))


def make_plan(*tasks: WorkTask, **fields: Any) -> WorkPlan:
    """A plan of these tasks (one default task if none), waiting for approval; no digest unless given."""
    defaults: dict[str, Any] = {
        "plan_id": make_id("plan"),
        "request_id": make_id("request"),
        "estimated_duration_seconds": 60,
        "complexity_level": "simple",
        "created_at": NOW,
    }
    return WorkPlan(tasks=tasks or (make_task(),), **(defaults | fields))


def make_subtask(order: int = 1, intent: str = "deploy_service_a", **fields: Any) -> Subtask:
    defaults: dict[str, Any] = {"name": intent.replace("_", " "), "confidence": 0.95}
    return Subtask(order=order, intent=intent, **(defaults | fields))


def make_decomposed(*subtasks: Subtask | str, **fields: Any) -> DecomposedRequest:
    """A request of these subtasks in this order; a name stands for `make_subtask(place, name)`."""
    made: Sequence[Subtask] = [
        make_subtask(place, subtask) if isinstance(subtask, str) else subtask
        for place, subtask in enumerate(subtasks, start=1)
    ]
    return DecomposedRequest(subtasks=tuple(made), **({"request_id": make_id("request"), "tier": "local"} | fields))


def make_request_record(name: object = "request", status: str = "running", **fields: Any) -> RequestRecord:
    defaults: dict[str, Any] = {"mode": "sequential", "dry_run": False, "trace_id": make_id(f"trace of {name}")}
    return RequestRecord(make_id(name), "do it", "ann", status=RequestStatus(status), **(defaults | fields))


def make_task_record(spec: WorkTask | None = None, status: str = "ready", **fields: Any) -> TaskRecord:
    """A task as it stands, of `make_request_record()` unless `request_id` is given; its id is that of its spec."""
    spec = spec or make_task()
    defaults: dict[str, Any] = {
        "task_id": spec.task_id,
        "request_id": make_id("request"),
        "plan_id": make_id("plan"),
        "order": spec.order,
        "intent": spec.intent,
        "work_type": spec.work_type,
        "status_reason": "",
        "attempts_made": 0,
        "tried": (),
    }
    return TaskRecord(spec=spec, status=TaskStatus(status), **(defaults | fields))


def make_attempt(task: TaskRecord, status: str = "leased", **fields: Any) -> AttemptRecord:
    """An attempt at a task by the agent `make_id("agent")`, under the lease token 7."""
    defaults: dict[str, Any] = {"agent_id": make_id("agent"), "number": 1, "lease_token": 7, "lease_left": 30.0}
    ids = {"attempt_id": make_id(f"attempt at {task.task_id}"), "task_id": task.task_id, "request_id": task.request_id}
    return AttemptRecord(status=AttemptStatus(status), **(ids | defaults | fields))
