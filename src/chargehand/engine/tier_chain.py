"""Asks the tiers, one after the other, until one has read the request; every attempt is kept, with what was wrong.

Who is asked next, and who again, stands in `understanding/tiers.py`; whether an answer can be used is decided in
`nlu.py`, what two readings are worth together in `readings.py`. One tier is asked in `asking.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from chargehand.catalog.catalog import Catalog
from chargehand.domain.llm import Ask
from chargehand.domain.plans import DecomposedRequest
from chargehand.domain.ports import LLM
from chargehand.domain.records import Call, RequestRecord
from chargehand.domain.tiers import EMBEDDED, MODEL, named
from chargehand.engine.asking import Places, Reading, Trust, ask_tier
from chargehand.understanding import nlu, readings
from chargehand.understanding import tiers as table

log = logging.getLogger("chargehand.engine.tier_chain")


@dataclass(frozen=True, slots=True)
class Understood:
    """A request as the tiers have read it, by which catalog, and every call that was made; None: no tier could."""

    request: RequestRecord
    known: Catalog
    decomposed: DecomposedRequest | None
    ask: Ask
    calls: Sequence[Call] = ()

    def is_claimed(self, current: Mapping[UUID, RequestRecord]) -> bool:
        """Whether it is still ours to go on with, as the locked rows say."""
        row = current.get(self.request.request_id)
        if row is not None and row.claim_token == self.request.claim_token:
            return True
        about = {"request_id": self.request.request_id, "trace_id": self.request.trace_id}
        log.info("request %s was taken over by another process", self.request.request_id, extra=about)
        return False

    def now(self, current: Mapping[UUID, RequestRecord]) -> Understood:
        """Return the same with the request as it stands now."""
        return replace(self, request=current[self.request.request_id])


def tried_tier(call: Call) -> dict[str, str | None]:
    """Return what a person is told of a call that led to nothing."""
    return {"tier": call.reply.tier, "model": call.reply.model, "error": call.problem}


async def understand(
    ask: Ask, tiers: Mapping[str, LLM], thresholds: nlu.Thresholds, places: Places, trust: Trust
) -> tuple[DecomposedRequest | None, list[Call]]:
    """Walk the chain of tiers. Returns what was understood, None when no tier could, and every call that was made.

    The catalogue match reads first: it costs nothing. Where it is sure, no model need be asked; else its reading
    stands beside the model's, and is used when all models fail. A model that is unsure is not the last word while
    another one is left; when none is, its answer is used after all, with its flags and questions.
    """
    reading = Reading(ask, thresholds, places, trust)
    models = {name: tier for name, tier in tiers.items() if named(name).kind is MODEL}
    others = {name: tier for name, tier in tiers.items() if name not in models}
    if thresholds.asking == "never" or not models:
        return await _walk(others, reading), reading.calls
    match = await _read_first(others, reading)
    if match is not None and _enough(match, thresholds):
        return match.model_copy(update={"notice": ""}), reading.calls
    decomposed = await _walk(models, reading)
    if decomposed is None and match is not None:
        reading.follow("used")
        return match, reading.calls
    return decomposed or await _walk(others, reading), reading.calls


def _enough(match: DecomposedRequest, thresholds: nlu.Thresholds) -> bool:
    """Whether the match's reading is used without a model's."""
    return thresholds.asking == "unsure" and readings.is_sure(match)


async def _read_first(others: Mapping[str, LLM], reading: Reading) -> DecomposedRequest | None:
    """Have the catalogue match read the request. What it makes of it stands beside what a model will."""
    match = others.get(EMBEDDED)
    if match is None:
        return None
    reading.match = await ask_tier(match, reading, FIRST)
    if reading.match is None:  # it cannot read at all: it is asked again in its place, and that call is kept
        reading.calls.clear()
        return None
    if _enough(reading.match, reading.thresholds):
        return reading.match
    why = readings.why_unsure(reading.match)
    reading.calls[-1] = reading.calls[-1]._replace(
        problem=why, error_class="Unsure" if why else None, followed="beside"
    )
    return reading.match


FIRST = "read first: it needs no model"


async def _walk(tiers: Mapping[str, LLM], reading: Reading) -> DecomposedRequest | None:
    """Ask these tiers in their order until one settles it; the best of what was unsure when none does."""
    configured = frozenset(tiers)
    while (choice := table.next_tier(configured, reading.left)).tier is not None:
        decomposed = await ask_tier(tiers[choice.tier], reading, choice.reason)
        if decomposed is not None and _settles(decomposed, configured, reading):
            return decomposed
        reading.left.append(choice.tier)
    return reading.unsure


def _settles(decomposed: DecomposedRequest, configured: frozenset[str], reading: Reading) -> bool:
    """Whether an answer is the last word; if not, the call it came by says why, and it is kept."""
    doubt = table.doubt(decomposed, reading.thresholds.flag)
    following = table.next_tier(configured, [*reading.left, decomposed.tier]).tier
    if doubt is None or following is None or named(following).kind is not MODEL:
        return True
    last = reading.calls[-1]
    reading.calls[-1] = last._replace(problem=doubt, error_class="Unsure", followed="doubt")
    reading.unsure = decomposed
    return False
