"""What the engine needs of the database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chargehand.store.transaction import Transaction


class Store(Protocol):
    """The truth. There is one implementation (decision 0002), so its transaction is named here, not copied."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """One transaction: all of it takes effect when the block ends, or none."""
