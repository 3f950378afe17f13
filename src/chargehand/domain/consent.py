"""What signs a ruling and an approval, so that a row in the database alone lets no work start. Pure.

Both are MACs with a key from the master key, a file that is never in the database. Who can write to the database but
not read that file can neither approve, nor turn a ruling that asks two people into one that asks nobody.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID


def consent_key(seal_key: bytes) -> bytes:
    """Return the key that rulings and approvals are signed with; a seal can be none of them."""
    return hmac.digest(seal_key, b"chargehand consent", "sha256")


class About(NamedTuple):
    """Exactly what somebody said something about."""

    request_id: UUID
    plan_id: UUID
    digest: str


def ruling_mac(key: bytes, about: About, requester: str, ruling: Mapping[str, Any]) -> str:
    """Return the hex MAC over what the approval policy says about one plan, and over whose request it is."""
    return _mac(key, ["ruling", *map(str, about), requester, dict(ruling)])


def approval_mac(key: bytes, about: About, approver: str, decision: str, at: int) -> str:
    """Return the hex MAC over one decision of a person. `at` is when, in microseconds since 1970."""
    return _mac(key, ["approval", *map(str, about), approver, decision, at])


def same(given: str, right: str) -> bool:
    """Compare MACs without telling by the time it takes how much of one is right."""
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())


def _mac(key: bytes, what: list[Any]) -> str:
    text = json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(key, text.encode(errors="surrogatepass"), "sha256").hexdigest()
