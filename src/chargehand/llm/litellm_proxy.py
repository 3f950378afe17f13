"""A tier behind HTTP: a LiteLLM proxy, Ollama, or anything else that speaks OpenAI's chat completions.

One call per question. Retries, fallback and the record of calls are the engine's, so that the record is complete.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
import time
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from chargehand.domain.llm import Ask, Reply
from chargehand.llm.replies import (
    MAX_TOKENS,
    SHORTEST_KEY,
    NoAnswer,
    Response,
    answer_keys,
    check,
    completion,
    cost,
    prompt_of,
    refused_parameters,
    told,
    value,
)

log = logging.getLogger("chargehand.llm")

OPTIONAL: Mapping[str, frozenset[str]] = {
    # parameter               refusals that leave it out
    "json_schema":            frozenset({"json_schema", "response_format"}),
    "response_format":        frozenset({"response_format"}),
    "max_tokens":             frozenset({"max_tokens"}),
    "max_completion_tokens":  frozenset({"max_completion_tokens"}),
    "temperature":            frozenset({"temperature"}),
}  # fmt: skip
"""What a question does without, where a server does not take it: our own check of the answer is what counts."""

MAX_BODY = 1_000_000  # bytes: sixty times the longest answer with that many tokens
NO_LIST = (404, 405)  # what servers answer that have no list of models


class ProxyLLM:
    """Asks the model `model` at `url`, which is taken as given; `/v1` is added only where it has no path at all.

    `timeout` is for a whole answer, in seconds: a server that sends a byte now and then gains nothing by it. `key` is
    sent as a bearer token, and only to `url`: redirects are not followed, proxies of the environment are not used.
    """

    def __init__(self, url: str, model: str, *, tier: str, key: str | None, timeout: float) -> None:
        self.tier = tier
        self.model = model
        self.timeout = timeout
        self._base = base_of(url)
        self._key = key
        self._refused: frozenset[str] = frozenset()  # parameters that this server does not take

    @property
    def weak_key(self) -> bool:
        """Whether there is a key that can be guessed."""
        return self._key is not None and len(self._key) < SHORTEST_KEY

    async def structured(self, ask: Ask) -> Reply:
        """Ask once. A failure of any kind becomes a reply with its class and its first line."""
        started = time.monotonic()
        spent: dict[str, Any] = {}
        seconds = self.timeout if ask.seconds is None else min(ask.seconds, self.timeout)
        try:
            response = await self._asked(ask, started + seconds)
            spent["cost_usd"] = cost(response)
            answer = completion(response)
            spent |= answer.tokens()
            return self._reply(started, value=value(answer, answer_keys(ask)), **spent)
        except NoAnswer as failure:
            why = {"error": told(failure, self._key, prompt_of(ask)), "error_class": failure.error_class}
            return self._reply(started, **why, retry_after=failure.retry_after, **spent)

    async def models(self, seconds: float) -> tuple[str, ...]:
        """Return the names of the models that the server lists (none, if it has no such list).

        Raises `NoAnswer` when it does not answer within so many seconds, or refuses the key.
        """
        try:
            response = await self._send("GET", "/models", seconds)
            if response.status in NO_LIST:
                return ()
            check(response)
        except NoAnswer as failure:
            raise NoAnswer(failure.error_class, told(failure, self._key)) from None
        return _listed(response.body)

    async def _asked(self, ask: Ask, until: float) -> Response:
        """Ask, and where the server refuses a parameter by its name, once more without it. That is remembered."""
        while True:
            left = max(0.0, until - time.monotonic())
            response = await self._send("POST", "/chat/completions", left, self._question(ask))
            named = refused_parameters(response) & OPTIONAL.keys() - self._refused
            if not named:
                return response
            self._refused |= named
            log.warning("%s does not take %s: it is asked without", self._base, " and ".join(sorted(named)))

    def _question(self, ask: Ask) -> dict[str, Any]:
        # Temperature 0: the same words get the same plan; current Claude models refuse it, and are then asked without.
        # Not "strict": that forbids parameters of any name.
        schema = {"name": ask.purpose, "schema": ask.answer_schema}
        optional: dict[str, dict[str, Any]] = {
            "json_schema": {"response_format": {"type": "json_schema", "json_schema": schema}},
            "response_format": {"response_format": {"type": "json_object"}} if "json_schema" in self._refused else {},
            "max_tokens": {"max_tokens": MAX_TOKENS},
            "max_completion_tokens": {"max_completion_tokens": MAX_TOKENS} if "max_tokens" in self._refused else {},
        }
        optional["temperature"] = {"temperature": 0}
        question: dict[str, Any] = {"model": self.model, "messages": list(ask.messages)}
        for name, fields in optional.items():
            if not OPTIONAL[name] & self._refused:
                question |= fields
        return question

    async def _send(self, method: str, path: str, seconds: float, body: object = None) -> Response:
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(method, path, body)
        except TimeoutError:
            raise NoAnswer("Timeout", f"no whole answer within {seconds:.3g} s") from None

    async def _exchange(self, method: str, path: str, body: object) -> Response:
        tls = await asyncio.to_thread(_prepared)
        import httpx

        # Identity: a small body that unpacks to a large one is of no use to anybody.
        headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            async with (
                httpx.AsyncClient(verify=tls, timeout=None, trust_env=False, headers=headers) as client,
                client.stream(method, self._base + path, json=body) as response,
            ):
                return Response(response.status_code, response.headers, await _read(response))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise NoAnswer("APIConnectionError", str(error) or type(error).__name__) from error

    def _reply(self, started: float, **fields: Any) -> Reply:
        return Reply(tier=self.tier, model=self.model, seconds=time.monotonic() - started, **fields)


def base_of(url: str) -> str:
    """Return where the paths of the interface begin: the URL as given, with `/v1` where it has no path."""
    base = url.rstrip("/").removesuffix("/chat/completions")
    return base if urlsplit(base).path.strip("/") else base + "/v1"


LATER = ("httpcore", "anyio.streams.tls", "anyio._backends._asyncio")
"""What httpx imports at its first request, on the event loop: 0.4 s on a slow machine."""


@cache
def _prepared() -> ssl.SSLContext:
    """Import the client, which takes 0.2 s, and read the authorities, in a thread: nobody waits for it."""
    import httpx

    for later in LATER:
        importlib.import_module(later)
    return httpx.create_ssl_context()  # SSL_CERT_FILE names a company's own authority


async def _read(response: Any) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY:
            raise NoAnswer("OutputTruncated", f"the answer is larger than {MAX_BODY / 1e6:g} MB")
    return bytes(body)


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


def _listed(body: bytes) -> tuple[str, ...]:
    try:
        return tuple(model.id for model in _Models.model_validate_json(body).data)
    except ValidationError:
        return ()
