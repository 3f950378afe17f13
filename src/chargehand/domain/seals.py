"""Seals over requests' histories, and the chain that they form. Pure.

A seal is a MAC over the first events of a request, in order, keyed from the master key (a file, never in the
database). There is one over the first event, one over all events each time the request ends, and one that says that its
events were pruned. In the chain each seal covers the one before it and its own number, so that none of them can be
removed, moved or put between others. Who can write to the database but not read that file can do none of it unnoticed.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID

from chargehand.domain.records import Event

Kind = Literal["accepted", "ended", "pruned"]
NAMED = 5  # missing numbers that are named; a message must fit on a screen


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


def pruning_mac(key: bytes, request_id: UUID, event_count: int, last: str) -> str:
    """Return the hex MAC that says: these events were pruned, and `last` was the seal over them."""
    return _over(key, ["pruned", str(request_id), event_count, last])


def key_name(key: bytes) -> str:
    """Return a short name of a seal key: tells keys apart and says nothing about them."""
    return hmac.digest(key, b"name", "sha256").hex()[:12]


@dataclass(frozen=True, slots=True)
class Seal:
    """A stored seal over the first `event_count` events of a request. Outside of the chain it has no position yet."""

    request_id: UUID
    event_count: int
    mac: str
    key_name: str = ""
    kind: Kind = "ended"
    position: int | None = None
    link: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it is still to be made: the first one of a request that was just accepted."""
        return self.kind == "accepted" and self.position is None and not self.mac


class Head(NamedTuple):
    """The end of a chain: how many seals it has, and the link of the last one, which covers all of them."""

    position: int
    link: str
    key_name: str

    def as_json(self) -> dict[str, object]:
        """Return what is written into a file."""
        return {"chargehand": "audit head", **self._asdict()}

    @classmethod
    def from_json(cls, value: object) -> Head:
        """Read what a file holds. Raises ValueError when it is no head."""
        given = value if isinstance(value, dict) else {}
        position, link, name = (given.get(field) for field in cls._fields)
        if given.get("chargehand") != "audit head" or type(position) is not int or position < 0:
            raise ValueError("not the head of an audit chain")
        return cls(position, str(link), str(name))


EMPTY = Head(0, "", "")
"""The head of a chain that has no seal yet."""


@dataclass(frozen=True, slots=True)
class RequestState:
    """What the row of a request says, and how many events of it there are. `newest` is the last one's number."""

    ended: bool
    counted: int
    newest: int | None


def link(key: bytes, before: str, position: int, seal: Seal) -> str:
    """Return the hex MAC by which a seal is part of the chain. `before` is the link of the one before it."""
    said = [seal.kind, str(seal.request_id), seal.event_count, seal.mac, seal.key_name]
    return _over(key, ["link", before, position, *said])


def check_chain(key: bytes, seals: Iterable[Seal]) -> list[str]:
    """Return what is wrong with the chain, in words; nothing when it holds."""
    chained = sorted((s for s in seals if s.position is not None), key=lambda seal: seal.position or 0)
    there = {seal.position or 0: seal for seal in chained}
    last = max(there, default=0)
    missing = [n for n in range(1, last + 1) if n not in there]
    problems = [f"{len(missing)} seals were removed: {_numbers(missing)}"] if missing else []
    unlinked = [n for n in there if not _is_linked(key, there, n)]
    if unlinked:
        problems.append(f"these seals were altered or put there by somebody else: {_numbers(unlinked)}")
    return problems


def _is_linked(key: bytes, there: Mapping[int, Seal], position: int) -> bool:
    """Whether a seal is the one that was put there, behind the one before it. Without that one nobody can tell."""
    if position < 1:
        return False
    before, seal = there.get(position - 1), there[position]
    if before is None and position > 1:
        return True
    return hmac.compare_digest(
        (seal.link or "").encode(), link(key, (before and before.link) or "", position, seal).encode()
    )


def _numbers(positions: Sequence[int]) -> str:
    more = f" and {len(positions) - NAMED} more" if len(positions) > NAMED else ""
    return ", ".join(f"number {n}" for n in positions[:NAMED]) + more


def check_head(head: Head, seals: Iterable[Seal]) -> str | None:
    """Return how a chain differs from a head of it that was kept elsewhere, or None."""
    if head.position == 0:
        return None
    there = {seal.position: seal.link for seal in seals if seal.position is not None}
    last = max(there, default=0)
    if last < head.position:
        return f"the chain has {last} seals and had {head.position}: it was cut off, or the database was replaced"
    if there.get(head.position) != head.link:
        return f"the chain was rewritten: seal number {head.position} is another one than it was"
    return None


def check_request(key: bytes, own: Sequence[Seal], events: Sequence[Event], row: RequestState | None) -> str | None:
    """Return what is wrong with one request's history, or None. `own` are its seals, `row` None: it has no row."""
    pruned = next((seal for seal in own if seal.kind == "pruned"), None)
    if pruned is not None:
        return _check_pruned(key, pruned, own, events, row)
    if row is None and not events:
        return "the request was removed, with all its events"
    for seal in own:
        if problem := check(key, seal, events):
            return problem
    if row is None:
        return "the request was removed; its events are still there"
    if not any(seal.kind == "accepted" for seal in own):
        return "its first seal is missing"
    return check_end(max((s.event_count for s in own if s.kind == "ended"), default=None), row)


def _check_pruned(
    key: bytes, pruned: Seal, own: Sequence[Seal], events: Sequence[Event], row: RequestState | None
) -> str | None:
    if other := _another_key(key, pruned):
        return other
    last = max((s for s in own if s.kind == "ended"), key=lambda s: s.event_count, default=None)
    if last is None or not hmac.compare_digest(
        pruned.mac.encode(), pruning_mac(key, pruned.request_id, last.event_count, last.mac).encode()
    ):
        return "it is said to be pruned, but not by Chargehand: its events were removed"
    return "it was pruned, but is still there" if events or row is not None else None


def check(key: bytes, seal: Seal, events: Sequence[Event]) -> str | None:
    """Return what is wrong with the sealed events, or None."""
    if seal.is_empty:
        return None
    if other := _another_key(key, seal):
        return other
    sealed = [event for event in events if event.seq <= seal.event_count]
    missing = sorted(set(range(1, seal.event_count + 1)) - {event.seq for event in sealed})
    if missing:
        return f"events were removed: {_numbers(missing)}"
    if len(sealed) != seal.event_count:
        return "events were added"
    if not hmac.compare_digest(mac(key, seal.request_id, sealed).encode(), seal.mac.encode()):
        return "an event was altered"
    return None


def check_end(sealed: int | None, row: RequestState) -> str | None:
    """Return what is wrong at the end of a request's history, or None.

    `sealed` is how many events its last seal covers; None: it has none yet.
    """
    if not row.ended:
        looks_ended = sealed is not None and row.newest == sealed
        return "it ended and was sealed, but its row says that it goes on" if looks_ended else None
    if sealed is None:
        return "it has ended, but its seal is missing"
    if row.newest is None or row.newest > sealed or row.counted != sealed:
        return "events were added after its seal, or its last seal was removed"
    return None


def _another_key(key: bytes, seal: Seal) -> str | None:
    if seal.key_name == key_name(key):
        return None
    return f"it was sealed with another master key ({seal.key_name}), so this one cannot tell"


def _over(key: bytes, what: list[object]) -> str:
    return hmac.new(key, json.dumps(what, separators=(",", ":")).encode(), "sha256").hexdigest()
