"""What an author writes, and what becomes of it: offers, schemas, parameters, results."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field, SecretStr

from chargehand.agent import Agent, Outcome, Work
from chargehand.agent.offers import Offer
from chargehand.agent.runtime.lease import Lease
from chargehand.agent.runtime.results import ENDINGS, MAX_RESULT, ended, failed, failure_of, succeeded
from chargehand.domain.envelopes import MAX_BYTES
from chargehand.domain.errors import BadConfiguration, BadParameters, DiskFull, NoAgentAvailable, PermanentError
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.messages import WorkOrder
from chargehand.domain.risks import Risk


class Site(BaseModel):
    name: str
    port: int = Field(default=80, ge=1, le=65_535)


async def call(work: Work) -> None: ...


def make_order() -> WorkOrder:
    return WorkOrder(
        attempt_id=uuid4(),
        task_id=uuid4(),
        lease_token=3,
        number=1,
        intent="do_it",
        work_type="custom_work",
        parameters={},
        content_hash="",
        retry_safe=True,
        lease_seconds=60,
        deadline_seconds=60,
    )


def test_a_decorated_function_becomes_an_offer() -> None:
    agent = Agent("web", agent_type="infra")

    @agent.work("deploy_site", work_type="deploy_service", risk="destroy", resources=Resources(memory_mb=64))
    async def deploy(work: Work, p: Site) -> str:
        """Deploy a site.

        And more."""
        return p.name

    [offer] = agent.offers
    spec = offer.spec
    assert (spec.intent, spec.work_type, spec.risk, spec.agent_type) == (
        "deploy_site",
        "deploy_service",
        Risk.DESTROY,
        "infra",
    )
    assert spec.description == "Deploy a site."
    assert spec.parameters["required"] == ["name"]
    assert spec.resources.memory_mb == 64
    assert len(spec.content_hash) == 64
    assert spec.source.endswith("deploy")
    assert not spec.retry_safe


def test_the_content_hash_follows_the_source_or_the_version() -> None:
    def offered(version: str | None, answer: int) -> str:
        agent = Agent("a")
        if answer == 1:

            @agent.work("do_it", version=version)
            async def do_it(work: Work) -> str:
                return "1"

        else:

            @agent.work("do_it", version=version)
            async def do_it(work: Work) -> str:
                return "2"

        return agent.offers[0].spec.content_hash

    assert offered(None, 1) == offered(None, 1) != offered(None, 2)
    assert offered("7", 1) == offered("7", 2) != offered("8", 1)


class Deployed(BaseModel):
    url: str
    port: int = 80


def test_what_is_returned_is_declared_and_part_of_the_content_hash() -> None:
    def offered(outputs: Any) -> IntentSpec:
        agent = Agent("a")

        @agent.work("do_it", version="1", outputs=outputs)
        async def do_it(work: Work) -> dict[str, str]:
            return {"url": "http://here"}

        return agent.offers[0].spec

    assert offered(None).outputs == {}
    declared = offered(Deployed)
    assert declared.outputs["required"] == ["url"]
    by_hand = {"type": "object", "properties": {"url": {"type": "string"}}}
    assert offered(by_hand).outputs == by_hand
    assert len({offered(each).content_hash for each in (None, Deployed, by_hand)}) == 3


def test_a_secret_cannot_be_returned() -> None:
    class Login(BaseModel):
        password: SecretStr

    with pytest.raises(BadConfiguration, match="do_it cannot return a secret"):
        Agent("a").work("do_it", outputs=Login)(lambda work: None)  # type: ignore[arg-type, return-value]


def test_parameters_become_the_model() -> None:
    async def show(work: Work, p: Site) -> str:
        return f"{p.name}:{p.port}"

    offer = Offer(IntentSpec(intent="do_it", work_type="custom_work"), show, Site)
    with pytest.raises(BadParameters, match="port") as problem:
        offer.check({"name": "x", "port": 0})
    assert "name" not in str(problem.value)
    assert offer.check({"name": "x"}) == {"name": "x"}


def test_parameters_of_an_offer_without_a_model_fit_its_schema() -> None:
    schema = {"type": "object", "properties": {"port": {"type": "integer"}}, "required": ["port"]}
    offer = Offer(IntentSpec(intent="do_it", work_type="custom_work", parameters=schema), call)  # type: ignore[arg-type]
    with pytest.raises(BadParameters, match="port"):
        offer.check({"port": "x"})
    assert offer.bind(offer.check({"port": 1})) is call


@pytest.mark.parametrize("annotation", [int, "Missing", None])
def test_a_parameter_that_is_no_model_is_refused_when_decorated(annotation: object) -> None:
    async def bad(work, p): ...

    if annotation is not None:
        bad.__annotations__["p"] = annotation
    with pytest.raises(BadConfiguration, match="'p' of"):
        Agent("a").work("do_it")(bad)


def test_an_intent_is_offered_once_and_discovery_replaces_only_its_own() -> None:
    agent = Agent("a")
    agent.work("built_in")(call)
    agent.offer(IntentSpec(intent="found", work_type="custom_work"), call)
    with pytest.raises(BadConfiguration, match="twice"):
        agent.offer(IntentSpec(intent="built_in", work_type="custom_work"), call)
    agent.replace_offers([Offer(IntentSpec(intent="new", work_type="custom_work"), call)])
    assert [offer.spec.intent for offer in agent.offers] == ["built_in", "new"]
    assert agent.find("found") is None


def test_an_agent_needs_a_slot() -> None:
    with pytest.raises(BadConfiguration):
        Agent("a", slots=0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermanentError("no"), "permanent"),
        (NoAgentAvailable("busy"), "retryable"),
        (DiskFull("full"), "infrastructure"),
        (MemoryError(), "infrastructure"),
        (OSError(28, "No space left on device"), "infrastructure"),
        (OSError(2, "No such file"), "permanent"),
        (KeyError("x"), "permanent"),
    ],
)
def test_what_exceptions_mean(error: Exception, kind: str) -> None:
    assert failure_of(error).kind == kind


def test_foreign_exceptions_keep_their_class_and_one_line() -> None:
    assert failure_of(ValueError("one\ntwo")).message == "ValueError: one"
    assert failure_of(PermanentError("as it is")).message == "as it is"


@pytest.mark.parametrize("why", ENDINGS)
def test_work_that_did_not_start_is_never_unknown(why) -> None:
    assert ended(why, started=False).kind in ("retryable", "cancelled")
    assert "nothing was started" in ended(why, started=False).message


@pytest.mark.parametrize(
    ("returned", "ok"),
    [(Outcome("fine"), True), ({"a": 1}, True), ("fine", True), (None, True), ({"a": {1, 2}}, False)],
)
def test_what_work_may_return(returned, ok: bool) -> None:
    result = succeeded(make_order(), returned, 5)
    assert (result.ok, result.lease_token, result.duration_ms) == (ok, 3, 5)


def test_a_result_too_large_for_a_message_loses_its_data_first() -> None:
    big = "x" * MAX_RESULT
    result = succeeded(make_order(), Outcome("done", outputs={"small": 1}, data={"diff": big}), 5)
    assert result.outputs == {"small": 1}
    assert "left_out" in result.data
    result = succeeded(make_order(), Outcome("done", outputs={"big": big}, data={"diff": big}), 5)
    assert len(result.model_dump_json()) < MAX_BYTES
    assert result.ok
    assert failed(make_order(), failure_of(ValueError("x" * 10_000))).failure is not None


@pytest.mark.parametrize("seconds", [0.3, 6.0, 60.0])
def test_the_agent_acts_before_its_keeper_and_both_before_the_lease_ends(seconds: float) -> None:
    lease = Lease(seconds, renewed_at=100.0)
    assert 100 < lease.lost_at < lease.keeper_acts_at
    assert lease.keeper_acts_at + lease.grace < 100 + seconds
    lease.renew(90.0)  # a confirmation that was overtaken
    assert lease.renewed_at == 100.0
