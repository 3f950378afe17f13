"""A small orchestrator per test, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chargehand.domain.llm import Ask
from chargehand.understanding.questions import build_ask
from tests.builders import make_catalog, make_id
from tests.world import World, close_world, open_world


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Everything wired over a fresh database; nothing runs by itself."""
    made = await open_world(database_url)
    yield made
    await close_world(made)


@pytest.fixture
def question() -> Ask:
    """A question to a model about one intent."""
    return build_ask(make_id("request"), "deploy the page", make_catalog("deploy_page"))
