"""The catalogue match while the catalog changes: real catalogs, real training, and nothing that stands still for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest

from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec
from chargehand.domain.plans import DecomposedRequest
from chargehand.llm.catalogue_match import CatalogueMatch
from chargehand.llm.catalogue_match.examining import Exam, examine, worse
from chargehand.llm.catalogue_match.judging import Judge
from chargehand.llm.catalogue_match.learning import Learning, safely
from chargehand.llm.catalogue_match.tier import learn
from chargehand.understanding import nlu, questions
from chargehand.understanding.judgements import Approved
from tests.decompose.scoring import HERE, REQUEST_ID, load_catalog
from tests.speed import slowness

SURE = 0.75
MOST_STALL = 0.5  # seconds that the event loop may stand still


@pytest.fixture(scope="module")
def homelab() -> Catalog:
    return load_catalog(HERE / "homelab_catalog.json")


@pytest.fixture(scope="module")
def judge(homelab: Catalog) -> Judge:
    return learn(homelab.specs)


def without(catalog: Catalog, *intents: str) -> Catalog:
    return Catalog(tuple(spec for spec in catalog.specs if spec.intent not in intents))


def offering(*phrases: str, intent: str, service: str | None = None) -> IntentSpec:
    return IntentSpec(intent=intent, work_type="custom_work", service=service, description=phrases[0], examples=phrases)


GRAFANA = offering("deploy Grafana", "install Grafana", "set up Grafana", intent="deploy_grafana", service="grafana")


async def read(llm: CatalogueMatch, text: str, catalog: Catalog) -> DecomposedRequest:
    ask = questions.build_ask(REQUEST_ID, text, catalog)
    return nlu.read_reply(await llm.structured(ask), ask, nlu.Thresholds())


class Slow:
    """Trains as ever, but not before it is told to, so that a test can ask meanwhile."""

    def __init__(self) -> None:
        self.may = Event()
        self.may.set()
        self.trained: list[int] = []

    def __call__(self, specs: Sequence[IntentSpec]) -> Judge:
        assert self.may.wait(30)
        self.trained.append(len(specs))
        return learn(specs)


async def test_the_old_one_answers_while_the_new_one_is_trained(homelab: Catalog) -> None:
    slow = Slow()
    learning = Learning(slow, sure=SURE)
    await learning.answer("deploy kuma", homelab.specs)
    slow.may.clear()
    more = [*homelab.specs, GRAFANA]
    early: Any = await asyncio.wait_for(learning.answer("restart the status page", more), 5)
    assert [task["intent"] for task in early["subtasks"]] == ["restart_status_page"]
    waiting = asyncio.create_task(learning.answer("deploy grafana", more))  # only the new one can know it
    await asyncio.sleep(0.2)
    assert not waiting.done()
    slow.may.set()
    late: Any = await asyncio.wait_for(waiting, 30)
    assert [task["intent"] for task in late["subtasks"]] == ["deploy_grafana"]
    assert slow.trained == [len(homelab.specs), len(more)]


async def test_what_has_gone_is_not_planned_by_the_old_one(homelab: Catalog) -> None:
    slow = Slow()
    learning = Learning(slow, sure=SURE)
    await learning.answer("deploy kuma", homelab.specs)
    slow.may.clear()
    fewer = without(homelab, "deploy_kuma").specs
    waiting = asyncio.create_task(learning.answer("deploy kuma", fewer))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    slow.may.set()
    late: Any = await asyncio.wait_for(waiting, 30)
    assert late["ambiguities"] or late["out_of_scope"]
    assert "deploy_kuma" not in [task["intent"] for task in late["subtasks"]]


async def test_a_changed_intent_is_not_answered_from_what_it_was(judge: Judge, homelab: Catalog) -> None:
    changed = [
        spec.model_copy(update={"examples": ("bring the status page back",)})
        if spec.intent == "restart_status_page"
        else spec
        for spec in homelab.specs
    ]
    assert safely("restart the status page", judge, homelab.specs, SURE) is not None
    assert safely("restart the status page", judge, changed, SURE) is None


async def burst(llm: CatalogueMatch, asked: Sequence[tuple[str, Catalog]]) -> tuple[list[DecomposedRequest], float]:
    """Ask everything at once; return the answers, and the longest time that the event loop stood still."""
    longest, ended = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not ended.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - began)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(read(llm, text, catalog) for text, catalog in asked))
    ended.set()
    await watching
    return list(answers), longest


@pytest.mark.alone
async def test_a_burst_while_the_catalog_changes(homelab: Catalog) -> None:
    """No answer names what its catalog has not, and the event loop goes on meanwhile."""
    catalogs = [homelab, without(homelab, "deploy_kuma"), Catalog((*homelab.specs, GRAFANA))]
    requests = ["deploy kuma", "deploy grafana", "restart the status page", "renew the certificates"]
    asked = [(text, catalog) for catalog in catalogs * 5 for text in requests]
    stalls, most = [], MOST_STALL * max(1.0, slowness())
    for _ in range(3):  # others may keep this machine busy once, but not thrice
        llm = CatalogueMatch()
        await read(llm, "deploy kuma", homelab)
        answers, stall = await burst(llm, asked)
        stalls.append(stall)
        for (text, catalog), got in zip(asked, answers, strict=True):
            assert {task.intent for task in got.subtasks} <= set(catalog.intents)
            assert not got.subtasks or got.subtasks[0].intent != "deploy_kuma" or text == "deploy kuma"
        if stall < most:
            break
    assert min(stalls) < most


@pytest.mark.parametrize(
    ("old", "new", "is_worse"),
    [
        (Exam(100, 90, 10, 10), Exam(100, 89, 10, 9), False),
        (Exam(100, 90, 10, 10), Exam(100, 80, 10, 10), True),
        (Exam(100, 90, 100, 80), Exam(100, 90, 100, 76), False),
        (Exam(100, 90, 10, 10), Exam(100, 90, 10, 8), True),
        (Exam(0, 0, 0, 0), Exam(0, 0, 0, 0), False),
    ],
)
def test_a_little_may_be_lost(old: Exam, new: Exam, is_worse: bool) -> None:
    assert bool(worse(old, new)) is is_worse


async def test_an_offer_that_takes_the_words_of_others_is_not_trusted(
    homelab: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    """What the old one is sure of stays as it is, and everything else is asked about."""
    thief = offering(
        *(example for spec in homelab.specs for example in spec.examples[:2]), intent="do_it_all", service="everything"
    )
    learning = Learning(learn, sure=SURE)
    learning.past = [Approved("renew our certificates please", ("renew_certificates",))]
    await learning.answer("deploy kuma", homelab.specs)
    both = [*homelab.specs, thief]
    await learning.judge(both)
    assert "read worse" in caplog.text
    kept: Any = await learning.answer("restart the status page", both)
    assert [task["intent"] for task in kept["subtasks"]] == ["restart_status_page"]
    assert (await learning.answer("please do it all, everything", both))["ambiguities"]


def test_past_requests_are_part_of_the_exam(judge: Judge, homelab: Catalog) -> None:
    past = [
        Approved("deploy kuma", ("deploy_kuma",)),
        Approved("restart the status page", ("deploy_kuma",)),  # a model read it otherwise
        Approved("fly to the moon", ("fly",)),  # what is not compared is not asked
    ]
    exam = examine(judge, homelab.intents, past, SURE)
    assert (exam.past, exam.past_right) == (2, 1)
    assert 0 < exam.phrases_right <= exam.phrases
