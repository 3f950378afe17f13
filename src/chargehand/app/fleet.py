"""Who is there and what can be asked for: agents, what they offer, and what was asked for in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal
from uuid import UUID

from pydantic import JsonValue

from chargehand.catalog.versions import Offered, conflict, differences
from chargehand.domain.intents import IntentSpec
from chargehand.domain.value import Value
from chargehand.engine.recorder import REFUSED
from chargehand.settings import Settings

LOCAL_AGENT = "infra-1"
DAY = 86_400  # seconds: whoever looks once a day sees that there was a second agent

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
    rival: str | None  # the incarnation of a second one with its token, which was refused
    rival_since: datetime | None
    rival_at: datetime | None
    rival_silent_seconds: Decimal | None
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
    granted_at: datetime | None
    granted_terms: dict[str, JsonValue] | None  # what the offer said of itself when it was granted
    absent_since: datetime | None
    offered_at: datetime
    name: str
    status: AgentStatus

    @property
    def entry(self) -> CatalogEntry:
        """The offer as people see it in the catalog."""
        return _entry(self.spec, self.name, self._why_not())

    @property
    def suspended(self) -> str | None:
        """How the offer differs from what was granted, in words; None where that is not why it is not granted."""
        if self.granted or self.absent_since or self.granted_terms is None:
            return None
        return differences(self.granted_terms, self.spec.terms)

    def _why_not(self) -> str | None:
        if self.absent_since:
            return f"{self.name} does not offer it any more; its grant is kept" if self.granted_terms else "not offered"
        if (changed := self.suspended) is not None:
            return f"its grant for {self.name} is suspended: the offer has changed ({changed})"
        if not self.granted:
            return f"{self.name} offers it, but nobody has granted it"
        return self.unavailable or (f"{self.name} is offline" if self.status == "offline" else None)


class Concern(Value):
    """Something about agents that a person should look at, and what to do about it. `about`: an agent or an intent."""

    kind: Literal["second agent", "suspended grant", "offers differ"]
    about: str
    text: str
    remedy: str


def concerns(agents: Sequence[Agent], offers: Sequence[Offer]) -> list[Concern]:
    """Return everything about agents that a person should look at, the most urgent first."""
    rivals = [_second(agent) for agent in agents if agent.rival and (agent.rival_silent_seconds or 0) < DAY]
    suspended = [_suspended(offer, how) for offer in offers if (how := offer.suspended) is not None]
    granted = [offer for offer in offers if offer.granted]
    by_intent = groupby(sorted(granted, key=attrgetter("intent")), key=attrgetter("intent"))
    differing = [(intent, conflict(Offered(o.spec, o.name, o.granted_at) for o in same)) for intent, same in by_intent]
    return [*rivals, *suspended, *(_differing(intent, words) for intent, words in differing if words)]


def _second(agent: Agent) -> Concern:
    seconds = round(agent.rival_silent_seconds or 0)
    text = f"a second agent in another home uses the token of {agent.name} and is refused; last heard {seconds} s ago"
    return Concern(kind="second agent", about=agent.name, text=text, remedy=REFUSED.replace("NAME", agent.name))


def _suspended(offer: Offer, how: str) -> Concern:
    text = f"the grant of {offer.intent} for {offer.name} is suspended: the offer has changed ({how})"
    remedy = f"If that is right, grant it again: `chargehand agent grant {offer.name} {offer.intent}`."
    return Concern(kind="suspended grant", about=offer.name, text=text, remedy=remedy)


def _differing(intent: str, words: str) -> Concern:
    text = f"{intent}: {words}; the worst risk counts, and a person is always asked"
    remedy = f"Bring them to one version, or take it from one: `chargehand agent revoke NAME {intent}`."
    return Concern(kind="offers differ", about=intent, text=text, remedy=remedy)


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
    specs = (spec.as_registered(LOCAL_AGENT) for spec in local_offers(settings))
    return [_entry(spec, LOCAL_AGENT, spec.unavailable) for spec in specs]


def _entry(spec: IntentSpec, agent: str, unavailable: str | None) -> CatalogEntry:
    fields: Mapping[str, Any] = {name: getattr(spec, name) for name in IntentSpec.model_fields}
    return CatalogEntry(**{**fields, "agent": agent, "unavailable": unavailable})
