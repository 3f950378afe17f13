"""Every way in which a model is known to fail, and the rows of the audit that each must leave.

The expectations are written out, not computed from `fallback.FAILURES`: they are what the table is checked against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chargehand.testing.llm.answers import HANG, Answer, fails, says, sends, writes

PROVIDERS = ("anthropic", "ollama", "proxy")


class Mode(NamedTuple):
    """One way to fail: what the server does with each call, and the class of error that each is kept under.

    `kept` holds, for each call of the failing tier, the class; None for an answer that is used, which then ends it.
    `differing` replaces it for a provider that says, or whose client reads, the same thing differently.
    """

    answers: Sequence[Answer]
    kept: Sequence[str | None]
    differing: Mapping[str, Sequence[str | None]] = {}

    def expected(self, provider: str) -> list[str | None]:
        """Return what the calls to that provider must be kept as."""
        return list(self.differing.get(provider, self.kept))

    @property
    def endless(self) -> bool:
        """Whether only a time-out ends it."""
        return any(answer.manner in ("hang", "drip") for answer in self.answers)

    def stays(self, provider: str) -> bool:
        """Whether the tier gets over it by itself; else the next one must answer."""
        return self.expected(provider)[-1] is None


def modes(good: Mapping[str, Any]) -> dict[str, Mode]:
    """Return all of them by name; `good` is an answer that can be used."""
    return {**_of_the_way(good), **_of_statuses(), **_of_the_answer(good), **_got_over(good)}


def _of_the_way(good: Mapping[str, Any]) -> dict[str, Mode]:
    """The connection, and bodies that are no answer at all. A LiteLLM that cannot read one calls it a connection."""
    unread = {"anthropic": ["APIConnectionError"] * 2, "ollama": ["APIConnectionError"] * 2}
    return {
        "hang": Mode([HANG], ["Timeout"]),
        "drip": Mode([says(good, manner="drip")], ["Timeout"]),
        "cut": Mode([says(good, manner="cut")], ["APIConnectionError"] * 2, {"anthropic": ["InternalServerError"] * 3}),
        "garbage": Mode([sends("<html>it works!</html>")], ["ModelUnavailable"] * 2, unread),
        "no body": Mode([sends("")], ["ModelUnavailable"] * 2, unread),
        "an empty object": Mode([sends("{}")], ["ModelUnavailable"] * 2, unread),
        "first down, then garbage": Mode(
            [fails(503), writes("hm")], ["ServiceUnavailableError", "InvalidAnswer", "InvalidAnswer"]
        ),
    }


def _of_statuses() -> dict[str, Mode]:
    low = "Your credit balance is too low to access the API."
    budget = [fails(422, "Budget has been exceeded! Max budget: 0.001", type="budget_exceeded")]
    long = [fails(400, "prompt is too long: 2000000 tokens > 1000000 maximum", code="context_length_exceeded")]
    overloaded = {"anthropic": ["InternalServerError"] * 3}
    return {
        "400": Mode([fails(400)], ["BadRequestError"]),
        "401": Mode([fails(401)], ["AuthenticationError"]),
        "402": Mode([fails(402)], ["PaymentRequiredError"]),
        "403": Mode([fails(403)], ["PermissionDeniedError"]),
        "404": Mode([fails(404)], ["NotFoundError"]),
        "408": Mode([fails(408)], ["Timeout"]),
        "413": Mode([fails(413)], ["BadRequestError"]),
        "422": Mode([fails(422)], ["BadRequestError"]),
        "429": Mode([fails(429, retry_after=0.1)], ["RateLimitError"] * 3),
        "429 for an hour": Mode([fails(429, retry_after=3600)], ["RateLimitError"]),
        "500": Mode([fails(500)], ["InternalServerError"] * 3),
        "502": Mode([fails(502)], ["BadGatewayError"] * 3),
        "503": Mode([fails(503)], ["ServiceUnavailableError"] * 3),
        "504": Mode([fails(504)], ["Timeout"]),
        "529": Mode([fails(529)], ["ServiceUnavailableError"] * 3, overloaded),
        "a parameter refused": Mode([fails(400, "temperature is not supported")], ["BadRequestError"]),
        "over budget": Mode(
            budget, ["BudgetExceededError"], {"anthropic": ["BadRequestError"], "ollama": ["BadRequestError"]}
        ),
        "no credit": Mode([fails(400, low)], ["BadRequestError"]),
        "prompt too long": Mode(long, ["ContextWindowExceededError"], {"ollama": ["BadRequestError"]}),
    }


def _of_the_answer(good: Mapping[str, Any]) -> dict[str, Mode]:
    """Ollama has no word for a refusal: it is prose there."""
    (subtask, *_) = good["subtasks"]
    unknown = {**good, "subtasks": [{**subtask, "intent": "launch_rocket"}]}
    circle = {**good, "subtasks": [{**subtask, "depends_on": [subtask["order"]]}]}
    twice = ["BadDecomposition"] * 2
    return {
        "empty": Mode([writes("")], ["InvalidAnswer"] * 2),
        "prose": Mode([writes("I would sweep it.")], ["InvalidAnswer"] * 2),
        "fenced prose": Mode([writes("```json\nI would\n```")], ["InvalidAnswer"] * 2),
        "truncated": Mode([writes('{"subtasks": [', finish="length")], ["OutputTruncated"]),
        "refused": Mode(
            [writes("No.", finish="refusal")], ["ContentPolicyViolationError"], {"ollama": ["InvalidAnswer"] * 2}
        ),
        "wrong schema": Mode([says({"steps": ["sweep"]})], twice),
        "an unknown intent": Mode([says(unknown)], twice),
        "a circle": Mode([says(circle)], twice),
        "nothing at all": Mode([says({"subtasks": []})], twice),
        "wrong, then truncated": Mode(
            [says(unknown), writes("{", finish="length")], ["BadDecomposition", "OutputTruncated"]
        ),
    }


def _got_over(good: Mapping[str, Any]) -> dict[str, Mode]:
    """What the tier gets over by itself."""
    written = says(good).content
    return {
        "fenced": Mode([writes(f"Here it is:\n```json\n{written}\n```\n")], [None]),
        "beside an empty answer": Mode([writes("", thinking=written or "")], [None]),
        "down for a moment": Mode([fails(503), says(good)], ["ServiceUnavailableError", None]),
        "repaired": Mode([says({"steps": []}), says(good)], ["BadDecomposition", None]),
    }
