"""A tier behind HTTP: a LiteLLM proxy, Ollama, or anything else that speaks OpenAI's chat completions.

One call per question. Retries, fallback and the record of calls are the engine's, so that the record is complete.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import time
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from chargehand.domain.llm import Ask, Reply
from chargehand.llm.replies import (
    MAX_TOKENS,
    SHORTEST_KEY,
    NoAnswer,
    Response,
    check,
    completion,
    cost,
    prompt_of,
    told,
    value,
)

MAX_BODY = 1_000_000  # bytes: sixty times the longest answer with that many tokens
NO_LIST = (404, 405)  # what servers answer that have no list of models


class ProxyLLM:
    """Asks the model `model` at `url` (with or without `/v1` at its end).

    `timeout` is for a whole answer, in seconds: a server that sends a byte now and then gains nothing by it. `key` is
    sent as a bearer token, and only to `url`: redirects are not followed, proxies of the environment are not used.
    """

    def __init__(self, url: str, model: str, *, tier: str, key: str | None, timeout: float) -> None:
        self.tier = tier
        self.model = model
        self.timeout = timeout
        self._base = url.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1") + "/v1"
        self._key = key

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
            response = await self._send("POST", "/chat/completions", seconds, self._question(ask))
            spent["cost_usd"] = cost(response)
            answer = completion(response)
            spent |= answer.tokens()
            return self._reply(started, value=value(answer), **spent)
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

    def _question(self, ask: Ask) -> dict[str, Any]:
        # No temperature: current Claude models refuse it. Not "strict": that forbids parameters of any name.
        schema = {"name": ask.purpose, "schema": ask.answer_schema}
        return {
            "model": self.model,
            "messages": list(ask.messages),
            "max_tokens": MAX_TOKENS,
            "response_format": {"type": "json_schema", "json_schema": schema},
        }

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
