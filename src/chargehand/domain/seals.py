"""The seal over a request's history. Pure.

When a request ends, a MAC over its ordered events is stored, keyed from the master key (a file, never in the
database). Who can write to the database but not read that file can neither alter nor remove an event unnoticed.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from chargehand.domain.records import Event


def seal_key(master: bytes) -> bytes:
    """Return the key seals are made with, so that no agent's key can make one."""
    return hmac.digest(master, b"chargehand seal", "sha256")


def event_bytes(event: Event) -> bytes:
    """Return the canonical form of an event: what a seal covers."""
    value = [
        event.seq,
        event.kind,
        str(event.task_id or ""),
        str(event.attempt_id or ""),
        event.data,
        event.at.isoformat(),
    ]
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def mac(key: bytes, request_id: UUID, events: Sequence[Event]) -> str:
    """Return the hex MAC over the request's id and its events in order."""
    digest = hmac.new(key, request_id.bytes, "sha256")
    for event in events:
        line = event_bytes(event)
        digest.update(len(line).to_bytes(8, "big"))  # lengths, so that no two histories have the same bytes
        digest.update(line)
    return digest.hexdigest()


def key_name(key: bytes) -> str:
    """Return a short name of a seal key: tells keys apart and says nothing about them."""
    return hmac.digest(key, b"name", "sha256").hex()[:12]


@dataclass(frozen=True, slots=True)
class Seal:
    """A stored seal over the first `event_count` events of a request."""

    request_id: UUID
    event_count: int
    mac: str
    pruned: bool = False
    key_name: str = ""


def check(key: bytes, seal: Seal, events: Sequence[Event]) -> str | None:
    """Return what is wrong with the sealed events, or None. A pruned request has no events to check."""
    if seal.key_name != key_name(key):
        return f"it was sealed with another master key ({seal.key_name}), so this one cannot tell"
    if seal.pruned:
        return None if not events else "it was pruned, but has events"
    sealed = [event for event in events if event.seq <= seal.event_count]
    missing = sorted(set(range(1, seal.event_count + 1)) - {event.seq for event in sealed})
    if missing:
        return f"events were removed: {', '.join(f'number {n}' for n in missing[:5])}"
    if len(sealed) != seal.event_count:
        return "events were added"
    if not hmac.compare_digest(mac(key, seal.request_id, sealed), seal.mac):
        return "an event was altered"
    return None


def check_end(sealed: int | None, counted: int, newest: int | None) -> str | None:
    """Return what is wrong at the end of an ended request's history, or None.

    `sealed` is how many events its last seal covers, `counted` how many its row says it has, `newest` the number of
    the last one there is.
    """
    if sealed is None:
        return "it has ended, but its seal is missing"
    if newest is not None and (newest > sealed or counted != sealed):
        return "events were added after its seal"
    return None
