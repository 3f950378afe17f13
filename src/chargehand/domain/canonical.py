"""One text for one value, so that a hash over it depends on what is said and not on how it was written. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: object) -> str:
    """Return a JSON value as text with sorted keys, no spaces and one way to write each number."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: object) -> str:
    """Return the hex SHA-256 of a JSON value."""
    return hashlib.sha256(canonical(value).encode(errors="surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    """Write 1.0 as 1: PostgreSQL's jsonb gives 1e+22 back as an integer, and that must not change a digest."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
