"""What a scripted server does with one request: what it says, and how that goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Manner = Literal["whole", "hang", "drip", "cut"]


@dataclass(frozen=True)
class Answer:
    """One answer, in no dialect yet. `body` is sent as it stands; otherwise `status` 200 brings the text `content`,
    any other the refusal `error`.

    `manner`: whole, never (`hang`), a byte at a time (`drip`) or cut off half-way; `delay` seconds before the first.
    `finish`: `stop`, `length` (it was cut off at its greatest length) or `refusal`. `thinking` is text beside the
    content; `model_fields` go into the message as they are, `cached` tokens into the
    usage.
    """

    content: str | None = None
    status: int = 200
    error: Mapping[str, Any] = field(default_factory=dict)
    finish: Literal["stop", "length", "refusal"] = "stop"
    thinking: str = ""
    model_fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    cached: int = 0
    manner: Manner = "whole"
    delay: float = 0.0
    body: str | None = None


HANG = Answer(manner="hang")


def says(value: object, **fields: Any) -> Answer:
    """Return an answer whose content is that value as JSON."""
    return writes(json.dumps(value), **fields)


def writes(content: str | None, *, message: Mapping[str, Any] | None = None, **fields: Any) -> Answer:
    """Return an answer with that text; `message` are further parts of an OpenAI message."""
    return Answer(content, model_fields=message or {}, **fields)


def fails(status: int, message: str = "something broke", *, retry_after: float | None = None, **error: Any) -> Answer:
    """Return a refusal; `error` are further parts of it, `type` and `code` above all."""
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return Answer(status=status, error={"message": message, **error}, headers=headers)


def sends(body: str, *, status: int = 200, **fields: Any) -> Answer:
    """Return exactly these characters, whatever was asked."""
    return Answer(status=status, body=body, **fields)
