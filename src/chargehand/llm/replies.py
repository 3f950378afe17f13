"""What a model's server sent, read as an answer or a row of `tiers.FAILURES`. None of it is trusted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from chargehand.domain.llm import Ask
from chargehand.llm.objects import NotOneObject, only_object

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
    "exceed_context_size_error": "ContextWindowExceededError",  # llama.cpp's word
    "content_filter": "ContentPolicyViolationError",
    "content_policy_violation": "ContentPolicyViolationError",
}

ANYTHING: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class NoAnswer(Exception):
    """There is nothing to use. `error_class` is a row of `tiers.FAILURES`, `retry_after` in seconds."""

    def __init__(self, error_class: str, message: str, retry_after: float = 0.0, param: str | None = None) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.retry_after = retry_after
        self.param = param  # what the server says it does not take


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


class _Function(BaseModel):
    arguments: JsonValue = None


class _Call(BaseModel):
    function: _Function = _Function()


class _Message(BaseModel):
    """What servers put around an answer differs; a field of an unknown shape must not cost the whole answer."""

    content: JsonValue = None  # a text, or a list of typed parts
    reasoning_content: JsonValue = None
    reasoning: JsonValue = None  # Ollama's word for it
    refusal: JsonValue = None  # a text; some write false
    tool_calls: list[_Call] | None = None


class Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]


class _Details(BaseModel):
    """OpenAI's, vLLM's and llama.cpp's word for what a cache saved."""

    cached_tokens: Tokens | None = None


class _Usage(BaseModel):
    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    prompt_tokens_details: _Details | None = None
    cache_read_input_tokens: Tokens | None = None  # Anthropic's

    @property
    def cached(self) -> int:
        details = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None
        return min(self.prompt_tokens, details or self.cache_read_input_tokens or 0)


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
        return {
            "tokens_in": usage.prompt_tokens,
            "tokens_out": usage.completion_tokens,
            "tokens_cached": usage.cached,
        }


class _Error(BaseModel):
    message: str = ""
    type: str | int | None = None
    code: str | int | None = None
    param: str | None = None


class _Problem(BaseModel):
    """One line of the list that servers built with FastAPI send."""

    loc: list[str | int] = []
    msg: str = ""


class _Refusal(BaseModel):
    """The shapes in which servers say why: `{"error": ...}`, `{"detail": ...}`, or the error's own fields on top."""

    error: _Error | str | None = None
    detail: list[_Problem] | str | None = None
    object: str | None = None
    message: str | None = None
    type: str | int | None = None
    code: str | int | None = None
    param: str | None = None

    def read(self) -> _Error | None:
        """Return the error that it tells, None where it tells none."""
        if self.error is not None:
            return _Error(message=self.error) if isinstance(self.error, str) else self.error
        if isinstance(self.detail, str):
            return _Error(message=self.detail)
        if self.detail:
            first = self.detail[0]
            place = ".".join(map(str, first.loc))
            return _Error(message=f"{place}: {first.msg}", param=str(first.loc[-1]) if first.loc else None)
        if self.object == "error" or self.message is not None:  # vLLM's, and others'
            return _Error(message=self.message or "", type=self.type, code=self.code, param=self.param)
        return None


def check(response: Response) -> None:
    """Raise `NoAnswer` when the server reports a failure, by its status or in a body."""
    refused = _refusal(response.body)
    if not 200 <= response.status < 300 or refused is not None:
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
        sent = ANYTHING.validate_json(body)
        return _Refusal.model_validate(sent[0] if isinstance(sent, list) and sent else sent).read()
    except ValidationError:
        return None


def _no_answer(response: Response, refused: _Error) -> NoAnswer:
    by_kind = (KINDS[kind] for kind in (refused.type, refused.code) if isinstance(kind, str) and kind in KINDS)
    by_status = STATUSES.get(response.status) or BY_HUNDRED.get(response.status // 100, "ModelUnavailable")
    message = f"HTTP {response.status}" + (f": {refused.message}" if refused.message else "")
    return NoAnswer(next(by_kind, by_status), message, retry_after(response.headers), refused.param)


def refused_parameters(response: Response) -> frozenset[str]:
    """Return the words of a refusal of the request's shape that may be parameters: its `param`, place and message.

    Few servers fill in `param`. A name of an optional parameter in the message only means that it is asked once more
    without it; what the failure is called does not depend on it.
    """
    refused = _refusal(response.body) if response.status in (400, 422) else None
    if refused is None:
        return frozenset()
    return frozenset(re.findall(r"\w+", f"{refused.param or ''} {refused.message}"))


def retry_after(headers: Mapping[str, str]) -> float:
    """Return how many seconds the server asks to wait, which it may say as a date; 0 when it does not say.

    The date is compared with the server's own clock where it tells the time.
    """
    said = headers.get("retry-after")
    until, now = _date(said), _date(headers.get("date"))
    if until is None:
        return number(said, math.inf)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def cost(response: Response) -> float:
    """Return the price in US dollars that LiteLLM tells with the answer, 0 when it tells none."""
    return number(response.headers.get("x-litellm-response-cost"))


def number(text: str | None, most: float = MOST_USD) -> float:
    """Return a number of a header; 0 when it is none, negative or beyond belief."""
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and 0 <= number <= most else 0.0


def value(read: Completion, keys: Collection[str] = ()) -> dict[str, JsonValue]:
    """Return the JSON object that the model wrote; `keys` are those that an answer has. Raises `NoAnswer`.

    It may stand in parts, in the call of a tool that a proxy made of our schema, or beside an empty answer, where a
    server takes it for a thought.
    """
    choice = read.choices[0]
    if choice.finish_reason == "length":
        raise NoAnswer("OutputTruncated", "the answer was cut off at its greatest length")
    if choice.finish_reason == "content_filter" or choice.message.refusal:
        raise NoAnswer("ContentPolicyViolationError", "the model refuses to answer this")
    text = next((text for text in _texts(choice.message) if text.strip()), None)
    if text is None:
        raise NoAnswer("InvalidAnswer", "the answer is empty")
    try:
        return only_object(text, keys)
    except NotOneObject as error:
        raise NoAnswer("InvalidAnswer", str(error)) from error


def _texts(message: _Message) -> Iterator[str]:
    """Yield the places where an answer may stand, the likeliest first."""
    yield _text(message.content)
    for call in message.tool_calls or ():
        arguments = call.function.arguments
        yield arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else ""
    yield _text(message.reasoning_content)
    yield _text(message.reasoning)


def _text(content: JsonValue) -> str:
    """Return a text as it is, and of a list of parts those that are text."""
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if part.get("type", "text") in ("text", "output_text"))


def answer_keys(ask: Ask) -> frozenset[str]:
    """Return the names of which an answer has at least one."""
    properties = ask.answer_schema.get("properties")
    return frozenset(properties) if isinstance(properties, dict) else frozenset()
