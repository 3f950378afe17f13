"""What the engine needs of the database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chargehand.store.transaction import Batch


class Store(Protocol):
    """The truth. There is one implementation (decision 0002), so its transaction is named here, not copied."""

    def batch(self) -> AbstractAsyncContextManager[Batch]:
        """One transaction: all of it takes effect when the block ends, or none."""
