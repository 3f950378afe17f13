"""Which classifier answers while the catalog changes: a new one is trained in the background and examined before it
takes the place of the old one, which meanwhile answers what it safely can.

An intent that has gone is never planned, and one that is new never answered by who does not know it: the old one's word
counts only where it is sure of everything, and nothing in the request is about what is new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue

from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec
from chargehand.llm.catalogue_match.examining import examine, worse
from chargehand.llm.catalogue_match.judging import Judge
from chargehand.llm.catalogue_match.profiles import content_stems
from chargehand.llm.catalogue_match.reading import read
from chargehand.llm.catalogue_match.words import tokens
from chargehand.understanding.judgements import Approved

log = logging.getLogger("chargehand.llm.catalogue_match")

NEVER = 1.01  # no confidence is as high: everything is asked about
KEPT = 3  # catalogs: the one in use, one before it for requests under way, and one that is being learned


@dataclass(frozen=True)
class Learned:
    """What is known of one catalog. `worse` says why it is not trusted; `before` then answers what it can."""

    judge: Judge
    worse: str | None = None
    before: Judge | None = None


class Learning:
    """Trains a classifier for each catalog, one at a time, and answers with the right one. `train` takes seconds."""

    def __init__(self, train: Callable[[Sequence[IntentSpec]], Judge], *, sure: float) -> None:
        self._train = train
        self._sure = sure
        self._learned: dict[str, Future[Learned]] = {}
        self._trusted: Judge | None = None
        self._thread = ThreadPoolExecutor(1, "chargehand-learning")  # two at once would only be slower
        self.past: Sequence[Approved] = ()
        """Requests whose plan people approved, with its intents: a new classifier must read them as well as the old."""

    async def answer(self, text: str, specs: Sequence[IntentSpec]) -> dict[str, JsonValue]:
        """Return what a text asks for of this catalog. Raises `ImportError` without what training needs."""
        future = self.begin(specs)
        if not future.done() and self._trusted is not None:
            early = await asyncio.to_thread(safely, text, self._trusted, specs, self._sure)
            if early is not None:
                return early
        return await asyncio.to_thread(self._read, text, await _result(future), specs)

    async def judge(self, specs: Sequence[IntentSpec]) -> Judge:
        """Return what judges by exactly this catalog, once it is trained. Raises `ImportError`."""
        return (await _result(self.begin(specs))).judge

    def begin(self, specs: Sequence[IntentSpec]) -> Future[Learned]:
        """Begin to learn a catalog unless that has begun; the event loop goes on meanwhile."""
        digest = Catalog(tuple(specs)).digest
        if digest not in self._learned or _has_failed(self._learned[digest]):
            self._learned[digest] = self._thread.submit(self._learn, tuple(specs))
            for old in [*self._learned][:-KEPT]:
                del self._learned[old]
        return self._learned[digest]

    def _learn(self, specs: Sequence[IntentSpec]) -> Learned:
        new, old = self._train(specs), self._trusted
        reason = self._examined(old, new) if old is not None else None
        if reason is None:
            self._trusted = new
            return Learned(new)
        log.warning("the new catalog is read worse (%s): what it is sure of stays, the rest is asked about", reason)
        return Learned(new, reason, old)

    def _examined(self, old: Judge, new: Judge) -> str | None:
        both = common(old, list(_specs(new)))
        if not both.profiles:
            return None  # another trade: there is nothing to compare
        before, now = (examine(each, both.profiles, self.past, self._sure) for each in (old, new))
        return worse(before, now)

    def _read(self, text: str, learned: Learned, specs: Sequence[IntentSpec]) -> dict[str, JsonValue]:
        if learned.before is None:
            return read(text, learned.judge, sure=self._sure)
        early = safely(text, learned.before, specs, self._sure)
        return read(text, learned.judge, sure=NEVER) if early is None else early


async def _result(future: Future[Learned]) -> Learned:
    return await asyncio.shield(asyncio.wrap_future(future))  # who gives up waiting does not end it for the others


def _has_failed(future: Future[Learned]) -> bool:
    return future.done() and future.exception() is not None


def safely(text: str, old: Judge, specs: Sequence[IntentSpec], sure: float) -> dict[str, JsonValue] | None:
    """Return what the classifier of an earlier catalog makes of a text where that holds for this one, else None.

    That is a plan of intents that are the same in both, without a question and with nothing left out, of a text that
    names nothing that only the new catalog knows.
    """
    same = common(old, specs)
    known = {spec.intent for spec in specs} & set(same.profiles)
    added = [spec for spec in specs if spec.intent not in known]
    said = set(content_stems(tokens(text)))
    if not known or said & (_words(added) - same.vocabulary):
        return None
    answer: Any = read(text, same, sure=sure)
    clear = answer["subtasks"] and not answer["ambiguities"] and not answer["out_of_scope"]
    return answer if clear else None


def common(judge: Judge, specs: Sequence[IntentSpec]) -> Judge:
    """Return a judge of only those of its intents that a catalog has unchanged, as far as reading goes by them."""
    wanted = {spec.intent: _taught(spec) for spec in specs}
    same = {
        intent: each
        for intent, each in judge.profiles.items()
        if intent in wanted and _taught(each.spec) == wanted[intent]
    }
    return replace(judge, profiles=same)


def _taught(spec: IntentSpec) -> tuple[object, ...]:
    return spec.description, spec.service, spec.examples, spec.parameters, spec.after, spec.exclusive_keys


def _specs(judge: Judge) -> Sequence[IntentSpec]:
    return [each.spec for each in judge.profiles.values()]


def _words(specs: Sequence[IntentSpec]) -> set[str]:
    said = [text for spec in specs for text in (spec.intent.replace("_", " "), spec.description, *spec.examples)]
    return {stem for text in said for stem in content_stems(tokens(text))}
