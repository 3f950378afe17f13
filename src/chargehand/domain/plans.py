"""What travels: intents, requests, plans, work orders, results. Values only; nothing here decides or does I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, JsonValue

from chargehand.domain.hosts import UNLIMITED, Hosts, Limit
from chargehand.domain.intents import Deadlines, Order, OutputRef, Resources
from chargehand.domain.risks import Risk
from chargehand.domain.value import Value


class Subtask(Value):
    """One thing asked for, as a decomposer understood it.

    `confidence` is ours (calibrated), `claimed_confidence` the model's own, `terms` what made the one of the other, in
    log-odds (`calibration.TERMS`). `words` is the part of the request it stands for, `limit` the hosts that these words
    limit it to. `flags` are reasons to look twice, for people.
    """

    order: Order
    name: str
    intent: str
    confidence: float = Field(ge=0, le=1)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: dict[str, OutputRef] = Field(default_factory=dict)  # parameters that earlier subtasks give
    depends_on: tuple[int, ...] = ()
    words: str = ""
    limit: Limit = UNLIMITED
    claimed_confidence: float | None = None
    terms: dict[str, float] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    pinned_agent: str | None = None  # the only one to do it, as a person wrote


class DecomposedRequest(Value):
    """A request as subtasks. A non-empty `ambiguities` means that a person must answer before there is a plan.

    `choices` are whole readings of the request, where two differ; an answer may pick one by its number, from 1.
    """

    request_id: UUID
    subtasks: tuple[Subtask, ...]
    ambiguities: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    tier: str = ""  # the tier that answered, a row of `tiers.TIERS`
    model: str = ""
    notice: str = ""  # one line for the user about who answered
    choices: tuple[tuple[Subtask, ...], ...] = ()
    calibration: str = ""  # by which numbers its confidences were made: the shipped ones, and a fit to outcomes


class Wait(Value):
    """What is done instead while nobody can do a task: it waits for an agent, as long as it takes."""

    kind: Literal["wait"] = "wait"


WAITS = Wait()


class WorkTask(Value):
    """One typed task of a plan. `order` is its place in the plan, from 1; `depends_on` and `inputs` name orders.

    `inputs` are the parameters whose values earlier tasks will return, `takes` is the JSON schema of these values;
    `outputs` is that of what it returns itself. `hosts` are those that it may touch, where its agent says so: within
    the `limit` that the request sets. `state` are the paths that it may write among its own files. `subtask` is the
    subtask it was made of, by its order.
    """

    task_id: UUID
    order: Order
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
    alternatives: tuple[Wait, ...] = ()
    risk: Risk = Risk.CHANGE
    retry_safe: bool = False
    exclusive_keys: tuple[str, ...] = ()
    content_hash: str = ""
    hosts: tuple[Hosts, ...] = ()
    limit: Limit = UNLIMITED
    state: tuple[str, ...] = ()
    deadlines: Deadlines = Deadlines()
    pinned_agent: str | None = None
    confidence: float = 1.0
    flags: tuple[str, ...] = ()
    source: str = ""  # the agent whose offer it is, and where that lies there
    agents: tuple[str, ...] = ()  # the names of those that may run it: whoever comes later was not agreed to
    contested: str = ""  # how the offers of its intent differ, in words; empty where they agree
    estimate: str = ""  # what its duration was taken from, where that is more than what is declared
    measured_need: Resources | None = None  # what is declared, or more where its runs were measured to use more

    @property
    def need(self) -> Resources:
        """What it must find on an agent: what its runs have used, where that is more than what is declared."""
        return self.measured_need or self.resource_requirements

    @property
    def may_wait(self) -> bool:
        """Whether it was approved that it waits for an agent for as long as it takes."""
        return WAITS in self.alternatives


class WorkPlan(Value):
    """What will be done, in order. `digest` covers what an approval binds to (see `planning.digest`)."""

    plan_id: UUID
    request_id: UUID
    version: int = Field(default=1, ge=1)
    tasks: tuple[WorkTask, ...]
    estimated_duration_seconds: int
    complexity_level: Literal["simple", "medium", "complex"]
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
