"""Who is there and what can be asked for: agents, what they offer, and what was asked for in vain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import JsonValue

from chargehand.domain.intents import IntentSpec
from chargehand.domain.value import Value
from chargehand.settings import Settings

LOCAL_AGENT = "infra-1"

AgentStatus = Literal["online", "busy", "draining", "offline"]


class Agent(Value):
    """An enrolled agent and what it has done over all work types. Memory in MiB; None where nothing is known."""

    agent_id: UUID
    agent_type: str
    pool_name: str
    capabilities: tuple[str, ...]  # the work types it offers
    specializations: tuple[str, ...]
    status: AgentStatus
    last_heartbeat_at: datetime | None
    created_at: datetime
    updated_at: datetime
    name: str
    incarnation: str
    key_generation: int
    spoken_generation: int
    admin_specializations: tuple[str, ...] | None
    drained: bool
    grant_policy: str | None
    slots: int
    in_flight: int
    resources: dict[str, JsonValue]
    free: dict[str, JsonValue]
    load: float
    version: str
    overall_successes: float
    overall_runs: float
    infrastructure_failures: int
    circuit_open_until: datetime | None
    silent_seconds: Decimal | None
    successes: int | None
    failures: int | None
    total_ms: Decimal | None

    @property
    def runs(self) -> int:
        """How many attempts it has ended."""
        return (self.successes or 0) + (self.failures or 0)

    @property
    def success_rate(self) -> float | None:
        """The share of its runs that succeeded."""
        return (self.successes or 0) / self.runs if self.runs else None

    @property
    def mean_seconds(self) -> float | None:
        """How long a run took it on average."""
        return float(self.total_ms or 0) / 1000 / self.runs if self.runs else None

    def is_silent(self, limit: float) -> bool:
        """Whether it has said nothing for longer than that many seconds."""
        return self.silent_seconds is None or self.silent_seconds > limit


class CatalogEntry(IntentSpec):
    """One thing that can be asked for, and the agent that offers it. `unavailable` says why it cannot be done now."""

    agent: str


class Wish(Value):
    """What was asked for and no agent can do, and how often."""

    wish: str
    times: int
    last_request_id: UUID | None
    first_at: datetime
    last_at: datetime


class Offer(Value):
    """What one agent offers, as it is registered, and whether the operator lets it."""

    agent_id: UUID
    intent: str
    spec: IntentSpec
    content_hash: str
    unavailable: str | None
    granted: bool
    granted_by: str | None
    offered_at: datetime
    name: str
    status: AgentStatus

    @property
    def entry(self) -> CatalogEntry:
        """The offer as people see it in the catalog."""
        return _entry(self.spec, self.name, self._why_not())

    def _why_not(self) -> str | None:
        if not self.granted:
            return f"{self.name} offers it, but nobody has granted it"
        return self.unavailable or (f"{self.name} is offline" if self.status == "offline" else None)


def properties(schema: Mapping[str, JsonValue]) -> dict[str, dict[str, JsonValue]]:
    """Return the named values of an intent's JSON schema, each with a schema of its own."""
    found = schema.get("properties")
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def required(schema: Mapping[str, JsonValue]) -> frozenset[str]:
    """Return the names of the values that must be there."""
    found = schema.get("required")
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def local_offers(settings: Settings) -> tuple[IntentSpec, ...]:
    """Return what this machine's agent would offer now. Only looks; what cannot run says why in `unavailable`."""
    from chargehand.agents.infra import InfraAgent
    from chargehand.agents.loading import infra_options

    infra = InfraAgent(infra_options(settings, settings.home / "agents" / LOCAL_AGENT, LOCAL_AGENT))
    return tuple(offer.spec for offer in infra.agent.offers)


def local_entries(settings: Settings) -> list[CatalogEntry]:
    """Return this machine's part of the catalog, as its files are now."""
    return [_entry(spec, LOCAL_AGENT, spec.unavailable) for spec in local_offers(settings)]


def _entry(spec: IntentSpec, agent: str, unavailable: str | None) -> CatalogEntry:
    fields: Mapping[str, Any] = {name: getattr(spec, name) for name in IntentSpec.model_fields}
    return CatalogEntry(**{**fields, "agent": agent, "unavailable": unavailable})
