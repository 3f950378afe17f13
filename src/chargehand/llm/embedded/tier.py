"""The embedded tier as a model: asked like any other, it answers from what it has learned of the catalog."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chargehand.catalog import Catalog
from chargehand.crosscheck import Opinion
from chargehand.llm.embedded import meaning, weights
from chargehand.llm.embedded.calibration import FITTED, Weights
from chargehand.llm.embedded.classifier import train
from chargehand.llm.embedded.judging import Judge
from chargehand.llm.embedded.opinion import opinion
from chargehand.llm.embedded.profiles import profile
from chargehand.llm.embedded.reading import read
from chargehand.llm.embedded.training import examples, known_stems
from chargehand.models import Ask, IntentSpec, Reply

ALONE = (
    "No LLM is configured: plain commands only. "
    "Set CHARGEHAND_LLM_LOCAL_URL and CHARGEHAND_LLM_LOCAL_MODEL to use one (docs/models.md)."
)
AFTER_AN_LLM = "The LLM gave no usable answer: plain commands only. `chargehand why` says what went wrong."
SURE = 0.70  # below it nothing is planned; `Thresholds.embedded` checks the same again


class EmbeddedLLM:
    """Decomposes plain English commands without any model, and asks wherever it is not sure.

    `cache_dir` keeps trained weights between processes (None: in memory only). It must belong to this user alone.
    `notice` is what people are told with every answer.
    """

    tier = "embedded"
    model = "catalogue match"
    timeout = None

    def __init__(
        self,
        cache_dir: Path | None = None,
        *,
        sure: float = SURE,
        notice: str = ALONE,
        calibration: Weights = FITTED,
        embed: bool = False,
    ) -> None:
        self._cache_dir = cache_dir
        self._sure = sure
        self._notice = notice
        self._calibration = calibration
        self._embed = embed
        self._judges: dict[str, Judge] = {}
        self._training = asyncio.Lock()

    async def structured(self, ask: Ask) -> Reply:
        """Answer from the words and the catalog of the question alone."""
        started = time.monotonic()
        try:
            async with self._training:  # two requests at once must not train the same catalog twice
                judge = await asyncio.to_thread(self._judge, ask.catalog)
        except ImportError as error:
            return self._reply(started, error=f"{error}; install chargehand[words]", error_class="BadConfiguration")
        return self._reply(started, value=await asyncio.to_thread(read, ask.text, judge, sure=self._sure))

    async def opinion(self, ask: Ask, parts: Sequence[str]) -> Opinion | None:
        """Return what it makes of a request and of these parts of it; None where it cannot read it."""
        try:
            async with self._training:
                judge = await asyncio.to_thread(self._judge, ask.catalog)
        except ImportError:
            return None
        return await asyncio.to_thread(opinion, ask.text, parts, judge, sure=self._sure)

    def _reply(self, started: float, **answer: Any) -> Reply:
        seconds = time.monotonic() - started
        return Reply(tier=self.tier, model=self.model, seconds=seconds, notice=self._notice, **answer)

    def _judge(self, specs: Sequence[IntentSpec]) -> Judge:
        digest = Catalog(tuple(specs)).digest
        if digest not in self._judges:
            # One catalog is current; one before it may still be asked for by requests under way.
            self._judges = dict([*self._judges.items()][-1:]) | {
                digest: learn(specs, self._cache_dir, self._calibration, embed=self._embed)
            }
        return self._judges[digest]


def learn(
    specs: Sequence[IntentSpec], cache_dir: Path | None = None, calibration: Weights = FITTED, *, embed: bool = False
) -> Judge:
    """Return what judges clauses by a catalog: trained now, or with the weights kept from an earlier time."""
    profiles = [profile(spec) for spec in specs]
    phrases = examples(profiles)
    trained = weights.load(cache_dir, phrases) if cache_dir else None
    if trained is None:
        trained = train(phrases)
        if cache_dir:
            weights.save(cache_dir, phrases, trained)
    meant = meaning.learn(profiles, cache_dir) if embed else None
    return Judge({each.spec.intent: each for each in profiles}, known_stems(profiles), trained, calibration, meant)
