"""The schema. All times are PostgreSQL's, with time zone."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Sequence,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

lease_tokens = Sequence("lease_tokens", metadata=metadata)
"""Fencing tokens: every lease and every claim gets a higher one than all before it."""


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _time(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True))


def _count(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text(str(default)))


def _real(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default=text("0"))


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text("false"))


requests = Table(
    "requests",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("idempotency_key", Text, unique=True),
    Column("body_digest", String(64), nullable=False),
    Column("text", Text, nullable=False),  # as it was accepted; never changed
    Column("wording", Text, nullable=False),  # as it stands after answers and rejections with words
    Column("requester", Text, nullable=False),
    Column("reworded_by", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # they have asked for it, too
    Column("mode", String(20), nullable=False),
    _flag("dry_run"),
    Column("status", String(30), nullable=False),
    Column("status_reason", Text, nullable=False, server_default=""),
    Column("trace_id", Uuid, nullable=False),
    Column("priority", String(20), nullable=False, server_default="normal"),
    Column("head_start", Double, nullable=False, server_default=text("0")),  # seconds; what the priority is worth
    _time("not_before"),  # its tasks start then at the earliest
    Column("otherwise", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # allowed when nobody can do it
    Column("claim_token", BigInteger),
    _time("claim_until"),
    _count("failures"),  # times a step could not handle it; past a limit it goes to review
    Column("read_by_tier", String(30)),  # who decomposed it, the last time
    Column("read_by_model", Text),
    _count("event_count"),
    _now("turn"),  # created_at less the head start: the earliest is read first
    _now("created_at"),
    _now("updated_at"),
    _time("ended_at"),
    Index("ix_requests_due", "turn", postgresql_where=text("status IN ('accepted', 'decomposing')")),
    Index("ix_requests_open", "status", postgresql_where=text("ended_at IS NULL")),
)

decompositions = Table(
    "decompositions",
    metadata,
    Column("decomposition_id", BigInteger, Identity(), primary_key=True),
    Column("request_id", ForeignKey("requests.request_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("wording", Text, nullable=False),
    Column("tier", String(30), nullable=False),
    Column("model", Text, nullable=False),
    Column("value", JSONB, nullable=False),
    Column("thresholds", JSONB, nullable=False),
    _now("created_at"),
)

llm_calls = Table(
    "llm_calls",
    metadata,
    Column("call_id", BigInteger, Identity(), primary_key=True),
    Column("request_id", ForeignKey("requests.request_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("purpose", String(30), nullable=False, server_default="skeleton"),
    Column("tier", String(30), nullable=False),
    Column("model", Text, nullable=False),
    Column("prompt_version", String(30), nullable=False),
    Column("seconds", Double, nullable=False),
    _count("tokens_in"),
    _count("tokens_out"),
    _count("tokens_cached"),  # of those that went in: what the server had read before
    Column("cost_usd", Numeric(12, 6), nullable=False, server_default=text("0")),
    Column("error_class", Text),
    Column("error", Text),
    Column("answer", Text),  # what it wrote, as JSON; text, because a model can write what jsonb refuses
    Column("choice", Text, nullable=False, server_default=""),  # why this tier was asked
    Column("followed", String(20), nullable=False, server_default=""),  # used | repair | retry | leave | doubt
    _now("created_at"),
)

plans = Table(
    "plans",
    metadata,
    Column("plan_id", Uuid, primary_key=True),
    Column("request_id", ForeignKey("requests.request_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("status", String(30), nullable=False),
    Column("plan", JSONB, nullable=False),
    Column("ruling", JSONB, nullable=False),
    Column("mac", String(64), nullable=False, server_default=""),  # over ruling, digest and requester (`consent`)
    _now("created_at"),
    _time("expires_at"),
    _time("decided_at"),
    UniqueConstraint("request_id", "version"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("approval_id", BigInteger, Identity(), primary_key=True),
    Column("plan_id", ForeignKey("plans.plan_id", ondelete="CASCADE"), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("approver", Text, nullable=False),
    Column("decision", String(20), nullable=False),  # approved | rejected
    Column("words", Text, nullable=False, server_default=""),
    Column("mac", String(64), nullable=False, server_default=""),  # over all of it, its time and its request
    _now("created_at"),
    UniqueConstraint("plan_id", "approver", "decision"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", Uuid, primary_key=True),
    Column("request_id", ForeignKey("requests.request_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("plan_id", ForeignKey("plans.plan_id", ondelete="CASCADE"), nullable=False),
    Column("task_order", Integer, nullable=False),
    Column("intent", Text, nullable=False),
    Column("work_type", String(100), nullable=False),
    Column("agent_type", String(50), nullable=False),
    Column("spec", JSONB, nullable=False),  # the WorkTask as approved
    Column("status", String(30), nullable=False),
    Column("status_reason", Text, nullable=False, server_default=""),
    _count("attempts_made"),
    _count("forgiven"),  # how many of them a person has decided not to count any more
    Column("tried", ARRAY(Uuid), nullable=False, server_default=text("'{}'")),
    _time("ready_since"),
    _time("due_at"),
    _time("turn"),  # when it could first have been started, less its request's head start: the earliest goes first
    _flag("wants_capacity"),  # it waits for a slot or a key, not for a time: due as soon as one is freed
    Column("waits_for", Uuid),  # an agent that it waits for until it is due, though another one was free
    _time("chose_until"),  # when its latest wait by choice was to end; NULL: since it is ready, it never chose to
    _count("failures"),
    Column("result", JSONB),
    Column("read_by_tier", String(30)),  # who made it of the words
    Column("read_by_model", Text),
    _now("created_at"),
    _now("updated_at"),
    _time("ended_at"),
    UniqueConstraint("request_id", "plan_id", "task_order"),
    Index("ix_tasks_ready", "turn", postgresql_where=text("status = 'ready'")),
    Index("ix_tasks_waits_for", "waits_for", postgresql_where=text("waits_for IS NOT NULL")),
)

agent_registry = Table(
    "agent_registry",
    metadata,
    Column("agent_id", Uuid, primary_key=True),
    Column("agent_type", String(50), nullable=False),
    Column("pool_name", String(100), nullable=False),
    Column("capabilities", JSONB, nullable=False),  # the work types it offers
    Column("specializations", JSONB, nullable=False, server_default=text("'[]'")),
    Column("status", String(50), nullable=False, server_default="offline"),
    _time("last_heartbeat_at"),
    _now("created_at"),
    _now("updated_at"),
    Column("name", Text, nullable=False, unique=True),
    Column("incarnation", Text, nullable=False, server_default=""),
    _count("key_generation", 1),
    _count("spoken_generation", 1),  # the newest its messages were signed with; orders to it are signed with the same
    Column("admin_specializations", JSONB),  # what the operator says it is good at; NULL: what it says itself
    _flag("drained"),  # by the operator: it keeps its work and gets no more
    Column("grant_policy", Text),  # the policy that grants whatever it offers; NULL: an operator grants each
    _count("slots", 1),
    _count("in_flight"),
    Column("resources", JSONB, nullable=False, server_default=text("'{}'")),  # in all
    Column("free", JSONB, nullable=False, server_default=text("'{}'")),  # at the last heartbeat
    Column("load", Double, nullable=False, server_default=text("0")),
    Column("version", Text, nullable=False, server_default=""),
    _real("overall_successes"),  # of all its work types, discounted
    _real("overall_runs"),
    _count("infrastructure_failures"),  # in a row; opens the circuit
    _time("circuit_open_until"),
    Column("rival", Text),  # the incarnation of a second one with its token that was refused last
    _time("rival_since"),  # when that one was refused first
    _time("rival_at"),  # when it was heard last
)

agent_intents = Table(
    "agent_intents",
    metadata,
    Column("agent_id", ForeignKey("agent_registry.agent_id", ondelete="CASCADE"), primary_key=True),
    Column("intent", Text, primary_key=True),
    Column("spec", JSONB, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("unavailable", Text),
    _flag("granted"),
    Column("granted_by", Text),
    _time("granted_at"),
    Column("granted_terms", JSONB),  # what the offer said of itself when it was granted; other terms suspend the grant
    _time("absent_since"),  # its agent does not offer it any more; it may again, under the same grant
    _now("offered_at"),
    Index("ix_agent_intents_intent", "intent"),
)

agent_performance = Table(
    "agent_performance",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("agent_id", ForeignKey("agent_registry.agent_id", ondelete="CASCADE"), nullable=False),
    Column("work_type", String(100), nullable=False),
    Column("intent", Text, nullable=False, server_default=""),  # '': all of the work type
    _count("success_count"),
    _count("failure_count"),
    Column("total_duration_ms", BigInteger, nullable=False, server_default=text("0")),
    _time("last_execution_at"),
    Column("difficulty_assessment", String(50)),  # straightforward | tricky | failed: the word for `difficulty`
    Column("total_duration_ms2", Double, nullable=False, server_default=text("0")),  # squares, for the deviation
    Column("p50_ms", Double),  # moving with each run; NULL before the first
    Column("p90_ms", Double),
    _real("lately_successes"),  # discounted: each run makes all older ones weigh less
    _real("lately_runs"),
    Column("resources_used", JSONB, nullable=False, server_default=text("'{}'")),  # smoothed
    Column("deviation_ms", Double),  # NULL before the second run
    Column("difficulty", Double),  # from 0 to 1, smoothed; NULL before the first run
    _now("created_at"),
    _now("updated_at"),
    UniqueConstraint("agent_id", "work_type", "intent"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("attempt_id", Uuid, primary_key=True),
    Column("task_id", ForeignKey("tasks.task_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("request_id", ForeignKey("requests.request_id", ondelete="CASCADE"), nullable=False),
    Column("agent_id", ForeignKey("agent_registry.agent_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("lease_token", BigInteger, nullable=False, unique=True),
    Column("status", String(30), nullable=False),
    Column("incarnation", Text, nullable=False, server_default=""),
    Column("lease_until", DateTime(timezone=True), nullable=False),
    Column("start_by", DateTime(timezone=True), nullable=False),
    Column("deadline_at", DateTime(timezone=True), nullable=False),
    Column("lease_seconds", Double, nullable=False),  # how far each sign of life renews it
    _now("created_at"),
    _time("accepted_at"),
    _time("started_at"),
    _time("begun_at"),  # when its agent said that it had begun; kept for work that is not safe to repeat
    _time("ended_at"),
    _flag("cancel_sent"),
    Column("duration_ms", BigInteger),
    Column("result", JSONB),
    Index("ix_attempts_lease", "lease_until", postgresql_where=text("status IN ('leased', 'accepted', 'started')")),
    Index(
        "uq_attempts_one_open",  # two leases of one task can never be open at once, whatever the code does
        "task_id",
        unique=True,
        postgresql_where=text("status IN ('leased', 'accepted', 'started')"),
    ),
)

routing_decisions = Table(
    "routing_decisions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("task_id", ForeignKey("tasks.task_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("work_type", String(100), nullable=False),
    Column("agent_pool", String(100), nullable=False),
    Column("selected_agent_id", ForeignKey("agent_registry.agent_id")),
    _count("success_rate_percent"),
    _flag("specialization_match"),
    _flag("recent_context_match"),
    _flag("retried"),
    Column("reason", Text, nullable=False),
    _now("created_at"),
    Column("attempt_id", Uuid),
    Column("decision", JSONB, nullable=False),  # every candidate, its facts, its terms or why it was rejected
    Column("predicted_success", Double),
    Column("predicted_ms", BigInteger),
    Column("succeeded", Boolean),  # what came of it; NULL until the attempt ends
    Column("duration_ms", BigInteger),
)

exclusive_keys = Table(
    "exclusive_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("attempt_id", ForeignKey("attempts.attempt_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("request_id", Uuid, nullable=False),
    _now("held_since"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("message_id", BigInteger, Identity(), primary_key=True),
    Column("queue", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempt_id", Uuid),
    _count("failures"),
    _time("due_at"),
    _now("created_at"),
)

reviews = Table(
    "reviews",
    metadata,
    Column("review_id", BigInteger, Identity(), primary_key=True),
    Column("request_id", ForeignKey("requests.request_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("task_id", Uuid),
    Column("kind", String(30), nullable=False),  # no_plan | unknown_outcome | missing_output | quarantine
    Column("reason", Text, nullable=False),
    Column("context", JSONB, nullable=False),
    Column("status", String(20), nullable=False, server_default="open"),
    Column("resolution", Text),
    Column("resolved_by", Text),
    _now("created_at"),
    _time("resolved_at"),
)

out_of_scope = Table(
    "out_of_scope",
    metadata,
    Column("wish", Text, primary_key=True),  # normalised
    _count("times"),
    Column("last_request_id", Uuid),
    _now("first_at"),
    _now("last_at"),
)

events = Table(
    "events",
    metadata,
    Column("event_id", BigInteger, Identity(), primary_key=True),
    Column("request_id", Uuid, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("kind", String(60), nullable=False),
    Column("task_id", Uuid),
    Column("attempt_id", Uuid),
    Column("data", JSONB, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("request_id", "seq"),
)

seals = Table(
    "seals",
    metadata,
    Column("seal_id", BigInteger, Identity(), primary_key=True),
    Column("request_id", Uuid, nullable=False, index=True),
    Column("event_count", Integer, nullable=False),
    Column("kind", String(10), nullable=False),  # accepted | ended | pruned
    Column("mac", String(64), nullable=False, server_default=""),  # empty only until the sweep makes the first one
    Column("key_name", String(12), nullable=False, server_default=""),
    _now("sealed_at"),
    Column("position", BigInteger, unique=True),  # in the chain, from 1; NULL: the sweep has not come by yet
    Column("link", String(64)),  # a MAC over all of it, its position and the link before
    UniqueConstraint("request_id", "kind", "event_count"),
    Index("ix_seals_unchained", "seal_id", postgresql_where=text("position IS NULL")),
)

anomalies = Table(
    "anomalies",
    metadata,
    Column("anomaly_id", BigInteger, Identity(), primary_key=True),
    _now("at"),
    Column("kind", String(60), nullable=False),
    Column("agent_id", Text),
    Column("attempt_id", Uuid),
    Column("request_id", Uuid),
    Column("detail", JSONB, nullable=False),
)
