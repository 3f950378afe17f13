"""What a transaction does for accepting, decomposing, planning, approving and registering."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg

from chargehand.catalog.catalog import Catalog, unite
from chargehand.catalog.versions import Offered
from chargehand.domain import consent, secret_refs
from chargehand.domain.errors import IdempotencyConflict, StaleStatus, UnknownId
from chargehand.domain.intents import IntentSpec
from chargehand.domain.llm import Ask
from chargehand.domain.messages import AgentRegistration
from chargehand.domain.plans import DecomposedRequest, Ruling, WorkPlan
from chargehand.domain.priorities import HEAD_STARTS
from chargehand.domain.records import Call, Json, KnownAgent, PlanRecord, RequestRecord, Review, journal_of
from chargehand.domain.states import PlanStatus, RequestStatus
from chargehand.planning.digest import digest
from chargehand.store.seal_chain import Chaining

PLANS_KEPT = 500
"""Plans that one process remembers to have checked: more than are usually on their way, some MB at most."""

_CHECKED: dict[tuple[UUID, str, bytes], PlanRecord] = {}
"""By plan, its version and the key that it was checked with."""

MOST_KEPT = 20_000  # characters of an answer: three times the longest that can be a plan


class Deciding(Chaining):
    """The statements before any work is started."""

    async def accept(self, request: RequestRecord, key: str | None, body_digest: str) -> UUID:
        """Store a new request, or return the one that has the key. Raises `IdempotencyConflict`."""
        rows = await self.fetch(
            "accept_request",
            request.request_id,
            key,
            body_digest,
            request.wording,
            request.requester,
            request.mode,
            request.dry_run,
            request.trace_id,
            request.priority,
            HEAD_STARTS[request.priority],
            request.not_before,
            list(request.otherwise),
        )
        if rows:
            data: dict[str, object] = {"text": request.wording, "requester": request.requester, "key": key}
            data |= {"dry_run": request.dry_run}
            data |= {"priority": request.priority, "otherwise": list(request.otherwise)}
            data |= {"not_before": request.not_before.isoformat()} if request.not_before else {}
            self.note(request.request_id, "request.accepted", data)
            self.wakes.add("decompose")
            return request.request_id
        known = (await self.fetch("request_by_key", key))[0]
        if known["body_digest"] != body_digest:
            raise IdempotencyConflict(
                f"the key {key!r} belongs to request {known['request_id']}, which asks for something else",
                hint="Use a new key for a new request, or send the same words and options again.",
            )
        return UUID(str(known["request_id"]))

    async def claim_requests(self, limit: int, seconds: float, only: UUID | None) -> list[RequestRecord]:
        """Claim requests to decompose, oldest first, with a fencing token that runs out after `seconds`."""
        return [_request(row) for row in await self.fetch("claim_requests", limit, seconds, only)]

    async def end_claims(self) -> None:
        """Let every claim have run out: for who knows that all former claimants are dead."""
        if await self.execute("end_claims"):
            self.wakes.add("decompose")

    async def lock_requests(self, ids: Iterable[UUID]) -> dict[UUID, RequestRecord]:
        """Lock requests in id order (the order every transaction takes them in) and return those that exist."""
        rows = await self.fetch("lock_requests", sorted(set(ids)))
        return {row["request_id"]: _request(row) for row in rows}

    async def lock_request(self, request_id: UUID, claim_token: int | None = None) -> RequestRecord:
        """Lock one. Raises `UnknownId`, or `StaleStatus` when the claim is no longer this one."""
        found = (await self.lock_requests([request_id])).get(request_id)
        if found is None:
            raise UnknownId(f"there is no request {request_id}", hint="`chargehand requests` lists them.")
        if claim_token is not None and found.claim_token != claim_token:
            raise StaleStatus(f"request {request_id} was taken over by another process")
        return found

    async def catalog(self) -> Catalog:
        """Return what can be asked for: every granted offer, united. It is read again only when it has changed."""
        state = str((await self.fetch("catalog_state"))[0]["state"])
        known = self._catalogs.get(state)
        if known is None:
            known = unite(
                Offered(IntentSpec.model_validate(row["spec"]), row["agent"], row["granted_at"])
                for row in await self.fetch("catalog")
            )
            self._catalogs.clear()
            self._catalogs[state] = known
        return known

    async def record_calls(self, calls: Sequence[tuple[Ask, Call]]) -> None:
        """Keep calls of tiers: why each was asked, why its answer was not used, if so, and what followed."""
        if not calls:
            return
        replies = [call.reply for _, call in calls]
        await self.execute(
            "insert_llm_calls",
            [ask.request_id for ask, _ in calls],
            [call.purpose for _, call in calls],
            [reply.tier for reply in replies],
            [reply.model for reply in replies],
            [ask.prompt_version for ask, _ in calls],
            [reply.seconds for reply in replies],
            [reply.tokens_in for reply in replies],
            [reply.tokens_out for reply in replies],
            [reply.tokens_cached for reply in replies],
            [reply.cost_usd for reply in replies],
            [call.error_class for _, call in calls],
            [call.problem for _, call in calls],
            [call.choice for _, call in calls],
            [call.followed for _, call in calls],
            [_kept(ask, call.reply.value) for ask, call in calls],
            [call.at for _, call in calls],
        )

    async def save_decompositions(self, read: Sequence[tuple[str, DecomposedRequest]], thresholds: Json) -> None:
        """Keep what was understood of each wording, by whom, and the thresholds it was judged by."""
        if not read:
            return
        ids, tiers = [d.request_id for _, d in read], [d.tier for _, d in read]
        models, values = [d.model for _, d in read], [d.model_dump(mode="json") for _, d in read]
        await self.execute("insert_decompositions", ids, [w for w, _ in read], tiers, models, values, thresholds)
        await self.execute("set_readers", ids, tiers, models)
        for request_id, value in zip(ids, values, strict=True):
            self.note(request_id, "request.decomposed", {**value, "thresholds": thresholds})

    async def latest_decomposition(self, request_id: UUID) -> DecomposedRequest | None:
        """Return what was last understood of a request."""
        rows = await self.fetch("latest_decomposition", request_id)
        return DecomposedRequest.model_validate(rows[0]["value"]) if rows else None

    async def count_wishes(self, wishes: Iterable[tuple[str, UUID]]) -> None:
        """Count what no agent can do, (wish, request), so that frequent wishes can be suggested to the operator."""
        for wish, request_id in sorted(set(wishes)):  # in one order, whoever counts the same ones meanwhile
            await self.execute("count_wish", wish, request_id)

    async def save_plans(self, ruled: Sequence[tuple[str, WorkPlan, Ruling]], expires: float) -> list[PlanRecord]:
        """Store plans, each with who asked for it and the ruling on it, and return them as stored.

        They wait for their approval for `expires` seconds at most.
        """
        if not ruled:
            return []
        plans = [plan for _, plan, _ in ruled]
        values, rules = [p.model_dump(mode="json") for p in plans], [r.model_dump(mode="json") for *_, r in ruled]
        key = consent.consent_key(self._seal_key)
        await self.execute(
            "insert_plans",
            [plan.plan_id for plan in plans],
            [plan.request_id for plan in plans],
            [plan.version for plan in plans],
            [plan.digest for plan in plans],
            values,
            rules,
            [
                consent.ruling_mac(key, consent.About(plan.request_id, plan.plan_id, plan.digest), requester, rule)
                for (requester, plan, _), rule in zip(ruled, rules, strict=True)
            ],
            expires,
        )
        for plan, value, rule in zip(plans, values, rules, strict=True):
            self.note(plan.request_id, "plan.pending_approval", {"plan": value, "ruling": rule})
        status = PlanStatus.PENDING_APPROVAL
        return [
            PlanRecord(p.plan_id, p.request_id, p.version, p.digest, status, p, rule, expired=False, intact=True)
            for p, rule in zip(plans, rules, strict=True)
        ]

    async def latest_plans(self, request_ids: Iterable[UUID]) -> dict[UUID, PlanRecord]:
        """Return the newest plan of each request that has one, with who has approved it."""
        rows = await self.fetch("latest_plans", sorted(set(request_ids)))
        return {row["request_id"]: self._plan(row) for row in rows}

    async def latest_plan(self, request_id: UUID) -> PlanRecord | None:
        """Return a request's newest plan with who has approved it."""
        return (await self.latest_plans([request_id])).get(request_id)

    async def plans(self, ids: Iterable[UUID]) -> dict[UUID, PlanRecord]:
        """Return plans by id, for the check at dispatch; whether they are intact is filled in.

        A plan is read and checked once, and again only when its row has changed: a long one is asked for many times.
        """
        versions = {row["plan_id"]: row["version"] for row in await self.fetch("plan_versions", sorted(set(ids)))}
        key = self._seal_key
        found = {
            plan_id: _CHECKED[known]
            for plan_id, version in versions.items()
            if (known := (plan_id, version, key)) in _CHECKED
        }
        missing = versions.keys() - found.keys()
        for row in await self.fetch("plans_by_id", sorted(missing)) if missing else ():
            plan = self._plan(row)
            found[plan.plan_id] = replace(plan, intact=digest(plan.plan) == plan.digest)
            _CHECKED[plan.plan_id, versions[plan.plan_id], key] = found[plan.plan_id]
        while len(_CHECKED) > PLANS_KEPT:
            del _CHECKED[next(iter(_CHECKED))]
        return found

    async def expired_plans(self, limit: int) -> list[UUID]:
        """Return requests whose plan nobody approved in time."""
        return [row["request_id"] for row in await self.fetch("expired_plans", limit)]

    def _plan(self, row: asyncpg.Record) -> PlanRecord:
        """Return a plan as stored, with what of ruling and approvals is signed with this home's key."""
        values: dict[str, Any] = dict(row)
        given, signed, asked_by = values.pop("approvals"), values.pop("mac"), values.pop("asked_by")
        key = consent.consent_key(self._seal_key)
        about = consent.About(values["request_id"], values["plan_id"], values["digest"])
        valid = [
            (who, at)
            for who, at, mac in given
            if consent.same(mac, consent.approval_mac(key, about, who, "approved", at))
        ]
        return PlanRecord(
            **{**values, "status": PlanStatus(values["status"]), "plan": WorkPlan.model_validate(values["plan"])},
            approvers=tuple(who for who, _ in valid),
            unsigned=tuple(sorted({who for who, *_ in given} - {who for who, _ in valid})),
            ruled=consent.same(signed, consent.ruling_mac(key, about, asked_by, values["ruling"])),
            approved_at=min((at for _, at in valid), default=None),
        )

    async def record_approval(self, plan: PlanRecord, approver: str, decision: str, words: str = "") -> None:
        """Keep who said what about exactly which digest, signed. The plan must be read in this transaction."""
        key = consent.consent_key(self._seal_key)
        about = consent.About(plan.request_id, plan.plan_id, plan.digest)
        mac = consent.approval_mac(key, about, approver, decision, plan.at)
        await self.execute("insert_approval", plan.plan_id, plan.digest, approver, decision, words, mac)
        data = {"plan_id": str(plan.plan_id), "digest": plan.digest, "approver": approver, "words": words}
        self.note(plan.request_id, f"approval.{decision}", data)

    async def reword(self, request_id: UUID, wording: str, who: str) -> None:
        """Replace the words a request is understood by; the accepted text stays. Whoever says them asks for them."""
        await self.execute("reword_request", request_id, wording)
        await self.execute("add_asker", request_id, who)
        self.note(request_id, "request.reworded", {"wording": wording, "by": who})

    async def add_asker(self, request_id: UUID, who: str) -> None:
        """Keep that this person, too, has said what is to be done."""
        await self.execute("add_asker", request_id, who)

    async def add_review(self, review: Review) -> None:
        """Hand work to a person, intact, with everything tried so far."""
        await self.execute(
            "insert_review", review.request_id, review.task_id, review.kind, review.reason, review.context
        )
        data = {"kind": review.kind, "reason": review.reason, **review.context}
        self.note(review.request_id, "review.opened", data, task_id=review.task_id)

    async def resolve_reviews(self, request_id: UUID, resolution: str, who: str) -> None:
        """Close what is open about a request."""
        if await self.execute("resolve_reviews", request_id, resolution, who):
            self.note(request_id, "review.resolved", {"resolution": resolution, "by": who})

    async def unread_requests(self, limit: int) -> list[UUID]:
        """Return requests in review that no model could plan, oldest first."""
        return [row["request_id"] for row in await self.fetch("unread_requests", limit)]

    async def count_request_failure(self, request_id: UUID) -> tuple[int, RequestStatus]:
        """Count that a step failed on this request; return how often by now, and where it stands."""
        row = (await self.fetch("count_request_failure", request_id))[0]
        return row["failures"], RequestStatus(row["status"])

    async def enrol(
        self,
        agent_id: UUID,
        name: str,
        *,
        agent_type: str,
        pool: str,
        grant_policy: str | None,
        specializations: Sequence[str] | None = None,
    ) -> int:
        """Make an agent known (idempotent) and return its key generation.

        `grant_policy` names the policy by which whatever it offers is granted; None leaves that to the operator.
        """
        own = None if specializations is None else list(specializations)
        rows = await self.fetch("enrol_agent", agent_id, name, agent_type, pool, grant_policy, own)
        return int(rows[0]["key_generation"])

    async def known_agents(self, ids: Iterable[UUID]) -> dict[UUID, KnownAgent]:
        """Return the enrolled ones of these agents."""
        rows = await self.fetch("known_agents", sorted(set(ids)))
        return {row["agent_id"]: KnownAgent(**dict(row)) for row in rows}

    async def lock_agents(self, ids: Iterable[UUID]) -> None:
        """Lock agents in id order; requests are locked before them."""
        await self.execute("lock_agents", sorted(set(ids)))

    async def speak_generation(self, agent_id: UUID, generation: int) -> None:
        """Remember the newest key generation an agent has used: it has that key now."""
        await self.execute("speak_generation", agent_id, generation)

    async def register(self, name: str, agent: AgentRegistration, granted_by: str | None) -> bool:
        """Take over what an enrolled agent of that name says about itself; return False when it is refused.

        It is while another journal's life is there under this name. `granted_by` is the policy that grants all it
        offers. The agent must be locked: its open attempts are counted, and a statement that waits counts as before its
        wait.
        """
        agent_id = UUID(agent.agent_id)
        taken_over = await self.execute(
            "register_agent",
            agent_id,
            sorted({spec.work_type for spec in agent.intents}),
            list(agent.specializations),
            agent.incarnation,
            agent.slots,
            agent.resources.model_dump(),
            agent.version,
            agent.draining,
            journal_of(agent.incarnation),
        )
        if not taken_over:
            return False
        intents = [spec.intent for spec in agent.intents]
        specs = [spec.as_registered(name) for spec in agent.intents]
        await self.execute("forget_offers", agent_id, intents, granted_by is not None)
        await self.execute("miss_offers", agent_id, intents)
        await self.execute(
            "put_offers",
            agent_id,
            intents,
            [spec.model_dump(mode="json") for spec in specs],
            [spec.content_hash for spec in specs],
            [spec.unavailable for spec in specs],
            granted_by is not None,
            granted_by,
        )
        self.wakes |= {"decompose", "dispatch"}
        return True

    async def refuse_rivals(self, rivals: Mapping[UUID, str]) -> list[UUID]:
        """Remember that a second one with an agent's token was heard, by its incarnation; return of whom that is news.

        The agents must be locked.
        """
        ids = sorted(rivals)
        rows = await self.fetch("refuse_rivals", ids, [rivals[agent_id] for agent_id in ids]) if ids else []
        return [row["agent_id"] for row in rows if row["news"]]

    async def mark_gone(self, agent_id: UUID) -> None:
        """Note that no life of an agent is there: for who knows that it is dead."""
        await self.execute("mark_gone", agent_id)


def _request(row: asyncpg.Record) -> RequestRecord:
    values: dict[str, Any] = dict(row)
    lists = {name: tuple(values[name]) for name in ("otherwise", "reworded_by")}
    return RequestRecord(**{**values, **lists, "status": RequestStatus(values["status"])})


def _kept(ask: Ask, answer: Json | None) -> str | None:
    """Return an answer as it is kept: without the value of any secret, and no longer than a plan can be."""
    if answer is None:
        return None
    hidden = secret_refs.without_values(dict(answer), (intent.parameters for intent in ask.catalog))
    return json.dumps(hidden)[:MOST_KEPT]
