"""What a model sent, read as an answer or a row of `fallback.FAILURES`. None of it is trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from chargehand.domain.llm import Ask

MAX_TOKENS = 4096  # eight subtasks take some 1,500; the rest is for models that think before they answer
SHORTEST_KEY = 16  # characters; proxies are set up with "sk-1234" as in every tutorial
MAX_ERROR = 300  # characters of a server's words that are kept
ECHO = 20  # so many characters in a row that also stand in the prompt are no coincidence
KEYS = re.compile(r"\bsk-[\w.-]{4,}")  # servers quote the key that they refuse, or part of it
MOST_TOKENS = 10_000_000  # no model reads or writes more at once; the column is a 32-bit integer
MOST_USD = 1000.0  # for one answer; more is a mistake, and would hide what is real in a sum

STATUSES: Mapping[int, str] = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "PaymentRequiredError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "Timeout",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
    504: "Timeout",
    529: "ServiceUnavailableError",  # Anthropic's word for "overloaded"
}
BY_HUNDRED: Mapping[int, str] = {3: "BadConfiguration", 4: "BadRequestError", 5: "APIError"}

# What `error.type` or `error.code` say is more exact than the status. LiteLLM's for a spent budget has been 400, 429
# and 422; OpenAI's 429 for an empty account looks like too many requests and never passes.
KINDS: Mapping[str, str] = {
    "budget_exceeded": "BudgetExceededError",
    "insufficient_quota": "BudgetExceededError",
    "context_length_exceeded": "ContextWindowExceededError",
    "content_filter": "ContentPolicyViolationError",
    "content_policy_violation": "ContentPolicyViolationError",
}

VALUE: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])
FENCE = "```"
MOST_FENCED = 20  # pieces of an answer that are tried; a model that obeys writes one
THOUGHT = "</think>"  # some models think aloud before they answer


class NoAnswer(Exception):
    """There is nothing to use. `error_class` is a row of `fallback.FAILURES`, `retry_after` in seconds."""

    def __init__(self, error_class: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.retry_after = retry_after


def prompt_of(ask: Ask) -> str:
    """Return all that was sent, for `told` to find it again."""
    return "\n".join([ask.text, *(message["content"] for message in ask.messages)])


def told(failure: Exception, key: str | None, prompt: str = "") -> str:
    """Return the first line of what went wrong, without the key, and without words that repeat the prompt."""
    line = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
    if key:
        line = line.replace(key, "(key)")
    line = KEYS.sub("(key)", line)[:MAX_ERROR]
    if any(line[start : start + ECHO] in prompt for start in range(len(line) - ECHO + 1)):
        line = line.partition(":")[0] + ": (its words repeat the prompt)"
    return "".join(character if character.isprintable() else " " for character in line)


class Response(NamedTuple):
    """What came over HTTP, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Message(BaseModel):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # Ollama's word for it
    refusal: str | None = None


class Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(default=0, ge=0, le=MOST_TOKENS)
    completion_tokens: int = Field(default=0, ge=0, le=MOST_TOKENS)


class Completion(BaseModel):
    """An answer as servers of this interface send it; whatever else they send is left out."""

    choices: list[Choice] = Field(min_length=1)
    usage: JsonValue = None

    def tokens(self) -> dict[str, int]:
        """Return what it cost in tokens, 0 where the server does not say so in a usable way."""
        try:
            usage = _Usage.model_validate(self.usage or {})
        except ValidationError:
            usage = _Usage()
        return {"tokens_in": usage.prompt_tokens, "tokens_out": usage.completion_tokens}


class _Error(BaseModel):
    message: str = ""
    type: str | int | None = None
    code: str | int | None = None


class _Refusal(BaseModel):
    error: _Error | str


def check(response: Response) -> None:
    """Raise `NoAnswer` when the server reports a failure, by its status or in a body."""
    refused = _refusal(response.body)
    if response.status != 200 or refused is not None:
        raise _no_answer(response, refused or _Error())


def completion(response: Response) -> Completion:
    """Return what the server sent as a completion. Raises `NoAnswer`."""
    check(response)
    try:
        return Completion.model_validate_json(response.body)
    except ValidationError as error:
        raise NoAnswer("ModelUnavailable", "what answers there is not a chat completion") from error


def _refusal(body: bytes) -> _Error | None:
    try:
        error = _Refusal.model_validate_json(body).error
    except ValidationError:
        return None
    return _Error(message=error) if isinstance(error, str) else error


def _no_answer(response: Response, refused: _Error) -> NoAnswer:
    by_kind = (KINDS[kind] for kind in (refused.type, refused.code) if isinstance(kind, str) and kind in KINDS)
    by_status = STATUSES.get(response.status) or BY_HUNDRED.get(response.status // 100, "ModelUnavailable")
    message = f"HTTP {response.status}" + (f": {refused.message}" if refused.message else "")
    wait = number(response.headers.get("retry-after"), math.inf)
    return NoAnswer(next(by_kind, by_status), message, wait)


def cost(response: Response) -> float:
    """Return the price in US dollars that LiteLLM tells with the answer, 0 when it tells none."""
    return number(response.headers.get("x-litellm-response-cost"))


def number(text: str | None, most: float = MOST_USD) -> float:
    """Return a number of a header; 0 when it is none (`retry-after` may be a date), negative or beyond belief."""
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and 0 <= number <= most else 0.0


def value(read: Completion) -> dict[str, JsonValue]:
    """Return the JSON object that the model wrote, bare or fenced. Raises `NoAnswer`.

    A server that takes the answer for a thought puts it beside an empty one.
    """
    choice = read.choices[0]
    if choice.finish_reason == "length":
        raise NoAnswer("OutputTruncated", "the answer was cut off at its greatest length")
    if choice.finish_reason == "content_filter" or choice.message.refusal:
        raise NoAnswer("ContentPolicyViolationError", "the model refuses to answer this")
    places = (choice.message.content, choice.message.reasoning_content, choice.message.reasoning)
    text = next((text for text in places if text and text.strip()), None)
    if text is None:
        raise NoAnswer("InvalidAnswer", "the answer is empty")
    found = _object(text)
    if found is None:
        raise NoAnswer("InvalidAnswer", "the answer is not a JSON object")
    return found


def _object(text: str) -> dict[str, JsonValue] | None:
    answer = text.rpartition(THOUGHT)[2].strip()
    fenced = answer.split(FENCE)[1 : MOST_FENCED + 1]
    for candidate in (answer, *(each.removeprefix("json").strip() for each in fenced)):
        try:
            return VALUE.validate_json(candidate)
        except ValidationError:
            continue
    return None
