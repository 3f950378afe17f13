"""An agent that is enrolled, has grants and is not honest: it speaks for itself only, and for nobody else.

The hostile agent here is called mallory. She signs with her own true key, and may say whatever she likes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest

from chargehand.app.fleet import Offer
from chargehand.app.snapshot import read_all
from chargehand.cli.flows.explain import story_lines
from chargehand.cli.show.lists import catalog_lines
from chargehand.cli.show.plan import plan_lines
from chargehand.domain.envelopes import MessageType
from chargehand.domain.errors import UnknownId
from chargehand.domain.intents import IntentSpec
from chargehand.domain.messages import Failure, Progress, WorkOrder
from chargehand.domain.ports import control_queue, work_queue
from chargehand.domain.risks import Risk
from chargehand.domain.states import RequestStatus as R
from chargehand.engine.agent_registry import Registry
from tests.builders import make_spec
from tests.world import MASTER, PaperAgent, World, close_world, open_world

WIPE = make_spec("wipe_the_disk", risk=Risk.DESTROY)
WIKI = make_spec("restart_the_wiki", retry_safe=True)
UNSAFE = make_spec("send_the_bill")
HARMLESS = make_spec("look_around", risk=Risk.READ, retry_safe=True)


@pytest.fixture
async def lenient(database_url: str) -> AsyncIterator[World]:
    """An installation whose operator lets plans that only read or change run at once."""
    made = await open_world(database_url, auto_approve=frozenset({Risk.READ, Risk.CHANGE}))
    yield made
    await close_world(made)


@pytest.fixture
def registry(world: World) -> Registry:
    return Registry(world.store, MASTER)


async def joined(world: World, name: str, *specs: IntentSpec, grants: bool = True) -> PaperAgent:
    """Enrol an agent whose grants are the operator's, one by one."""
    registry = Registry(world.store, MASTER)
    agent_id, _, generation = await registry.enrol(name)
    agent = PaperAgent(world, agent_id, name, generation=generation)
    for queue in (work_queue(str(agent_id)), control_queue(str(agent_id))):
        await world.broker.declare(queue)
    await agent.register(*specs)
    if grants:
        await registry.grant(name, None, "ann")
    return agent


def relabelled(spec: IntentSpec, **changes: Any) -> IntentSpec:
    return spec.model_copy(update=changes)


async def task_of(world: World, request_id: UUID) -> dict[str, Any]:
    plan = await world.queries.plan(request_id)
    assert plan is not None, (await world.queries.request(request_id))["status_reason"]
    (task,) = plan["plan"]["tasks"]
    return dict(task)


async def rule_of(world: World, request_id: UUID) -> str:
    plan = await world.queries.plan(request_id)
    assert plan is not None
    return str(plan["ruling"]["rule"])


async def agree(world: World, request_id: UUID) -> None:
    plan = await world.queries.plan(request_id)
    assert plan is not None
    await world.control.approve(request_id, plan["digest"], "ann")
    await world.due_now()
    await world.engine.dispatch()


async def shown(world: World, request_id: UUID) -> str:
    """What `status` and `why` show of a plan."""
    plan = await world.reads.plan(request_id)
    assert plan is not None
    lines = plan_lines(await world.reads.request(request_id), plan, None)
    return "\n".join(line.text for line in [*lines, *await story_lines(world.reads, request_id)])


# --- an offer of what another agent offers ------------------------------------------------------------------------


async def test_another_agents_destroy_playbook_relabelled_as_read_is_still_asked_about(lenient: World) -> None:
    await joined(lenient, "nas", WIPE)
    await joined(lenient, "mallory", relabelled(WIPE, risk=Risk.READ))
    request_id = await lenient.planned("wipe_the_disk")
    assert await lenient.status(request_id) is R.AWAITING_APPROVAL
    task = await task_of(lenient, request_id)
    assert (task["risk"], task["agents"]) == ("destroy", ["nas"])
    text = await shown(lenient, request_id)
    assert "nas and mallory (risk: destroy, read) offer it differently" in text
    assert text.count("DESTROYS something") == 1
    assert "may run on nas" in text


async def test_the_relabelled_offer_alone_never_reaches_the_agent_it_was_copied_from(lenient: World) -> None:
    """The content is the same, what is said of it is not: the other agent does not run it under these terms."""
    nas = await joined(lenient, "nas", WIPE)
    mallory = await joined(lenient, "mallory", relabelled(WIPE, risk=Risk.READ))
    await nas.register()  # its file is away for the moment of a checkout, and mallory's word is all there is
    request_id = await lenient.planned("wipe_the_disk")
    await nas.register(WIPE)
    assert await lenient.status(request_id) is R.RUNNING, "what mallory does on her machine is hers to say"
    await lenient.engine.dispatch()
    assert await nas.orders() == []
    (order,) = await mallory.orders()
    assert order.content_hash == relabelled(WIPE, risk=Risk.READ).bound_hash != WIPE.bound_hash


async def test_a_chosen_content_hash_takes_no_work_from_who_had_it_first(lenient: World) -> None:
    """`restart the wiki` was hijacked with the hash 000: the smallest one counted."""
    nas = await joined(lenient, "nas", WIKI)
    alone = await lenient.planned("restart_the_wiki", words="before")
    assert await lenient.status(alone) is R.RUNNING
    for content in ("0" * 64, "", "f" * 64):
        mallory = await joined(lenient, f"mallory{content[:1]}", relabelled(WIKI, content_hash=content))
        request_id = await lenient.planned("restart_the_wiki", words=f"with {content or 'none'}")
        assert await rule_of(lenient, request_id) == "offers differ"
        task = await task_of(lenient, request_id)
        assert (task["agents"], task["content_hash"]) == (["nas"], WIKI.bound_hash)
        assert task["source"].startswith("nas: ")
        await agree(lenient, request_id)
        assert await mallory.orders() == []
        assert [order.content_hash for order in await nas.orders()][-1] == WIKI.bound_hash


async def test_no_hash_of_hers_is_ever_chosen_before_the_first(lenient: World) -> None:
    """She cannot grind the bound hash, either: what counts is who was granted it first."""
    await joined(lenient, "nas", WIKI)
    small = min((relabelled(WIKI, content_hash=str(n)) for n in range(500)), key=lambda spec: spec.bound_hash)
    assert small.bound_hash < WIKI.bound_hash
    await joined(lenient, "a-mallory", small)
    assert (await task_of(lenient, await lenient.planned("restart_the_wiki")))["agents"] == ["nas"]


async def test_while_the_first_is_away_the_other_version_is_planned_by_and_asked_about(lenient: World) -> None:
    await joined(lenient, "nas", WIKI)
    mallory = await joined(lenient, "mallory", relabelled(WIKI, content_hash="hers"))
    await lenient.gone("nas")
    await mallory.beat()
    request_id = await lenient.planned("restart_the_wiki")
    assert await rule_of(lenient, request_id) == "offers differ"
    assert (await task_of(lenient, request_id))["agents"] == ["mallory"]
    assert "what would run is not the same" in await shown(lenient, request_id)


SIBLINGS: dict[str, dict[str, Any]] = {
    "retry safety": {"retry_safe": False},
    "exclusive keys": {"exclusive_keys": ("other",)},
    "dry run": {"dry_run": True},
    "parameters": {"parameters": {"type": "object", "properties": {"x": {"type": "string"}}}},
    "outputs": {"outputs": {"type": "object", "properties": {"x": {"type": "string"}}}},
    "state": {"state": ("files",)},
    "deadlines": {"deadlines": {"run_seconds": 5.0}},
    "examples": {"examples": ("restart everything",)},
    "description": {"description": "Something else"},
}


@pytest.mark.parametrize("changes", SIBLINGS.values(), ids=SIBLINGS)
async def test_whatever_else_she_says_of_the_same_content_is_another_offer(
    lenient: World, changes: dict[str, Any]
) -> None:
    await joined(lenient, "nas", WIKI)
    hers = IntentSpec.model_validate({**WIKI.model_dump(), **changes})
    await joined(lenient, "mallory", hers)
    request_id = await lenient.planned("restart_the_wiki")
    assert await rule_of(lenient, request_id) == "offers differ"
    assert (await task_of(lenient, request_id))["agents"] == ["nas"]
    (concern,) = await lenient.reads.concerns()
    assert (concern.kind, concern.about) == ("offers differ", "restart_the_wiki")
    assert next(iter(changes)).replace("_", " ") in concern.text


async def test_agents_that_offer_the_same_from_other_places_do_not_contradict_each_other(lenient: World) -> None:
    await joined(lenient, "nas", WIKI)
    await joined(lenient, "backup", relabelled(WIKI, source="/elsewhere/wiki.yml"))
    request_id = await lenient.planned("restart_the_wiki")
    assert await lenient.status(request_id) is R.RUNNING
    assert (await task_of(lenient, request_id))["agents"] == ["backup", "nas"]
    assert await lenient.reads.concerns() == []


async def test_a_dry_run_of_what_is_offered_differently_is_asked_about(world: World) -> None:
    await joined(world, "nas", relabelled(WIKI, dry_run=True))
    alone = await world.planned("restart_the_wiki", words="alone", dry_run=True)
    assert await rule_of(world, alone) == "plain commands only"
    await joined(world, "mallory", relabelled(WIKI, risk=Risk.READ))
    request_id = await world.planned("restart_the_wiki", words="both", dry_run=True)
    assert await rule_of(world, request_id) == "offers differ"


async def test_two_people_are_still_asked_where_the_operator_wants_two(database_url: str) -> None:
    world = await open_world(database_url, four_eyes=frozenset({Risk.DESTROY}))
    await joined(world, "nas", WIPE)
    await joined(world, "mallory", relabelled(WIPE, risk=Risk.READ))
    assert await rule_of(world, await world.planned("wipe_the_disk")) == "four eyes"
    await close_world(world)


async def test_where_an_intent_comes_from_begins_with_the_name_that_the_operator_gave(world: World) -> None:
    await joined(world, "mallory", relabelled(WIKI, source="nas: /srv/playbooks/wiki.yml"))
    task = await task_of(world, await world.planned("restart_the_wiki"))
    assert task["source"] == "mallory: nas: /srv/playbooks/wiki.yml"
    offers = [offer.entry for offer in read_all(Offer, await world.queries.intents())]
    assert "mallory: nas: /srv" in "\n".join(line.text for line in catalog_lines(offers, []))


# --- who may run what was approved --------------------------------------------------------------------------------


async def test_who_offers_it_only_after_the_approval_is_not_given_it(world: World) -> None:
    nas = await joined(world, "nas", WIKI)
    request_id = await world.approved("restart_the_wiki", otherwise=["wait"])
    mallory = await joined(world, "mallory", WIKI)  # every byte as nas offers it
    await world.gone("nas")
    await mallory.beat()
    await world.engine.dispatch()
    assert await mallory.orders() == []
    (task,) = await world.queries.tasks(request_id)
    assert "offers it since after the plan was made" in task["status_reason"]
    await nas.register(WIKI)
    await world.due_now()
    await world.engine.dispatch()
    assert len(await nas.orders()) == 1
    later = await world.planned("restart_the_wiki", words="later")
    assert (await task_of(world, later))["agents"] == ["mallory", "nas"]


# --- grants -------------------------------------------------------------------------------------------------------


async def granted(world: World) -> dict[tuple[str, str], bool]:
    rows = await world.queries.intents()
    return {(row["name"], row["intent"]): row["granted"] for row in rows}


async def test_a_grant_does_not_outlive_what_it_was_given_for(world: World, registry: Registry) -> None:
    mallory = await joined(world, "mallory", WIPE)
    before = await world.approved("wipe_the_disk", words="before")
    await mallory.register(relabelled(WIPE, risk=Risk.READ))
    assert await granted(world) == {("mallory", "wipe_the_disk"): False}
    await world.engine.dispatch()
    assert await mallory.orders() == [], "what was approved before is not hers any more either"
    assert "not allowed to run it" in (await world.queries.tasks(before))[0]["status_reason"]
    assert await world.status(await world.planned("wipe_the_disk", words="after")) is R.IN_REVIEW
    (concern,) = await world.reads.concerns()
    assert (concern.kind, concern.about) == ("suspended grant", "mallory")
    assert "risk: destroy, read" in concern.text
    assert "chargehand agent grant mallory wipe_the_disk" in concern.remedy
    await mallory.register(WIPE)
    assert await granted(world) == {("mallory", "wipe_the_disk"): True}, "it says again what was granted"
    await mallory.register(relabelled(WIPE, risk=Risk.READ))
    await registry.grant("mallory", ["wipe_the_disk"], "ann")
    assert await granted(world) == {("mallory", "wipe_the_disk"): True}
    assert await world.reads.concerns() == []


@pytest.mark.parametrize("changes", SIBLINGS.values(), ids=SIBLINGS)
async def test_any_other_term_suspends_the_grant_too(world: World, changes: dict[str, Any]) -> None:
    """The words by which it is found as well: a grant to look around is none to be found as `restart the wiki`."""
    mallory = await joined(world, "mallory", HARMLESS, WIKI)
    await mallory.register(IntentSpec.model_validate({**HARMLESS.model_dump(), **changes}), WIKI)
    assert await granted(world) == {("mallory", "look_around"): False, ("mallory", "restart_the_wiki"): True}


async def test_another_content_keeps_the_grant_for_a_plan_names_the_content(world: World) -> None:
    agent = await joined(world, "nas", WIKI)
    await agent.register(relabelled(WIKI, content_hash="edited", source="moved.yml", unavailable="needs node"))
    assert await granted(world) == {("nas", "restart_the_wiki"): True}


async def test_an_offer_that_is_away_for_a_moment_keeps_its_grant(world: World, registry: Registry) -> None:
    """A checkout of five seconds lost all grants."""
    agent = await joined(world, "nas", WIKI, UNSAFE)
    await agent.register(UNSAFE)
    assert (await granted(world))["nas", "restart_the_wiki"] is False
    assert await world.status(await world.planned("restart_the_wiki", words="meanwhile")) is R.IN_REVIEW
    entries = {offer.intent: offer.entry for offer in read_all(Offer, await world.queries.intents())}
    assert entries["restart_the_wiki"].unavailable == "nas does not offer it any more; its grant is kept"
    with pytest.raises(UnknownId):
        await registry.grant("nas", ["restart_the_wiki"], "ann")
    await agent.register(WIKI, UNSAFE)
    assert await granted(world) == {("nas", "restart_the_wiki"): True, ("nas", "send_the_bill"): True}
    rows = {row["intent"]: row for row in await world.queries.intents()}
    assert rows["restart_the_wiki"]["granted_by"] == "ann"


async def test_what_comes_back_as_something_else_comes_back_without_its_grant(world: World, registry: Registry) -> None:
    mallory = await joined(world, "mallory", WIPE)
    await mallory.register()
    await mallory.register(relabelled(WIPE, risk=Risk.READ))
    assert await granted(world) == {("mallory", "wipe_the_disk"): False}
    await mallory.register()
    await registry.revoke("mallory", ["wipe_the_disk"], "ann")
    await mallory.register(WIPE)
    assert await granted(world) == {("mallory", "wipe_the_disk"): False}, "it was taken back while it was away"


async def test_offers_that_nobody_granted_are_forgotten(world: World) -> None:
    mallory = await joined(world, "mallory", WIPE, grants=False)
    for n in range(3):
        await mallory.register(make_spec(f"junk_{n}"))
    assert list(await granted(world)) == [("mallory", "junk_2")]


async def test_a_policy_that_grants_everything_keeps_nothing_of_what_is_gone(world: World) -> None:
    agent = await world.agent("mallory", make_spec("junk_0"))
    for n in range(1, 4):
        await agent.register(make_spec(f"junk_{n}"))
    assert await granted(world) == {("mallory", "junk_3"): True}


# --- not started, after all ---------------------------------------------------------------------------------------

CLAIMS: dict[str, Failure] = {
    kind: Failure(kind=kind, message="nothing was started", details={"started": False})  # type: ignore[arg-type]
    for kind in ("retryable", "infrastructure", "content_changed", "failed", "permanent", "cancelled")
}


async def leave(agent: PaperAgent, order: WorkOrder) -> None:
    """Begin as it should be: with leave."""
    await agent.accept(order)
    await agent.start(order)


async def unasked(agent: PaperAgent, order: WorkOrder) -> None:
    """Begin what needs leave without it."""
    await agent.start(order)


async def at_once(agent: PaperAgent, order: WorkOrder) -> None:
    """Say that it has begun in the same round of messages as the claim."""
    began = Progress(attempt_id=order.attempt_id, lease_token=order.lease_token, started=True)
    claim = CLAIMS["infrastructure"]
    await agent.world.engine.record([agent.message(MessageType.WORK_PROGRESS, began), agent.result(order, claim)])


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("begin", [leave, unasked, at_once])
async def test_what_has_begun_cannot_be_handed_back_as_not_started(
    world: World, begin: Callable[..., Any], claim: Failure
) -> None:
    mallory = await world.agent("mallory", UNSAFE)
    await world.agent("nas", UNSAFE)
    request_id = await world.approved("send_the_bill")
    plan = await world.queries.plan(request_id)
    assert plan is not None
    await world.engine.dispatch()
    found = [(agent, order) for agent in world.agents.values() for order in await agent.orders()]
    ((mallory, order),) = found
    await begin(mallory, order)
    await mallory.finish(order, claim)
    assert await world.status(request_id) is R.IN_REVIEW
    (review,) = await world.queries.reviews(request_id)
    assert review["kind"] == "unknown_outcome"
    await world.due_now()
    await world.engine.dispatch()
    assert [await agent.orders() for agent in world.agents.values()] == [[], []], "nobody sends the bill twice"


@pytest.mark.parametrize("kind", ["retryable", "infrastructure"])
async def test_what_was_only_granted_may_be_handed_back(world: World, kind: str) -> None:
    agent = await world.agent("nas", UNSAFE)
    request_id = await world.approved("send_the_bill")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    await agent.finish(order, CLAIMS[kind])
    assert await world.task_statuses(request_id) == ["ready"]


async def test_content_that_changed_before_the_start_fails_though_leave_was_given(world: World) -> None:
    agent = await world.agent("nas", UNSAFE)
    request_id = await world.approved("send_the_bill")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    await agent.finish(order, Failure(kind="content_changed", message="it was changed; nothing was run"))
    assert await world.status(request_id) is R.FAILED


async def test_what_is_safe_to_repeat_is_repeated_whatever_was_said(world: World) -> None:
    agent = await world.agent("nas", WIKI)
    request_id = await world.approved("restart_the_wiki")
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.start(order)
    await agent.finish(order, CLAIMS["infrastructure"])
    assert await world.task_statuses(request_id) == ["ready"]
