"""What a model is asked and answers, and what a second reader makes of the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple
from uuid import UUID

from pydantic import Field, JsonValue

from chargehand.domain.intents import IntentSpec
from chargehand.domain.value import Value

Message = dict[str, str]
Purpose = Literal["skeleton", "parameters"]
"""What a question is for: the parts of a request with their intents, or the values of their parameters."""


Asking = Literal["always", "unsure", "never"]
"""When models are asked: about every request, about those that the catalogue match is not sure of, or never."""


class Ask(Value):
    """One question to a model: the words and what an answer must look like.

    `seconds` is what is left of the tier's time when it is asked again; None: all of it.
    """

    purpose: Purpose
    request_id: UUID
    text: str
    catalog: tuple[IntentSpec, ...]
    messages: tuple[Message, ...] = ()
    answer_schema: dict[str, JsonValue] = Field(default_factory=dict)
    prompt_version: str = ""
    seconds: float | None = None


class Reply(Value):
    """What one tier made of an `Ask`: a value to be validated, or why there is none. Money in US dollars.

    `error_class` is a row of `tiers.FAILURES`. `retry_after`: how many seconds the tier wants to be left alone.
    """

    tier: str
    model: str
    value: dict[str, JsonValue] | None = None
    error: str | None = None  # first line, for the audit
    error_class: str | None = None
    seconds: float = 0.0
    tokens_in: int = Field(default=0, ge=0, le=2**31 - 1)  # an INTEGER
    tokens_out: int = Field(default=0, ge=0, le=2**31 - 1)
    tokens_cached: int = Field(default=0, ge=0, le=2**31 - 1)  # of those that went in, the ones read from a cache
    cost_usd: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)  # beyond belief, and still a NUMERIC
    retry_after: float = 0.0
    notice: str = ""


class View(NamedTuple):
    """What the match makes of one part of a request: intents with their confidence, the likeliest ones.

    `negated`: the words say what not to do.
    """

    likely: Mapping[str, float]
    negated: bool = False


class Seen(NamedTuple):
    """A subtask that the match reads in the request by itself, and is sure of."""

    words: str
    intent: str
    confidence: float


class Opinion(NamedTuple):
    """What the match says: about the words of each subtask, in order, and what it reads in the whole request.

    `guarded` are parts that say more than an order does: the kind (negation, condition, choice ...) and the question.
    `foreign` are parts that it takes for no work of this catalog.
    """

    queries: Sequence[View]
    seen: Sequence[Seen] = ()
    guarded: Sequence[tuple[str, str]] = ()
    foreign: Sequence[str] = ()


class Extracted(NamedTuple):
    """Values that the match takes from the words of one subtask.

    `certain`: nothing else in these words can be a value, so that no model need be asked for more.
    """

    values: Mapping[str, JsonValue] = {}
    certain: bool = False
