"""What travels: intents, requests, plans, work orders, results. Values only; nothing here decides or does I/O.

`WorkTask`, `WorkPlan` and `DecomposedRequest` keep the names and fields of the research this product grew from.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

WORK_TYPES = (
    "deploy_service",
    "run_playbook",
    "add_configuration",
    "run_automation",
    "monitor_system",
    "custom_work",
)


class Value(BaseModel):
    """An immutable value; unknown fields are a mistake, not a surprise for later."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Risk(StrEnum):
    """What a task can do to the machines it touches."""

    READ = "read"
    CHANGE = "change"
    DESTROY = "destroy"


class Resources(Value):
    """What a task needs of its agent. Durations in seconds, memory in MiB."""

    estimated_duration_seconds: int = Field(default=60, ge=0)
    cpu_cores: int = Field(default=1, ge=0)
    memory_mb: int = Field(default=0, ge=0)
    gpu_vram_mb: int = Field(default=0, ge=0)


Otherwise = Literal["wait", "variant"]
"""What may be done with work that nobody can do as asked: wait until an agent is back, or take a variant of it."""


class Variant(Value):
    """Another way to do an intent: with fewer resources, on the CPU instead of the GPU. `parameters` replace those."""

    name: str
    resources: Resources
    parameters: dict[str, JsonValue] = {}


class Deadlines(Value):
    """A task's own limits in seconds; None: the settings'. `heartbeat_seconds` of silence and it is lost."""

    start_seconds: float | None = Field(default=None, gt=0)
    run_seconds: float | None = Field(default=None, gt=0)
    heartbeat_seconds: float | None = Field(default=None, gt=0)


class OutputRef(Value):
    """Where the value of a parameter comes from: the output of an earlier task, by that task's order.

    It stands beside the parameters, in a field of its own: nothing that is written among them can be taken for one.
    """

    task: int = Field(ge=1)
    output: str = Field(min_length=1, max_length=64)


class IntentSpec(Value):
    """One thing that can be asked for, as an agent offers it.

    `parameters` is a JSON schema of type object, and so is `outputs`: what it returns and later tasks may take; empty
    when it declares nothing. `exclusive_keys` may hold `{parameter}` slots. `content_hash` is the
    digest of what will run (playbook with everything it includes, script, handler version). `unavailable` says why
    this agent cannot do it as things are (a missing program, broken YAML).
    """

    intent: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    work_type: str
    agent_type: str = "infra"
    description: str = ""
    service: str | None = None
    examples: tuple[str, ...] = ()
    parameters: dict[str, JsonValue] = {"type": "object", "properties": {}}
    outputs: dict[str, JsonValue] = {}
    resources: Resources = Resources()
    variants: tuple[Variant, ...] = ()  # the best one first
    risk: Risk = Risk.CHANGE
    retry_safe: bool = False
    exclusive_keys: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    dry_run: bool = False
    deadlines: Deadlines = Deadlines()
    content_hash: str = ""
    source: str = ""  # the file it comes from, for people
    unavailable: str | None = None


class Subtask(Value):
    """One thing asked for, as a decomposer understood it.

    `confidence` is ours (calibrated), `claimed_confidence` the model's own, `terms` what made the one of the other, in
    log-odds (`calibration.TERMS`). `words` is the part of the request it stands for. `flags` are reasons to look
    twice, for people.
    """

    order: int = Field(ge=1)
    name: str
    intent: str
    confidence: float = Field(ge=0, le=1)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: dict[str, OutputRef] = Field(default_factory=dict)  # parameters that earlier subtasks give
    depends_on: tuple[int, ...] = ()
    words: str = ""
    claimed_confidence: float | None = None
    terms: dict[str, float] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()


class DecomposedRequest(Value):
    """A request as subtasks. A non-empty `ambiguities` means that a person must answer before there is a plan."""

    request_id: UUID
    subtasks: tuple[Subtask, ...]
    ambiguities: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    tier: str = ""  # which tier answered: memory, local, external, embedded, person
    model: str = ""
    notice: str = ""  # one line for the user about who answered
    calibration: str = ""  # by which numbers its confidences were made: the shipped ones, and a fit to outcomes


class WorkTask(Value):
    """One typed task of a plan. `order` is its place in the plan, from 1; `depends_on` and `inputs` name orders.

    `inputs` are the parameters whose values earlier tasks will return, `takes` is the JSON schema of these values;
    `outputs` is that of what it returns itself. `subtask` is the subtask it was made of, by its order.
    """

    task_id: UUID
    order: int = Field(ge=1)
    name: str
    intent: str
    work_type: str
    agent_type: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: dict[str, OutputRef] = Field(default_factory=dict)
    takes: dict[str, JsonValue] = Field(default_factory=dict)
    outputs: dict[str, JsonValue] = Field(default_factory=dict)
    subtask: int = 0
    resource_requirements: Resources = Resources()
    depends_on: tuple[int, ...] = ()
    alternatives: tuple[dict[str, JsonValue], ...] = ()
    risk: Risk = Risk.CHANGE
    retry_safe: bool = False
    exclusive_keys: tuple[str, ...] = ()
    content_hash: str = ""
    deadlines: Deadlines = Deadlines()
    pinned_agent: str | None = None
    confidence: float = 1.0
    flags: tuple[str, ...] = ()
    source: str = ""
    estimate: str = ""  # what its duration was taken from, where that is more than what is declared


class WorkPlan(Value):
    """What will be done, in order. `digest` covers what an approval binds to (see `planner.digest`)."""

    plan_id: UUID
    request_id: UUID
    version: int = Field(default=1, ge=1)
    tasks: tuple[WorkTask, ...]
    estimated_duration_seconds: int
    complexity_level: Literal["simple", "medium", "complex"]
    will_use_external_ai: bool = False
    status: str = "pending_approval"
    created_at: datetime
    digest: str = ""
    mode: Literal["sequential", "parallel"] = "sequential"
    dry_run: bool = False
    notes: tuple[str, ...] = ()  # assumptions, flags and who decomposed, for people
    out_of_scope: tuple[str, ...] = ()


class Ruling(Value):
    """What the approval policy says about a plan: who must agree, and which rule says so."""

    action: Literal["run", "ask", "ask_twice"]
    rule: str
    reason: str


class AgentFacts(NamedTuple):
    """What the router may know about one agent at one moment. Ages in seconds, memory in MiB.

    A tuple, because a pool of thousands is made for every batch; stored decisions hold it as a list in this order.
    The discounted counts (`lately_*`, `overall_*`) weigh new runs more; see `performance.py`.
    """

    agent_id: str
    name: str
    agent_type: str
    pool_name: str
    status: str  # online, busy, draining, offline
    granted: bool  # the operator (or a policy) lets it run this intent
    content_hash: str | None = None  # of its own offer of this intent; None when it does not offer it
    unavailable: str | None = None  # why it cannot run this intent as things are
    specializations: tuple[str, ...] = ()
    slots: int = 1
    in_flight: int = 0
    cpu_cores: int = 0  # in all; what a task needs could never fit above this
    memory_mb: int = 0
    gpu_vram_mb: int = 0
    promised_memory_mb: int = 0  # to the work it has; what is left is room for more
    promised_gpu_vram_mb: int = 0
    success_count: int = 0  # of this work type, as `failure_count` and `total_duration_ms`
    failure_count: int = 0
    total_duration_ms: int = 0
    lately_successes: float = 0.0  # of this work type, discounted
    lately_runs: float = 0.0
    overall_successes: float = 0.0  # of all its work types, discounted
    overall_runs: float = 0.0
    usual_rate: float = 0.5  # how often this work type succeeds on all agents
    p50_ms: float | None = None  # how long this work type takes it, lately; None before the first run
    p90_ms: float | None = None
    recent_context_age: float | None = None  # since it last did this work type
    heartbeat_age: float = 0.0
    circuit_open_for: float = 0.0  # > 0: too many infrastructure failures in a row
    in_line: int = 0  # other tasks that wait for it
    recent_request: bool = False  # it has just worked for the same request
    tried: bool = False  # already tried for this task


class Candidate(NamedTuple):
    """One agent as the router saw it: either why it was rejected, or its score term by term; and the facts."""

    agent_id: str
    name: str
    rejected_by: str | None = None  # the filter's name
    reason: str = ""
    terms: Mapping[str, float] = MappingProxyType({})
    score: float | None = None
    facts: AgentFacts | None = None


class Policy(NamedTuple):
    """Scorers with their weights, in the order they are told; `digits` of a score are worth showing.

    Above `look_at_all` agents, a draw decides who is looked at, until `able` of them could have the task. `line` is the
    cost, in score, of a round of waiting for a full agent; None: no task waits for one.
    """

    name: str
    weights: tuple[tuple[str, float], ...]
    digits: int = 2
    minimum_runs: int = 10
    look_at_all: int = 40
    able: int = 20
    line: float | None = None


class RoutingDecision(NamedTuple):
    """Which agent, and why. `selected` is None when nobody can now; `infeasible` when nobody ever could.

    `candidates` are those that were looked at: all `pool_size` of them, unless `draw` says how they were picked.
    """

    task_id: UUID
    intent: str
    work_type: str
    policy: str
    selected: str | None
    candidates: tuple[Candidate, ...]
    reason: str  # on one line, for `why`
    infeasible: bool = False
    retried: bool = False
    success_rate_percent: int = 0
    specialization_match: bool = False
    recent_context_match: bool = False
    agent_pool: str = ""
    pool_size: int = 0
    draw: int | None = None
    others: int = 0  # agents that do not offer it, where it mattered to count them
    patience: float = 0.0  # seconds that the task could still wait by choice
    waits_for: str | None = None  # the agent that it is worth waiting for, though another one is free
    rules: Policy | None = None  # with its weights, as they were set
    predicted_success: float | None = None  # the mean, without the optimism a choice is made with
    predicted_ms: int | None = None
    p90_ms: float | None = None  # in which nine in ten such runs of the selected agent have succeeded lately


class RetryDecision(Value):
    """What follows from a failed attempt."""

    action: Literal["again", "fail", "review"]
    wait_seconds: float = 0.0
    reason: str


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


class Ask(Value):
    """One question to a model: the words and what an answer must look like.

    `seconds` is what is left of the tier's time when it is asked again; None: all of it.
    """

    purpose: Literal["decompose"]
    request_id: UUID
    text: str
    catalog: tuple[IntentSpec, ...]
    messages: tuple[dict[str, str], ...] = ()
    answer_schema: dict[str, JsonValue] = Field(default_factory=dict)
    prompt_version: str = ""
    seconds: float | None = None


class Reply(Value):
    """What one tier made of an `Ask`: a value to be validated, or why there is none. Money in US dollars.

    `error_class` is a row of `fallback.FAILURES`. `retry_after`: how many seconds the tier wants to be left alone.
    """

    tier: str
    model: str
    value: dict[str, JsonValue] | None = None
    error: str | None = None  # first line, for the audit
    error_class: str | None = None
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    retry_after: float = 0.0
    notice: str = ""
