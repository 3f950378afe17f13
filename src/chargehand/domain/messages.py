"""The payloads that travel between orchestrator and agents."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field, JsonValue

from chargehand.domain.intents import IntentSpec, Resources, Value


class Failure(Value):
    """How work failed, as an agent reports it. `kind` decides about retrying; `message` is for people only."""

    kind: Literal[
        "permanent",  # would fail again anywhere
        "retryable",  # may pass; try another agent
        "infrastructure",  # the agent itself is at fault; counts against its circuit
        "content_changed",  # not what was approved; nothing was run
        "cancelled",
        "unknown",  # started, outcome unknown
    ]
    message: str
    details: dict[str, JsonValue] = Field(default_factory=dict)


class WorkOrder(Value):
    """The payload of a `work_request`: everything an agent needs to run one attempt."""

    attempt_id: UUID
    task_id: UUID
    lease_token: int
    number: int  # which attempt of the task, from 1
    intent: str
    work_type: str
    parameters: dict[str, JsonValue]
    content_hash: str
    retry_safe: bool
    dry_run: bool = False
    lease_seconds: float  # how long the lease runs without being renewed, from sending
    deadline_seconds: float  # how long the work may take in all
    name: str = ""
    journal: str = ""  # the journal its agent registered with: a copy of the agent, with another one, leaves it alone


class WorkResult(Value):
    """The payload of a `work_result`: exactly one per attempt counts."""

    attempt_id: UUID
    lease_token: int
    ok: bool
    summary: str = ""
    changed: bool | None = None
    outputs: dict[str, JsonValue] = Field(default_factory=dict)  # values later tasks and people may use
    data: dict[str, JsonValue] = Field(default_factory=dict)  # counts, diffs: for the record
    failure: Failure | None = None
    duration_ms: int = 0
    resources_used: dict[str, float] = Field(default_factory=dict)
    difficulty: Literal["straightforward", "tricky", "failed"] | None = None


class Acceptance(Value):
    """The payload of `work_accepted`: the order is in the agent's journal. `needs_grant` asks for a `start`."""

    attempt_id: UUID
    lease_token: int
    incarnation: str
    needs_grant: bool


class Progress(Value):
    """The payload of `work_progress`. `started` is true on the first one, sent when the work begins.

    `message` holds a line for each thing said since the last one.
    """

    attempt_id: UUID
    lease_token: int
    message: str = ""
    data: dict[str, JsonValue] = Field(default_factory=dict)
    started: bool = False


class AgentRegistration(Value):
    """The payload of `register`: who an agent is and what it offers. An offer; granting is the operator's."""

    agent_id: str
    incarnation: str
    name: str
    agent_type: str
    pool_name: str
    version: str
    slots: int = Field(default=1, ge=1)
    specializations: tuple[str, ...] = ()
    resources: Resources = Resources(estimated_duration_seconds=0)
    intents: tuple[IntentSpec, ...] = ()
    draining: bool = False  # asked who it is, an agent on its way out answers without being taken for ready


class Heartbeat(Value):
    """The payload of `heartbeat`. `running` renews the leases of these attempts; `free` is what is unused now."""

    agent_id: str
    incarnation: str
    running: tuple[UUID, ...] = ()
    free: Resources = Resources(estimated_duration_seconds=0)
    load: float = 0.0
    draining: bool = False
