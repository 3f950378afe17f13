"""A real model measured on cases: the match alone, the model alone, and both as the product puts them together.

Tokens, seconds and what the server's cache saved are counted per request, from the calls that the product would keep.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from bench.meter import percentile
from bench.scoring import Case, Outcome, figures, values
from chargehand.app import application
from chargehand.catalog.catalog import Catalog
from chargehand.domain.errors import BadRequest
from chargehand.domain.ports import LLM
from chargehand.domain.records import Call
from chargehand.domain.tiers import EMBEDDED, models
from chargehand.engine import asking, engine, tier_chain
from chargehand.settings import Settings
from chargehand.understanding import nlu, questions

REQUEST_ID = UUID(int=1)
PATIENCE = 300.0  # seconds for a request: a small machine that shares its cores is measured, too
TOLD = ("exact_unasked_pct", "wrong_unflagged_pct", "asked_pct", "flagged_pct", "oos_recall_pct", "ece")


async def measure(settings: Settings, url: str, model: str, known: Catalog, cases: Sequence[Case]) -> Mapping[str, Any]:
    """Return the figures of all three, and what the model cost."""
    tier = models()[0].name
    endpoint = {f"llm_{tier}_via": "http", f"llm_{tier}_url": url, f"llm_{tier}_model": model}
    chosen = settings.model_copy(update={**endpoint, f"llm_{tier}_timeout": PATIENCE})
    tiers = dict(application.tiers(chosen))
    match = tiers[EMBEDDED]
    await match.structured(questions.build_ask(REQUEST_ID, "warm up", known))
    trust = asking.Trust(application.second_reader(tiers))
    alone, _ = await _read_all(cases, known, {EMBEDDED: match}, chosen, trust)
    by_model, _ = await _read_all(cases, known, {tier: tiers[tier]}, chosen, asking.Trust())
    both, calls = await _read_all(cases, known, tiers, chosen, trust)
    return {
        "n": len(cases),
        "match": _told(alone),
        "model": _told(by_model),
        "together": {**_told(both), **values(both), "in_review": sum(each.got is None for each in both)},
        **_costs(both, calls, tier),
    }


async def _read_all(
    cases: Sequence[Case], known: Catalog, tiers: Mapping[str, LLM], settings: Settings, trust: asking.Trust
) -> tuple[list[Outcome], list[Sequence[Call]]]:
    outcomes: list[Outcome] = []
    made: list[Sequence[Call]] = []
    for case in cases:
        started, got = time.perf_counter(), None
        calls: Sequence[Call] = ()
        try:
            ask = questions.build_ask(REQUEST_ID, nlu.clean(case.request), known)
            thresholds = engine.thresholds(settings)
            got, calls = await tier_chain.understand(ask, tiers, thresholds, asking.Places({}), trust)
        except BadRequest:  # refused at the door: a person hears of it
            pass
        outcomes.append(Outcome(case, got, time.perf_counter() - started))
        made.append(calls)
    return outcomes, made


def _told(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    found = figures(outcomes)
    return {name: found[name] for name in TOLD}


def _costs(outcomes: Sequence[Outcome], calls: Sequence[Sequence[Call]], tier: str) -> dict[str, Any]:
    asked = [[call.reply for call in each if call.reply.tier == tier] for each in calls]
    replies = [reply for each in asked for reply in each]
    total_in = sum(reply.tokens_in for reply in replies)
    seconds = [outcome.seconds for outcome in outcomes]
    return {
        "calls": {str(n): sum(len(each) == n for each in asked) for n in sorted({len(each) for each in asked})},
        "at_most_two_calls_pct": round(100 * sum(len(each) <= 2 for each in asked) / max(1, len(asked)), 1),
        "tokens_in": total_in,
        "tokens_out": sum(reply.tokens_out for reply in replies),
        "cached_pct": round(100 * sum(reply.tokens_cached for reply in replies) / max(1, total_in), 1),
        "seconds_p50": round(percentile(seconds, 0.5), 2),
        "seconds_p95": round(percentile(seconds, 0.95), 2),
    }
