"""A tier through LiteLLM in this process: Claude, Ollama, and whatever else it translates to.

It is a translator of single calls here. Its own retries, router, budgets and time-outs are not used: they hide why a
tier was left, and its time-out is for each read, so that a server that sends a byte now and then would hold a call for
ever. Importing it takes 3 s of CPU and 160 MB, so it happens in a thread, at the first use, and never in an agent or
when a command starts.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import logging
import math
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from pydantic import ValidationError

from chargehand.domain.errors import BadConfiguration
from chargehand.domain.llm import Ask, Message, Reply
from chargehand.llm.replies import (
    BY_HUNDRED,
    KINDS,
    MAX_TOKENS,
    SHORTEST_KEY,
    STATUSES,
    Completion,
    NoAnswer,
    answer_keys,
    number,
    prompt_of,
    told,
    value,
)
from chargehand.understanding.tiers import FAILURES

COMPROMISED = frozenset({"1.82.7", "1.82.8", "1.107.0"})  # releases of 2026 that carried foreign code
OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches prices from the network while it is imported
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOG": "CRITICAL",  # its log lines hold prompts
}
LATER = (
    "litellm._service_logger",
    "litellm.litellm_core_utils.default_encoding",  # reads a vocabulary of 2 MB
    "litellm.llms.anthropic.completion.transformation",
    "litellm.llms.edenai.chat.transformation",
    "litellm.llms.fal_ai.chat.transformation",
    "litellm.llms.fal_ai.cost_calculator",
    "litellm.llms.fal_ai.image_generation",
    "litellm.llms.litellm_proxy.chat.transformation",
    "litellm.llms.openai_like.dynamic_config",
    "litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation",
    "litellm.proxy._types",
    "litellm.proxy.guardrails.exception_utils",
    "litellm.proxy.openai_files_endpoints.common_utils",
    "litellm.types.integrations.compression_interception",
)
"""What LiteLLM imports only when a first call is made or fails: 0.4 s in which the event loop would stand still."""

UNPRICED = frozenset({"ollama_chat", "litellm_proxy"})  # costs nothing here; the proxy tells its own price
OLLAMA = "http://127.0.0.1:11434"
CONTEXT = 16_384  # tokens; Ollama's own default of 4,096 would cut a prompt with 40 intents in silence
KEEP_ALIVE = "10m"  # loading a model takes longer than answering with it
VAGUE = frozenset({"APIError", "APIConnectionError", "BadRequestError"})  # classes that the status or `type` refines
DOTTED = re.compile(r"claude-[a-z]+-\d+\.\d")

log = logging.getLogger("chargehand.llm")


class SdkLLM:
    """Asks `model`, named as LiteLLM does (`anthropic/claude-haiku-5-5`, `ollama_chat/qwen2.5:7b-instruct`).

    `url` None: where the provider is by default. `key` None: the provider's own variable of the environment, if any.
    `timeout` is for a whole answer, in seconds. Raises `BadConfiguration` for a name that cannot be right.
    """

    def __init__(self, model: str, *, tier: str, url: str | None, key: str | None, timeout: float) -> None:
        check_name(model)
        self.tier = tier
        self.model = model
        self.timeout = timeout
        self._url = url.rstrip("/") if url else None
        self._key = key

    @property
    def weak_key(self) -> bool:
        """Whether there is a key that can be guessed."""
        return self._key is not None and len(self._key) < SHORTEST_KEY

    async def structured(self, ask: Ask) -> Reply:
        """Ask once. A failure of any kind becomes a reply with its class and its first line."""
        started = time.monotonic()
        spent: dict[str, Any] = {}
        try:
            litellm = await self.prepare()  # not counted: it happens once in the life of a process
            started = time.monotonic()
            seconds = self.timeout if ask.seconds is None else min(ask.seconds, self.timeout)
            answer = await self._complete(litellm, ask, seconds)
            spent["cost_usd"] = _cost(answer)
            read = _read(answer)
            spent |= read.tokens()
            return self._reply(started, value=value(read, answer_keys(ask)), **spent)
        except NoAnswer as failure:
            why = {"error": told(failure, self._key, prompt_of(ask)), "error_class": failure.error_class}
            return self._reply(started, **why, retry_after=failure.retry_after, **spent)

    async def prepare(self) -> Any:
        """Import LiteLLM in a thread and check the model. Raises `NoAnswer` when it is not installed or not known."""
        try:
            return await asyncio.to_thread(_ready_for, self.model)
        except BadConfiguration as error:
            raise NoAnswer("BadConfiguration", f"{error}. {error.hint}") from error

    async def models(self, seconds: float) -> tuple[str, ...]:
        """Check the configuration and return the models that an Ollama has; none where there is no free list.

        Raises `NoAnswer` as `prepare` does, and when Ollama does not answer within so many seconds.
        """
        await self.prepare()
        if _provider(self.model) != "ollama_chat":
            return ()
        import httpx

        try:
            async with asyncio.timeout(seconds), httpx.AsyncClient(trust_env=False, timeout=None) as client:
                listed = (await client.get(f"{self._url or OLLAMA}/api/tags")).raise_for_status().json()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NoAnswer("APIConnectionError", told(error, self._key)) from error
        return tuple(f"ollama_chat/{each['name']}" for each in listed.get("models", ()))

    async def _complete(self, litellm: Any, ask: Ask, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                return await litellm.acompletion(**self._question(ask), timeout=seconds)
        except TimeoutError:
            raise NoAnswer("Timeout", f"no whole answer within {seconds:.3g} s") from None
        except Exception as error:  # noqa: BLE001 - foreign code, whose errors have no common root
            raise NoAnswer(error_class(error), _line(error), _retry_after(error)) from None

    def _question(self, ask: Ask) -> dict[str, Any]:
        schema = {"name": ask.purpose, "schema": ask.answer_schema}
        own = {"num_ctx": CONTEXT, "keep_alive": KEEP_ALIVE} if _provider(self.model) == "ollama_chat" else {}
        return {
            "model": self.model,
            "messages": _marked(ask.messages) if _provider(self.model) == "anthropic" else list(ask.messages),
            "max_tokens": MAX_TOKENS,
            "temperature": 0,  # the same words get the same plan; dropped for models that refuse it
            "response_format": {"type": "json_schema", "json_schema": schema},
            "api_base": self._url,
            "api_key": self._key,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": True,  # what a model refuses to be told is left out instead of failing the call
            **own,
        }

    def _reply(self, started: float, **fields: Any) -> Reply:
        return Reply(tier=self.tier, model=self.model, seconds=time.monotonic() - started, **fields)


def _read(answer: Any) -> Completion:
    try:
        return Completion.model_validate(answer.model_dump())
    except ValidationError as error:
        raise NoAnswer("ModelUnavailable", "what LiteLLM returned is not a chat completion") from error


def _marked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages with a mark after the catalog, up to which Anthropic keeps what it has read (five minutes)."""
    first, *rest = messages
    kept = [{"type": "text", "text": first["content"], "cache_control": {"type": "ephemeral"}}]
    return [{**first, "content": kept}, *rest]


def _provider(model: str) -> str:
    return model.partition("/")[0]


def check_name(model: str) -> None:
    """Raise `BadConfiguration` for the names that LiteLLM takes and that are wrong all the same."""
    provider, slash, name = model.partition("/")
    if not slash or not name:
        raise BadConfiguration(f"{model!r} names no provider", hint="Write it as LiteLLM does: anthropic/NAME.")
    if provider == "ollama":
        raise BadConfiguration(f"{model!r} would not be asked as a chat", hint=f"Write ollama_chat/{name}.")
    if DOTTED.search(name):
        raise BadConfiguration(f"there is no {model!r}", hint=f"Versions are written with a dash: {_dashed(model)}.")


def _dashed(model: str) -> str:
    return re.sub(r"(\d)\.(\d)", r"\1-\2", model)


@cache
def library() -> Any:
    """Import LiteLLM, quiet and without the network. Raises `BadConfiguration`."""
    try:
        version = importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        raise BadConfiguration("LiteLLM is not installed", hint="Install chargehand[litellm].") from None
    if version in COMPROMISED:  # before it is imported: the foreign code runs then
        raise BadConfiguration(f"LiteLLM {version} was compromised", hint="Install chargehand[litellm] anew.")
    os.environ |= {name: os.environ.get(name, value) for name, value in OFFLINE.items()}
    litellm: Any = importlib.import_module("litellm")
    for later in LATER:
        with suppress(ImportError):  # named otherwise in another release: the first call is then slower
            importlib.import_module(later)
    litellm.suppress_debug_info = True  # it prints to standard output otherwise
    litellm.turn_off_message_logging = True
    # A call that our time-out ends while it is being prepared leaves its coroutine behind: harmless, but said aloud.
    warnings.filterwarnings("ignore", r"coroutine '.*completion.*' was never awaited", RuntimeWarning)
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


@cache
def _ready_for(model: str) -> Any:
    litellm = library()
    register(litellm, model)
    return litellm


def register(litellm: Any, model: str) -> None:
    """Make a model of Ollama known; check that one that costs money has a price. Raises `BadConfiguration`.

    A model that is not known would block the event loop (it asks Ollama about it, and waits), or cost 0.0 for ever.
    """
    provider, _, name = model.partition("/")
    if provider in UNPRICED:
        free = {"litellm_provider": provider, "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0}
        for known_as in (model, name):
            if known_as not in litellm.model_cost:
                litellm.register_model({known_as: free})
        return
    prices: Mapping[str, Any] = litellm.model_cost.get(model) or litellm.model_cost.get(name) or {}
    if not prices.get("input_cost_per_token"):
        raise BadConfiguration(
            f"LiteLLM has no price for {model!r}", hint="Check the name; for a model it does not know use a proxy."
        )


def error_class(error: Exception) -> str:
    """Return the row of `fallback.FAILURES` for an error of LiteLLM's.

    Its classes are right where they are exact; the vague ones are refined by what the server said or by its status.
    """
    said = [getattr(error, part, None) for part in ("type", "code")]
    by_kind = next((KINDS[kind] for kind in said if isinstance(kind, str) and kind in KINDS), None)
    names = [known.__name__ for known in type(error).__mro__ if known.__name__ in FAILURES]
    exact = next(iter(names), "ModelUnavailable")
    if by_kind or exact not in VAGUE:
        return by_kind or exact
    status = int(getattr(error, "status_code", 0) or 0)
    refined = STATUSES.get(status) or BY_HUNDRED.get(status // 100)
    return refined if refined and exact == "APIError" else exact


def _line(error: Exception) -> str:
    """Only the first line: the rest may hold a traceback, and some of these errors hold the whole prompt."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _retry_after(error: Exception) -> float:
    headers = getattr(error, "litellm_response_headers", None) or {}
    return number(headers.get("retry-after"), math.inf)


def _cost(answer: Any) -> float:
    return number(str((getattr(answer, "_hidden_params", None) or {}).get("response_cost") or 0))
