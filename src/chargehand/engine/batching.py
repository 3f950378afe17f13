"""One poisonous item stops no other: a batch that fails is tried again item by item."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar
from uuid import UUID

from chargehand.domain.errors import StaleStatus, TransientError

log = logging.getLogger("chargehand.engine.batching")

Item = TypeVar("Item")

Step = Callable[[list[UUID], UUID | None], Awaitable[None]]
"""Handles a batch in one transaction: appends the ids it has claimed to the list; with an id, only that one."""

OnFailure = Callable[[UUID, Exception], Awaitable[None]]
"""Counts that an item failed alone, and takes it out of the way when it has failed too often."""


async def batch_or_singly(step: Step, failed: OnFailure) -> int:
    """Run a step on a batch and, when that fails, on each item alone; return how many there were.

    Raises `TransientError` for what is nobody's fault (the database is away): the whole batch is tried later.
    """
    seen: list[UUID] = []
    try:
        await step(seen, None)
    except StaleStatus:
        await _alone(step, failed, seen)
    except TransientError:
        raise
    except Exception as error:  # noqa: BLE001 - tried alone, then counted and kept
        log.warning("a batch of %d failed and is tried one by one: %s", len(seen), error)
        await _alone(step, failed, seen)
    return len(seen)


async def _alone(step: Step, failed: OnFailure, items: list[UUID]) -> None:
    for item in items:
        try:
            await step([], item)
        except StaleStatus:
            continue  # somebody else has it
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - counted and kept
            await failed(item, error)


class Batcher(Generic[Item]):
    """Batches concurrent callers: who comes while a step is under way is in the next one.

    Nobody waits for company: whoever comes first goes at once, alone.
    """

    def __init__(
        self,
        step: Callable[[Sequence[Item]], Awaitable[None]],
        failed: Callable[[Item, Exception], Awaitable[None]],
        most: int,
    ) -> None:
        self._step, self._failed, self._most = step, failed, most
        self._waiting: list[Item] = []
        self._turn = asyncio.Lock()

    async def bring(self, item: Item) -> None:
        """Have an item done and return when its turn is over.

        Raises `TransientError`, to one of those whose items were in the step, for what is nobody's fault.
        """
        self._waiting.append(item)
        async with self._turn:
            if any(waits is item for waits in self._waiting):
                items, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._go(items)

    async def _go(self, items: Sequence[Item]) -> None:
        try:
            await self._step(items)
        except StaleStatus:
            await self._alone(items)
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - tried alone, then counted and kept
            if len(items) == 1:
                await self._failed(items[0], error)
                return
            log.warning("a batch of %d failed and is tried one by one: %s", len(items), error)
            await self._alone(items)

    async def _alone(self, items: Sequence[Item]) -> None:
        for item in items:
            try:
                await self._step([item])
            except StaleStatus as error:
                log.info("%s", error)  # somebody else has it
            except TransientError:
                raise
            except Exception as error:  # noqa: BLE001 - counted and kept
                await self._failed(item, error)
