"""Putting seals into their chain, a batch at a time, apart from the transactions that made them.

A transaction that ends a request only writes its seal, so plans do not wait for each other. The sweep of one process at
a time gives the seals that are there their numbers; which one comes before another does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import asyncpg

from chargehand.domain import seals
from chargehand.domain.errors import AuditBroken
from chargehand.domain.records import Event
from chargehand.domain.seals import EMPTY, Head, RequestState, Seal
from chargehand.store.status_moves import Moves

CHAIN_LOCK = 0x63687363  # "chsc": who holds it makes the chain longer, until its transaction ends
AT_ONCE = 500  # seals: a few milliseconds, and some 200 kB of events


@dataclass(frozen=True, slots=True)
class Extended:
    """What became of the chain. `agrees`: whether it still holds the head that was known; `more`: seals are left."""

    head: Head
    agrees: bool
    more: bool


class Chaining(Moves):
    """The statements of the chain."""

    async def extend_chain(self, known: Head) -> Extended | None:
        """Give seals that are not in the chain their places at its end; None when there is nothing to do here.

        `known` is a head that was kept outside of the database.
        """
        if not await self.fetch("any_unchained") or not (await self.fetch("lock_chain", CHAIN_LOCK))[0]["mine"]:
            return None
        ends = await self.fetch("chain_ends", known.position)
        last = ends[0] if ends else None
        key = self._seal_key
        head = Head(last["position"], last["link"], seals.key_name(key)) if last else EMPTY
        waiting = await self.fetch("unchained_seals", AT_ONCE)
        linked = _linked(key, head, await self._filled(waiting))
        await self.execute(
            "chain_seals",
            [row["seal_id"] for row in waiting],
            [seal.position for seal in linked],
            [seal.link for seal in linked],
            [seal.mac for seal in linked],
            [seal.key_name for seal in linked],
        )
        if linked:
            head = Head(linked[-1].position or 0, linked[-1].link or "", seals.key_name(key))
        agrees = known.position == 0 or (known.position, known.link) in {(e["position"], e["link"]) for e in ends}
        return Extended(head, agrees, more=len(waiting) == AT_ONCE)

    async def prunable(self, seconds: float) -> list[UUID]:
        """Return requests that ended so many seconds ago and whose last seal is in the chain, oldest first."""
        return [row["request_id"] for row in await self.fetch("prunable_requests", seconds)]

    async def prune(self, request_id: UUID) -> None:
        """Remove a request and its events for good, and seal that. Raises `AuditBroken` when its seals do not hold."""
        key = self._seal_key
        state = await self.fetch("lock_ended", request_id)
        own = [Seal(**dict(row)) for row in await self.fetch("seals_of", request_id)]
        events = await self.events_of(request_id)
        row = RequestState(True, state[0]["event_count"], events[-1].seq if events else None) if state else None
        if problem := seals.check_request(key, own, events, row):
            raise AuditBroken(f"request {request_id} is not pruned: {problem}", hint="See `chargehand audit verify`.")
        last = max((seal for seal in own if seal.kind == "ended"), key=lambda seal: seal.event_count)
        mac = seals.pruning_mac(key, request_id, last.event_count, last.mac)
        await self.execute("write_pruned", request_id, last.event_count, mac, seals.key_name(key))
        await self.execute("allow_pruning", str(request_id))
        await self.execute("prune_events", request_id)
        await self.execute("prune_request", request_id)

    async def _filled(self, waiting: Sequence[asyncpg.Record]) -> list[Seal]:
        """Return the seals; those of requests that were just accepted are made now, over the first event."""
        found = [
            Seal(row["request_id"], row["event_count"], row["mac"], row["key_name"], row["kind"]) for row in waiting
        ]
        empty = [seal.request_id for seal in found if seal.is_empty]
        events: dict[UUID, list[Event]] = {}
        for request_id, *event in await self.fetch("first_events", empty) if empty else ():
            events[request_id] = [Event(*event)]
        return [
            replace(
                seal,
                mac=seals.mac(self._seal_key, seal.request_id, events.get(seal.request_id, [])),
                key_name=seals.key_name(self._seal_key),
            )
            if seal.is_empty
            else seal
            for seal in found
        ]


def _linked(key: bytes, head: Head, given: Sequence[Seal]) -> list[Seal]:
    made, before = [], head.link
    for position, seal in enumerate(given, head.position + 1):
        before = seals.link(key, before, position, seal)
        made.append(replace(seal, position=position, link=before))
    return made
