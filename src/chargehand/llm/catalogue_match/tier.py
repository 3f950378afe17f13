"""The catalogue match as a tier: asked like any other, it answers from what it has learned of the catalog."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec
from chargehand.domain.llm import Ask, Extracted, Opinion, Reply
from chargehand.domain.tiers import EMBEDDED
from chargehand.llm.catalogue_match import meaning, weights
from chargehand.llm.catalogue_match.classifier import train
from chargehand.llm.catalogue_match.judging import Judge
from chargehand.llm.catalogue_match.learning import Learning
from chargehand.llm.catalogue_match.opinion import extracted, opinion
from chargehand.llm.catalogue_match.profiles import Profile, profile
from chargehand.llm.catalogue_match.ranking import BY_MEANING, BY_WORDS, CERTAIN, SURE, Weights
from chargehand.llm.catalogue_match.training import examples, known_stems
from chargehand.understanding.judgements import Approved

log = logging.getLogger("chargehand.llm.catalogue_match")

ALONE = (
    "No LLM is configured: plain commands only. "
    "Set CHARGEHAND_LLM_LOCAL_URL and CHARGEHAND_LLM_LOCAL_MODEL to use one (docs/models.md)."
)
AFTER_AN_LLM = "The LLM gave no usable answer: plain commands only. `chargehand why` says what went wrong."


class CatalogueMatch:
    """Decomposes plain English commands without any model, and asks wherever it is not sure.

    `cache_dir` keeps trained weights between processes (None: in memory only). It must belong to this user alone.
    `notice` is what people are told with every answer. `embed`: also by meaning, where the extra `embed` is installed.
    """

    tier = EMBEDDED
    model = "catalogue match"
    timeout = None

    def __init__(
        self,
        cache_dir: Path | None = None,
        *,
        sure: float = SURE,
        notice: str = ALONE,
        ranking: Weights | None = None,
        certain: float = CERTAIN,
        embed: bool = True,
    ) -> None:
        self._cache_dir = cache_dir
        self._sure = sure
        self._notice = notice
        self._ranking = ranking
        self._certain = certain
        self._embed = embed and meaning.is_installed()
        self._learning = Learning(self._trained, sure=sure)

    async def structured(self, ask: Ask) -> Reply:
        """Answer from the words and the catalog of the question alone."""
        started = time.monotonic()
        try:
            value = await self._learning.answer(ask.text, ask.catalog)
        except ImportError as error:
            return self._reply(started, error=f"{error}; install chargehand[words]", error_class="BadConfiguration")
        return self._reply(started, value=value)

    async def opinion(self, ask: Ask, parts: Sequence[str]) -> Opinion | None:
        """Return what it makes of a request and of these parts of it; None where it cannot read it."""
        try:
            judge = await self._learning.judge(ask.catalog)
        except ImportError:
            return None
        return await asyncio.to_thread(opinion, ask.text, parts, judge, sure=self._sure)

    async def extracted(self, ask: Ask, parts: Sequence[tuple[str, str]]) -> Sequence[Extracted]:
        """Return the values that these parts, each an intent and its words, give; nothing where it cannot read them."""
        try:
            judge = await self._learning.judge(ask.catalog)
        except ImportError:
            return ()
        return await asyncio.to_thread(extracted, ask.text, parts, judge)

    def prepare(self, catalog: Catalog, past: Sequence[Approved]) -> None:
        """Begin to learn a catalog before somebody asks; `past` are approved requests that must be read as before."""
        self._learning.past = past
        if catalog.specs:
            self._learning.begin(catalog.specs)

    def _reply(self, started: float, **answer: Any) -> Reply:
        seconds = time.monotonic() - started
        return Reply(tier=self.tier, model=self.model, seconds=seconds, notice=self._notice, **answer)

    def _trained(self, specs: Sequence[IntentSpec]) -> Judge:
        judge = learn(specs, self._cache_dir, self._ranking, embed=self._embed)
        return replace(judge, certain=self._certain)


def learn(
    specs: Sequence[IntentSpec], cache_dir: Path | None = None, ranking: Weights | None = None, *, embed: bool = False
) -> Judge:
    """Return what judges clauses by a catalog: trained now, or with the weights kept from an earlier time."""
    profiles = [profile(spec) for spec in specs]
    phrases = examples(profiles)
    trained = weights.load(cache_dir, phrases) if cache_dir else None
    if trained is None:
        trained = train(phrases)
        if cache_dir:
            weights.save(cache_dir, phrases, trained)
    meant = _meaning(profiles, cache_dir) if embed else None
    ranking = ranking or (BY_MEANING if meant else BY_WORDS)
    by_intent = {each.spec.intent: each for each in profiles}
    return Judge(by_intent, known_stems(profiles), trained, ranking, meaning=meant)


def _meaning(profiles: Sequence[Profile], cache_dir: Path | None) -> meaning.Meaning | None:
    """The phrases by meaning; without the sentence model the words alone have to do, and the log says so."""
    try:
        return meaning.learn(profiles, cache_dir)
    except ImportError as error:
        log.warning("read by words alone: %s; install chargehand[embed]", error)
        return None
