"""What the router is told and what it answers: facts of agents, candidates, policy, decision."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID


class Figures(NamedTuple):
    """What an agent's runs of one intent, or of one work type, came to. Times in milliseconds, memory in MiB.

    None: not known yet.
    """

    runs: int = 0  # that succeeded: the others say nothing of how long it takes and what it needs
    p50_ms: float | None = None
    p90_ms: float | None = None
    mean_ms: float | None = None
    deviation_ms: float | None = None
    memory_mb: float | None = None  # at the peak, smoothed
    cpu_cores: float | None = None  # busy on average, smoothed


NO_FIGURES = Figures()


class AgentFacts(NamedTuple):
    """What the router may know about one agent at one moment. Ages in seconds, memory in MiB.

    A tuple, because a pool of thousands is made for each commit; stored decisions hold it as a list in this order.
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
    deviation_ms: float | None = None  # of its runs of this work type
    used_memory_mb: float | None = None  # by its runs of this work type; see `Figures`
    used_cpu_cores: float | None = None
    free_memory_mb: int | None = None  # at its last heartbeat; None: it does not say
    free_gpu_vram_mb: int | None = None
    unseen_memory_mb: int = 0  # the part of what is promised that the last heartbeat cannot show yet
    unseen_gpu_vram_mb: int = 0
    load: float = 0.0  # runnable programs per core, at its last heartbeat
    usual_difficulty: float = 0.0  # of this intent on all agents, over `judged_runs` runs; see `performance.HARD`
    judged_runs: int = 0
    of_intent: Figures | None = None  # its runs of this very intent; None before the first that succeeded

    @property
    def of_work_type(self) -> Figures:
        """Its runs of this work type."""
        runs = self.success_count + self.failure_count
        return Figures(
            runs=self.success_count,
            p50_ms=self.p50_ms,
            p90_ms=self.p90_ms,
            mean_ms=self.total_duration_ms / runs if runs else None,
            deviation_ms=self.deviation_ms,
            memory_mb=self.used_memory_mb,
            cpu_cores=self.used_cpu_cores,
        )


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
    wait_limit: float = 0.0  # seconds that the task could still wait by choice
    waits_for: str | None = None  # the agent that it is worth waiting for, though another one is free
    rules: Policy | None = None  # with its weights, as they were set
    predicted_success: float | None = None  # the mean, without the optimism a choice is made with
    predicted_ms: int | None = None
    figures: Figures = NO_FIGURES  # of the selected agent, by which time is predicted and allowed
    prediction: str = ""  # what these figures were taken from, in words
