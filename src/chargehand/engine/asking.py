"""Asks one tier for its reading of a request: the skeleton, then the values of its parts, and again where that helps.

All of it within the tier's time, and every call is kept with what was wrong and what followed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, TypeVar

from chargehand.catalog.catalog import Catalog
from chargehand.domain.errors import BadDecomposition
from chargehand.domain.llm import Ask, Extracted, Opinion, Reply
from chargehand.domain.plans import DecomposedRequest
from chargehand.domain.ports import LLM, SecondReader
from chargehand.domain.records import Call, Followed
from chargehand.domain.tiers import MODEL, named
from chargehand.understanding import nlu, questions, readings, values
from chargehand.understanding import tiers as table
from chargehand.understanding.calibration import Fit
from chargehand.understanding.confidence import Beside
from chargehand.understanding.values import Given

log = logging.getLogger("chargehand.engine.asking")


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
    match: DecomposedRequest | None = None  # what the catalogue match makes of it, where models are asked as well
    unsure: DecomposedRequest | None = None  # the best of what was not sure enough

    def keep(self, question: Ask, reply: Reply, problem: str | None, choice: str, followed: Followed) -> None:
        """Keep one call. One that came whole and cannot be used has no class yet: it is no decomposition."""
        error_class = (reply.error_class or BadDecomposition.__name__) if problem else None
        self.calls.append(Call(reply, problem, error_class, choice, followed, datetime.now(UTC), question.purpose))

    def follow(self, followed: Followed) -> None:
        """Say what became of the catalogue match's reading after all."""
        self.calls = [call._replace(followed=followed) if call.followed == "beside" else call for call in self.calls]


@dataclass
class _Turn:
    """One tier's turn: why it is asked, and what is left of its time in seconds.

    Time is counted by what the calls say that they took, and by the waits: a client that must be loaded first, once in
    the life of a process, costs nobody's time.
    """

    llm: LLM
    why: str
    left: float

    def within(self, question: Ask) -> Ask:
        return question.model_copy(update={"seconds": None if self.left == math.inf else max(0.0, self.left)})


class _Read(NamedTuple):
    """A skeleton that can be used, the match's opinion of it, and the reply it stands in."""

    decomposed: DecomposedRequest
    beside: Beside
    reply: Reply


async def ask_tier(llm: LLM, reading: Reading, why: str) -> DecomposedRequest | None:
    """Return what one tier makes of a request, None when it fails; the wait for a place is part of its time."""
    began, left = _now(), math.inf if llm.timeout is None else llm.timeout
    if not await reading.places.take(llm.tier, left):
        busy = f"no place came free within {left:.3g} s: it reads {reading.places.most(llm.tier)} requests at a time"
        reply = Reply(tier=llm.tier, model=llm.model, error=busy, error_class="TierBusy", seconds=left)
        reading.keep(reading.ask, reply, busy, why, "leave")
        return None
    try:
        return await _read_by(_Turn(llm, why, left - (_now() - began)), reading)
    finally:
        reading.places.leave(llm.tier)


async def _read_by(turn: _Turn, reading: Reading) -> DecomposedRequest | None:
    """Have one tier read the request: what it falls into, then the values that code is not certain of."""

    async def skeleton(reply: Reply, question: Ask, *, repaired: bool) -> _Read:
        beside = await _beside(reading, reply, repaired=repaired)
        return _Read(nlu.read_reply(reply, question, reading.thresholds, beside), beside, reply)

    read = await _ask_until(turn, reading, reading.ask, skeleton)
    if read is None or named(turn.llm.tier).kind is not MODEL:
        return read.decomposed if read else None
    whole = await _with_values(turn, reading, read)
    return readings.together(whole, reading.match, read.beside.opinion)


# --- the values ------------------------------------------------------------------------------------------------------


async def _with_values(turn: _Turn, reading: Reading, read: _Read) -> DecomposedRequest:
    """Fill in the parameters that the skeleton says nothing about: by code where that is certain, else by the model."""
    parts = nlu.bare(read.reply, reading.ask)
    if not parts:
        return read.decomposed
    found = values.by_code(parts, await _extracted(reading, parts), reading.match)
    given = {part.order: Given(each.values) for part, each in zip(parts, found, strict=True)}
    asked = values.wanted(parts, found, Catalog(reading.ask.catalog))
    if asked:
        given |= values.joined(await _asked_values(turn, reading, read.reply, asked), given, asked)
    filled = nlu.with_values(read.reply, reading.ask, given)
    return nlu.read_reply(filled, reading.ask, reading.thresholds, read.beside)


async def _extracted(reading: Reading, parts: Sequence[nlu.Bare]) -> Sequence[Extracted]:
    reader = reading.trust.second_reader
    pairs = [(part.intent, part.words) for part in parts]
    found = await reader.extracted(reading.ask, pairs) if reader is not None else ()
    return found or [Extracted()] * len(parts)


async def _asked_values(
    turn: _Turn, reading: Reading, skeleton: Reply, asked: Sequence[questions.Wanted]
) -> Mapping[int, Given] | None:
    """Return the values that the model finds in the request; None where it gives no usable answer."""

    async def answer(reply: Reply, question: Ask, *, repaired: bool) -> Mapping[int, Given]:
        return values.read_values(reply, asked, question.text)

    return await _ask_until(turn, reading, questions.ask_parameters(reading.ask, skeleton, asked), answer)


# --- one question ----------------------------------------------------------------------------------------------------


T_co = TypeVar("T_co", covariant=True)


class _Reader(Protocol[T_co]):
    """Makes a reply what it was asked for. Raises `BadDecomposition` with what to repair."""

    async def __call__(self, reply: Reply, question: Ask, *, repaired: bool) -> T_co: ...


async def _ask_until(turn: _Turn, reading: Reading, question: Ask, read: _Reader[T_co]) -> T_co | None:
    """Put one question until there is an answer or nothing more to try."""
    done, first, wrong = Counter[str](), question, None
    while True:
        reply = await turn.llm.structured(turn.within(question))
        turn.left -= reply.seconds
        whole = nlu.patched(wrong[0], reply, wrong[1], reading.ask) if wrong and reply.value is not None else reply
        try:
            found = await read(whole, first, repaired=done["repair"] > 0)
        except BadDecomposition as error:
            problem, only = reply.error or str(error), error.subtasks
        else:
            reading.keep(question, reply, None, turn.why, "used")
            return found
        step = _next_step(reply, problem, done, turn)
        reading.keep(question, reply, problem, turn.why, step.action)
        if step.action == "leave":
            return None
        done[step.action] += 1
        await asyncio.sleep(step.wait_seconds)
        turn.left -= step.wait_seconds
        if step.action == "repair":
            wrong = (reply, only) if only else None
            question = (
                questions.ask_about(question, reply, problem) if only else questions.ask_again(question, reply, problem)
            )


async def _beside(reading: Reading, reply: Reply, *, repaired: bool) -> Beside:
    """Have the catalogue match read beside a model, where the answer has the right shape."""
    trust, checked = reading.trust, named(reply.tier).kind.cross_checked
    words = nlu.said_words(reply, reading.ask) if checked else None
    opinion: Opinion | None = None
    if trust.second_reader is not None and words is not None:
        opinion = await trust.second_reader.opinion(reading.ask, words)
    return Beside(opinion, repaired, trust.fits)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _next_step(reply: Reply, problem: str, done: Counter[str], turn: _Turn) -> table.NextStep:
    kind = reply.error_class or BadDecomposition.__name__
    if table.failure_rule(kind).alert:  # only an operator can mend it, and no request waits for that
        log.warning("tier %s (%s): %s: %s", reply.tier, reply.model, kind, problem)
    return table.next_step(
        kind,
        named(reply.tier),
        repairs=done["repair"],
        retries=done["retry"],
        seconds_left=turn.left,
        retry_after=reply.retry_after,
    )
