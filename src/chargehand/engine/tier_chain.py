"""Asks the tiers, one after the other, until one has read the request; every attempt is kept, with what was wrong.

Who is asked next, and who again, stands in `tiers.py`; whether an answer can be used is decided in `nlu.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from chargehand.catalog.catalog import Catalog
from chargehand.domain.errors import BadDecomposition
from chargehand.domain.llm import Ask, Reply
from chargehand.domain.plans import DecomposedRequest
from chargehand.domain.ports import LLM, SecondReader
from chargehand.domain.records import Call, Followed, RequestRecord
from chargehand.domain.tiers import MODEL, named
from chargehand.understanding import nlu
from chargehand.understanding import tiers as table
from chargehand.understanding.calibration import Fit
from chargehand.understanding.confidence import Beside

log = logging.getLogger("chargehand.engine.tier_chain")


class Places:
    """How many requests each tier reads at a time: more would only wait inside the model, and out of our sight."""

    def __init__(self, at_once: Mapping[str, int]) -> None:
        self._at_once = {named(tier).name: most for tier, most in at_once.items()}
        self._free = {tier: asyncio.Semaphore(most) for tier, most in self._at_once.items()}

    async def take(self, tier: str, seconds: float) -> bool:
        """Wait for a place; False when none came free within so many seconds. A tier without a limit has always one."""
        free = self._free.get(tier)
        if free is None:
            return True
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                return await free.acquire()
        except TimeoutError:
            return False

    def leave(self, tier: str) -> None:
        """Let the next one in."""
        if tier in self._free:
            self._free[tier].release()

    def most(self, tier: str) -> int:
        """Return how many places a limited tier has."""
        return self._at_once[tier]


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


@dataclass
class Trust:
    """What models are judged by: who reads beside them, and (tier, model) -> what came of their plans so far."""

    second_reader: SecondReader | None = None
    fits: Mapping[tuple[str, str], Fit] = field(default_factory=dict)


@dataclass
class Reading:
    """One request on its way through the tiers, and every call that was made for it."""

    ask: Ask
    thresholds: nlu.Thresholds
    places: Places
    trust: Trust
    calls: list[Call] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # the tiers that gave nothing that could be used at once
    unsure: DecomposedRequest | None = None  # the best of what was not sure enough

    def keep(self, reply: Reply, problem: str | None, choice: str, followed: Followed) -> None:
        """Keep one call. One that came whole and cannot be used has no class yet: it is no decomposition."""
        error_class = (reply.error_class or BadDecomposition.__name__) if problem else None
        self.calls.append(Call(reply, problem, error_class, choice, followed, datetime.now(UTC)))


async def understand(
    ask: Ask, tiers: Mapping[str, LLM], thresholds: nlu.Thresholds, places: Places, trust: Trust
) -> tuple[DecomposedRequest | None, list[Call]]:
    """Walk the chain of tiers. Returns what was understood, None when no tier could, and every call that was made.

    A model that is unsure is not the last word while another one is left; when none is, its answer is used after all,
    with its flags and questions.
    """
    reading = Reading(ask, thresholds, places, trust)
    configured = frozenset(tiers)
    while (choice := table.next_tier(configured, reading.left)).tier is not None:
        if reading.unsure is not None and named(choice.tier).kind is not MODEL:
            return reading.unsure, reading.calls
        decomposed = await _ask_tier(tiers[choice.tier], reading, choice.reason)
        if decomposed is not None and _settles(decomposed, configured, reading):
            return decomposed, reading.calls
        reading.left.append(choice.tier)
    return reading.unsure, reading.calls


def _settles(decomposed: DecomposedRequest, configured: frozenset[str], reading: Reading) -> bool:
    """Whether an answer is the last word; if not, the call it came by says why, and it is kept if it may be used."""
    doubt = table.doubt(decomposed, reading.thresholds.flag)
    following = table.next_tier(configured, [*reading.left, decomposed.tier]).tier
    advice = table.about_doubt(decomposed.tier, reading.left, following)
    if doubt is None or advice == "use":
        return True
    last = reading.calls[-1]
    reading.calls[-1] = last._replace(problem=doubt, error_class="Unsure", followed=advice)
    if advice == "doubt":
        reading.unsure = decomposed
    return False


async def _ask_tier(llm: LLM, reading: Reading, why: str) -> DecomposedRequest | None:
    """Ask one tier, and again where that helps, all within its time; the wait for a place is part of it."""
    began, left = _now(), math.inf if llm.timeout is None else llm.timeout
    if not await reading.places.take(llm.tier, left):
        busy = f"no place came free within {left:.3g} s: it reads {reading.places.most(llm.tier)} requests at a time"
        reply = Reply(tier=llm.tier, model=llm.model, error=busy, error_class="TierBusy", seconds=left)
        reading.keep(reply, busy, why, "leave")
        return None
    try:
        return await _ask_until(llm, reading, why, left - (_now() - began))
    finally:
        reading.places.leave(llm.tier)


async def _ask_until(llm: LLM, reading: Reading, why: str, left: float) -> DecomposedRequest | None:
    """Ask until there is an answer or nothing more to try. `left` counts what the calls say that they took, and waits:
    a client that must be loaded first, once in the life of a process, costs nobody's time.
    """
    question, done = _within(reading.ask, left), Counter[str]()
    while True:
        reply = await llm.structured(question)
        left -= reply.seconds
        beside = await _beside(reading, reply, repaired=done["repair"] > 0)
        try:
            decomposed = nlu.read_reply(reply, question, reading.thresholds, beside)
        except BadDecomposition as error:
            problem = reply.error or str(error)
        else:
            reading.keep(reply, None, why, "used")
            return decomposed
        step = _next_step(reply, problem, done, left)
        reading.keep(reply, problem, why, step.action)
        if step.action == "leave":
            return None
        done[step.action] += 1
        await asyncio.sleep(step.wait_seconds)
        left -= step.wait_seconds
        if step.action == "repair":
            question = nlu.ask_again(question, reply, problem)
        question = _within(question, left)


async def _beside(reading: Reading, reply: Reply, *, repaired: bool) -> Beside:
    """Have the catalogue match read beside a model, where the answer has the right shape."""
    trust, checked = reading.trust, named(reply.tier).kind.cross_checked
    words = nlu.said_words(reply) if checked else None
    opinion = (
        await trust.second_reader.opinion(reading.ask, words) if trust.second_reader is not None and words else None
    )
    return Beside(opinion, repaired, trust.fits)


def _within(question: Ask, seconds: float) -> Ask:
    return question.model_copy(update={"seconds": None if seconds == math.inf else seconds})


def _now() -> float:
    return asyncio.get_running_loop().time()


def _next_step(reply: Reply, problem: str, done: Counter[str], seconds_left: float) -> table.NextStep:
    kind = reply.error_class or BadDecomposition.__name__
    if table.failure_rule(kind).alert:  # only an operator can mend it, and no request waits for that
        log.warning("tier %s (%s): %s: %s", reply.tier, reply.model, kind, problem)
    return table.next_step(
        kind,
        named(reply.tier),
        repairs=done["repair"],
        retries=done["retry"],
        seconds_left=seconds_left,
        retry_after=reply.retry_after,
    )
