"""The dialects that the server speaks: Anthropic's messages, Ollama's chat, and OpenAI's chat completions, which a
LiteLLM proxy speaks. Shapes as recorded from real servers, less what nobody reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from chargehand.testing.llm.answers import Answer

TOKENS_IN, TOKENS_OUT = 321, 45  # the same for every answer, so that a test can tell them from zero
NOW = "2026-11-22T12:00:00Z"


def anthropic(answer: Answer, model: str) -> Any:
    """`POST /v1/messages`."""
    if answer.status != 200:
        kind = answer.error.get("type") or ANTHROPIC_ERRORS.get(answer.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": answer.error["message"]}}
    thought = [{"type": "thinking", "thinking": answer.thinking, "signature": "x"}] if answer.thinking else []
    content = [{"type": "text", "text": answer.content}] if answer.content is not None else []
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": thought + content,
        "stop_reason": {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}[answer.finish],
        "usage": {
            "input_tokens": TOKENS_IN - answer.cached,
            "cache_read_input_tokens": answer.cached,
            "output_tokens": TOKENS_OUT,
        },
    }


ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def ollama_chat(answer: Answer, model: str) -> Any:
    """`POST /api/chat`."""
    if answer.status != 200:
        return {"error": answer.error["message"]}
    message = {"role": "assistant", "content": answer.content or "", "thinking": answer.thinking}
    return _ollama(answer, model) | {"message": message}


def ollama_generate(answer: Answer, model: str) -> Any:
    """`POST /api/generate`."""
    if answer.status != 200:
        return {"error": answer.error["message"]}
    return _ollama(answer, model) | {"response": answer.content or ""}


def _ollama(answer: Answer, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "created_at": NOW,
        "done": True,
        "done_reason": "length" if answer.finish == "length" else "stop",
        "prompt_eval_count": TOKENS_IN,
        "eval_count": TOKENS_OUT,
    }


def openai(answer: Answer, model: str) -> Any:
    """`POST /v1/chat/completions`."""
    if answer.status != 200:
        return {"error": {"type": None, "param": None, "code": str(answer.status), **answer.error}}
    beside = {"reasoning_content": answer.thinking} if answer.thinking else {}
    message = {"role": "assistant", "content": answer.content, **beside, **answer.model_fields}
    finish = {"stop": "stop", "length": "length", "refusal": "content_filter"}[answer.finish]
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1795348800,
        "model": model,
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": {
            "prompt_tokens": TOKENS_IN,
            "completion_tokens": TOKENS_OUT,
            "total_tokens": TOKENS_IN + TOKENS_OUT,
            "prompt_tokens_details": {"cached_tokens": answer.cached},
        },
    }


DIALECTS: Mapping[str, Callable[[Answer, str], Any]] = {
    "/v1/messages": anthropic,
    "/api/chat": ollama_chat,
    "/api/generate": ollama_generate,
    "/v1/chat/completions": openai,
    "/chat/completions": openai,  # as LiteLLM's own client calls a proxy
}


def words_of(body: Any) -> str:
    """Return the words of the request that a prompt of ours quotes; else the last thing that was said."""
    said = [_text(message["content"]) for message in body.get("messages", ()) if message["role"] == "user"]
    said = said or [str(body.get("prompt", ""))]
    for text in reversed(said):  # worked examples stand before it
        try:
            return str(json.loads(text)["request"])
        except (ValueError, KeyError, TypeError):
            continue
    return said[-1]


def _text(content: Any) -> str:
    if isinstance(content, list):  # Anthropic's blocks
        return "".join(str(block.get("text", "")) for block in content)
    return str(content)
