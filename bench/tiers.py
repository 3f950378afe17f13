"""What becomes of requests while models fail: every known failure of each provider, then all tiers down at once.

The models are scripted servers in processes of their own, asked through LiteLLM and over HTTP as real ones are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bench.meter import private_home
from bench.stalls import watched
from chargehand.app.application import Application, open_application
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.messages import AgentRegistration
from chargehand.domain.risks import Risk
from chargehand.domain.tiers import EMBEDDED, models
from chargehand.engine.asking import Places
from chargehand.engine.loops import Readings
from chargehand.llm.catalogue_match import AFTER_AN_LLM, CatalogueMatch
from chargehand.llm.litellm_proxy import ProxyLLM
from chargehand.llm.litellm_sdk import SdkLLM
from chargehand.private_postgres import PrivatePostgres
from chargehand.settings import Settings
from chargehand.store import migrate
from chargehand.testing.llm import PROVIDERS, Mode, ScriptedServer, fails, modes, says

SPEC = IntentSpec(
    intent="sweep_the_yard",
    work_type="run_automation",
    risk=Risk.CHANGE,
    examples=("sweep the yard", "please sweep the yard", "sweep our yard", "sweep the whole yard"),
)
GOOD = {"subtasks": [{"order": 1, "name": "Sweep the yard", "intent": SPEC.intent, "confidence": 0.9}]}
BESIDE = 20  # requests that the match reads while models are down
ENDLESS = 3.0  # seconds a tier has for what only a time-out ends
PATIENT = 60.0  # seconds it has for all else: two retries wait 1.5 s, but the machine may be busy
MODELS = {"anthropic": "anthropic/claude-haiku-5-5", "ollama": "ollama_chat/small"}
KEY = "sk-scripted-key-1234"
FIRST, SECOND = (tier.name for tier in models()[:2])


def lettered(words: str) -> str:
    """Write numbers as letters: a number in a request that no step takes is a question."""
    return words.translate(str.maketrans("0123456789", "abcdefghij"))


def run(*, quick: bool) -> Mapping[str, Any]:
    """Return how many ended in the wrong tier, the longest stall, and how many reviews were lost."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("chargehand").setLevel(logging.ERROR)  # it warns of each failure, and they are all wanted
    with private_home() as home, ScriptedServer() as failing, ScriptedServer() as healthy:
        healthy.script({}, otherwise=says(GOOD))
        dsn = PrivatePostgres(home).start()
        migrate.upgrade(dsn)
        return asyncio.run(_measure(home, dsn, (failing, healthy), 20 if quick else 200))


async def _measure(
    home: Path, dsn: str, servers: tuple[ScriptedServer, ScriptedServer], requests: int
) -> dict[str, Any]:
    failing, healthy = servers
    async with _office(home, dsn) as app:
        began = time.perf_counter()
        async with watched() as importing:
            for provider in MODELS:
                await _sdk(provider, failing.url, PATIENT).prepare()
        loaded = time.perf_counter() - began
        async with watched() as stalls:
            wrong = [each for p in PROVIDERS for each in await _wrong(app, p, failing, healthy)]
            down = await _all_down(app, failing, requests)
        return {
            "failure_modes": len(modes(GOOD)),
            "cases": len(modes(GOOD)) * len(PROVIDERS),
            "wrong_tier": len(wrong),
            "max_stall_ms": round(1000 * stalls.own),
            "max_stall_wall_ms": round(1000 * stalls.wall),
            **down,
            "import_s": round(loaded, 1),
            "import_stall_ms": round(1000 * importing.own),
            "wrong": wrong,
        }


@asynccontextmanager
async def _office(home: Path, dsn: str) -> AsyncIterator[Application]:
    async with open_application(Settings(home=home, database_url=dsn)) as app:
        agent_id = uuid4()
        offer = AgentRegistration(
            agent_id=str(agent_id),
            incarnation="bench.1",
            name="bench",
            agent_type="infra",
            pool_name="bench",
            version="1",
            resources=Resources(estimated_duration_seconds=0, cpu_cores=1),
            intents=(SPEC,),
        )
        async with app.store.transaction() as tx:
            await tx.enrol(agent_id, "bench", agent_type="infra", pool="bench", grant_policy="bench")
            await tx.register("bench", offer, "bench")
        yield app


def _sdk(provider: str, url: str, seconds: float, tier: str = FIRST) -> SdkLLM:
    return SdkLLM(MODELS[provider], tier=tier, url=url, key=KEY, timeout=seconds)


async def _wrong(
    app: Application, provider: str, failing: ScriptedServer, healthy: ScriptedServer
) -> Sequence[Mapping[str, Any]]:
    """Let that provider fail in every way before a model that works; return what did not go as the table says."""
    everything = modes(GOOD)
    failing.script({lettered(f"{name}, as {provider} does"): mode.answers for name, mode in everything.items()})
    wrong = []
    for endless, seconds in ((True, ENDLESS), (False, PATIENT)):
        proxy = ProxyLLM(failing.url, "small", tier=FIRST, key=KEY, timeout=seconds)
        first = proxy if provider == "proxy" else _sdk(provider, failing.url, seconds)
        second_reader = ProxyLLM(healthy.url, "small", tier=SECOND, key=KEY, timeout=PATIENT)
        app.engine.tiers = {FIRST: first, SECOND: second_reader}
        app.engine.places = Places({FIRST: 10})  # the table is what is measured, not how many wait
        some = {name: mode for name, mode in everything.items() if mode.endless is endless}
        asked = {
            name: await app.engine.submit(lettered(f"{name}, as {provider} does"), requester="bench") for name in some
        }
        while await app.engine.decompose():
            pass
        for name, request_id in asked.items():
            seen = await _differs(app, request_id, some[name], provider)
            wrong += [{"mode": name, "provider": provider, **seen}] if seen else []
    return wrong


async def _differs(app: Application, request_id: UUID, mode: Mode, provider: str) -> Mapping[str, Any] | None:
    calls = await app.queries.llm_calls(request_id)
    expected = [(FIRST, kept) for kept in mode.expected(provider)]
    expected += [] if mode.stays(provider) else [(SECOND, None)]
    seen = [(call["tier"], call["error_class"]) for call in calls]
    told = all(call["choice"] and (call["error"] or call["followed"] == "used") for call in calls)
    status = (await app.queries.request(request_id))["status"]
    if (seen, status, told) == (expected, "awaiting_approval", True):
        return None
    return {"expected": expected, "seen": seen, "status": status}


async def _all_down(app: Application, failing: ScriptedServer, requests: int) -> dict[str, int]:
    """Take all models away, submit what nobody can read then, and bring them back; once more beside the match."""
    settings = app.settings
    down = {
        tier.name: _sdk(provider, failing.url, settings.llm(tier).timeout, tier.name)
        for tier, provider in zip(models(), cycle(("ollama", "anthropic")), strict=False)
    }
    app.engine.tiers = down  # as where the extra `words` is not installed: else the match's reading would be used
    app.engine.places = Places({tier.name: settings.llm(tier).concurrency for tier in models()})
    failing.script({}, otherwise=fails(503))
    words = [lettered(f"make plot {n} behind the house presentable") for n in range(requests)]
    asked = [await app.engine.submit(each, requester="bench") for each in words]
    await _read(app)
    reviews = {row["request_id"] for row in await app.queries.reviews() if row["kind"] == "no_plan"}
    kept = [await _intact(app, request_id, each) for request_id, each in zip(asked, words, strict=True)]
    failing.script({}, otherwise=says(GOOD))
    resumed = await app.control.reread("bench")
    await _read(app)
    planned = [(await app.queries.request(r))["status"] == "awaiting_approval" for r in asked]
    lost = sum(not (r in reviews and whole and done) for r, whole, done in zip(asked, kept, planned, strict=True))
    beside = await _beside(app, failing, down)
    return {"reviews": len(reviews), "reviews_lost": lost, "resumed": len(resumed), **beside}


async def _beside(app: Application, failing: ScriptedServer, down: Mapping[str, SdkLLM]) -> dict[str, int]:
    """Take the models away where the match reads, too: what it asks or refuses is used, and nobody waits for them."""
    failing.script({}, otherwise=fails(503))
    match = CatalogueMatch(app.settings.home / "cache", notice=AFTER_AN_LLM)
    app.engine.tiers = {**down, EMBEDDED: match}
    words = [lettered(f"make plot {n} behind the house presentable") for n in range(BESIDE)]
    asked = [await app.engine.submit(each, requester="bench") for each in words]
    await _read(app)
    statuses = [(await app.queries.request(request_id))["status"] for request_id in asked]
    return {
        "beside_the_match": BESIDE,
        "read_by_the_match": sum(status in ("asking", "refused") for status in statuses),
    }


async def _intact(app: Application, request_id: UUID, words: str) -> bool:
    """Whether a request waits for a person with its words and every tier's attempt."""
    row, reviews = await app.queries.request(request_id), await app.queries.reviews(request_id)
    tried = {each["tier"] for review in reviews for each in review["context"]["tried"] if each["error"]}
    return row["status"] == "in_review" and row["wording"] == words and tried == set(app.engine.tiers)


async def _read(app: Application) -> None:
    """Read everything that waits, as the loop does."""
    readings = Readings(app.engine)
    while await readings.step():
        pass
    await readings.settled()
