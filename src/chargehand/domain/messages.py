"""The payloads that travel between orchestrator and agents."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, JsonValue

from chargehand.domain.hosts import Hosts
from chargehand.domain.intents import YEAR, IntentSpec, Resources, Seconds
from chargehand.domain.value import Value

MOST_SLOTS = 1_000  # of one agent; each is a process on its machine
MOST_OPEN = 10 * MOST_SLOTS  # attempts that one heartbeat names: those that run, and the few per slot that wait
MOST_INTENTS = 500  # of one agent; above a hundred nobody finds the right one
MOST_USED = 1e15  # of a resource: a petabyte in bytes
MOST_FIGURES = 50  # resources that one result tells of
MOST_LOAD = 1e6  # runnable programs on one machine

Difficulty = Literal["straightforward", "tricky", "failed"]
"""How a run went: at once and as planned, with trouble, or not at all."""

Token = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A lease's number: a BIGINT, counted up by the database."""
Milliseconds = Annotated[int, Field(ge=0, le=YEAR * 1000)]
Used = Annotated[float, Field(ge=-MOST_USED, le=MOST_USED, allow_inf_nan=False)]


class Failure(Value):
    """How work failed, as an agent reports it. `kind` decides about retrying; `message` is for people only."""

    kind: Literal[
        "permanent",  # would fail again anywhere: the fault is in what was asked for
        "failed",  # failed on this agent; another one may do it
        "retryable",  # may pass; try another agent
        "infrastructure",  # the agent itself is at fault; counts against its circuit
        "content_changed",  # not what was approved; nothing was run
        "cancelled",
        "unknown",  # started, outcome unknown
        "unstored",  # it ended, and the database cannot hold what its agent says of that; agents do not say this
    ]
    message: str
    details: dict[str, JsonValue] = Field(default_factory=dict)


class WorkOrder(Value):
    """The payload of a `work_request`: everything an agent needs to run one attempt."""

    attempt_id: UUID
    task_id: UUID
    lease_token: Token
    number: Annotated[int, Field(ge=1, le=2**31 - 1)]  # an INTEGER; which attempt of the task, from 1
    intent: str
    work_type: str
    parameters: dict[str, JsonValue]
    content_hash: str
    retry_safe: bool
    dry_run: bool = False
    lease_seconds: Seconds  # how long the lease runs without being renewed, from sending
    deadline_seconds: Seconds  # how long the work may take in all
    name: str = ""
    hosts: tuple[Hosts, ...] = ()  # those that were approved; the work touches no other
    journal: str = ""  # the journal its agent registered with: a copy of the agent, with another one, leaves it alone


class WorkResult(Value):
    """The payload of a `work_result`: exactly one per attempt counts."""

    attempt_id: UUID
    lease_token: Token
    ok: bool
    summary: str = ""
    changed: bool | None = None
    in_part: str = ""  # what was left undone, in words; empty: nothing was
    outputs: dict[str, JsonValue] = Field(default_factory=dict)  # values later tasks and people may use
    data: dict[str, JsonValue] = Field(default_factory=dict)  # counts, diffs: for the record
    failure: Failure | None = None
    duration_ms: Milliseconds = 0
    resources_used: dict[str, Used] = Field(default_factory=dict, max_length=MOST_FIGURES)
    difficulty: Difficulty | None = None


class Acceptance(Value):
    """The payload of `work_accepted`: the order is in the agent's journal. `needs_grant` asks for a `start`."""

    attempt_id: UUID
    lease_token: Token
    incarnation: str
    needs_grant: bool


class Progress(Value):
    """The payload of `work_progress`. `started` is true on the first one, sent when the work begins.

    `message` holds a line for each thing said since the last one.
    """

    attempt_id: UUID
    lease_token: Token
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
    slots: int = Field(default=1, ge=1, le=MOST_SLOTS)
    specializations: tuple[str, ...] = Field(default=(), max_length=MOST_FIGURES)
    resources: Resources = Resources(estimated_duration_seconds=0)
    intents: tuple[IntentSpec, ...] = Field(default=(), max_length=MOST_INTENTS)
    draining: bool = False  # asked who it is, an agent on its way out answers without being taken for ready


class Heartbeat(Value):
    """The payload of `heartbeat`. `running` renews the leases of these attempts; `free` is what is unused now."""

    agent_id: str
    incarnation: str
    running: tuple[UUID, ...] = Field(default=(), max_length=MOST_OPEN)
    free: Resources = Resources(estimated_duration_seconds=0)
    load: float = Field(default=0.0, ge=0, le=MOST_LOAD, allow_inf_nan=False)
    draining: bool = False
