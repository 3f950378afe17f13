"""A server as `chargehand server` runs it, but for its models: one tier that answers at once, always the same.

What a model costs depends on the model; here it would only hide what Chargehand costs.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from bench.noop import INTENT
from chargehand import settings
from chargehand.app.application import open_application
from chargehand.app.worker import serve, stop_signals
from chargehand.domain.llm import Ask, Reply
from chargehand.domain.tiers import models

TASKS = 3
ANSWER = {
    "subtasks": [
        {"order": n, "name": INTENT, "intent": INTENT, "confidence": 1.0, "depends_on": [n - 1] if n > 1 else []}
        for n in range(1, TASKS + 1)
    ]
}


class Fixed:
    """A tier that understands everything as three no-ops."""

    tier, model, timeout = models()[0].name, "fixed", None

    async def structured(self, ask: Ask) -> Reply:
        """Answer at once."""
        return Reply.model_validate({"tier": self.tier, "model": self.model, "value": ANSWER})


async def _until_told() -> None:
    stopping = stop_signals()
    async with open_application(settings.load()) as app:
        app.engine.tiers = {Fixed.tier: Fixed()}
        await serve(app, stopping)


def main() -> int:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_until_told())
    return 0


if __name__ == "__main__":
    sys.exit(main())
