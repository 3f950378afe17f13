"""The named statements of the chain of seals, modelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bench.model.database import Row, Transaction
from bench.model.statements import columns, statement


@statement
def any_unchained(tx: Transaction) -> list[Row]:
    return [{"found": 1} for row in tx.rows("seals") if row["position"] is None][:1]


@statement
def lock_chain(tx: Transaction, lock: int) -> list[Row]:
    if not tx.is_free("the chain", lock):
        return [{"mine": False}]
    tx.hold("the chain", [lock])
    return [{"mine": True}]


_end = columns("position", "link")
_first = columns("request_id", "seq", "kind", "task_id", "attempt_id", "data", "at")
_unchained = columns("seal_id", "request_id", "event_count", "kind", "mac", "key_name")


@statement
def chain_ends(tx: Transaction, known: int) -> list[Row]:
    chained = sorted((row for row in tx.rows("seals") if row["position"] is not None), key=lambda row: -row["position"])
    return [_end(row) for row in chained if row["position"] in (known, chained[0]["position"])]


@statement
def unchained_seals(tx: Transaction, limit: int) -> list[Row]:
    waiting = sorted((row for row in tx.rows("seals") if row["position"] is None), key=lambda row: row["seal_id"])
    return [_unchained(row) for row in waiting[:limit]]


@statement
def first_events(tx: Transaction, requests: Sequence[UUID]) -> list[Row]:
    found = [row for row in tx.rows("events") if row["request_id"] in requests and row["seq"] == 1]
    return [_first(row) for row in found]


@statement
def chain_seals(tx: Transaction, ids: Sequence[int], *values: Sequence[Any]) -> int:
    keys = {row["seal_id"]: (row["request_id"], row["kind"], row["event_count"]) for row in tx.rows("seals")}
    tx.hold("seals", [keys[number] for number in ids])
    for number, position, link, mac, key_name in zip(ids, *values, strict=True):
        tx.update("seals", keys[number], position=position, link=link, mac=mac, key_name=key_name)
    return len(ids)
