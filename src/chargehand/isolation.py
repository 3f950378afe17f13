"""One poisonous item stops no other: a batch that fails is tried again item by item."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from chargehand.errors import StaleStatus, TransientError

log = logging.getLogger("chargehand.isolation")

Step = Callable[[list[UUID], UUID | None], Awaitable[None]]
"""Handles a batch in one transaction: appends the ids it has claimed to the list; with an id, only that one."""

Mishap = Callable[[UUID, Exception], Awaitable[None]]
"""Counts that an item failed alone, and takes it out of the way when it has failed too often."""


async def each(step: Step, mishap: Mishap) -> int:
    """Run a step on a batch and, when that fails, on each item alone; return how many there were.

    Raises `TransientError` for what is nobody's fault (the database is away): the whole batch is tried later.
    """
    seen: list[UUID] = []
    try:
        await step(seen, None)
    except StaleStatus:
        await _alone(step, mishap, seen)
    except TransientError:
        raise
    except Exception as error:  # noqa: BLE001 - tried alone, then counted and kept
        log.warning("a batch of %d failed and is tried one by one: %s", len(seen), error)
        await _alone(step, mishap, seen)
    return len(seen)


async def _alone(step: Step, mishap: Mishap, items: list[UUID]) -> None:
    for item in items:
        try:
            await step([], item)
        except StaleStatus:
            continue  # somebody else has it
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - counted and kept
            await mishap(item, error)
