"""All that a door needs is in `app`: routes as an HTTP API would have them, without `cli`, `store` or `engine`."""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chargehand.app import json_view
from chargehand.app.application import Application, open_application
from chargehand.app.worker import worker_beside
from chargehand.domain.errors import PlanChanged, UnknownId, WrongStatus
from chargehand.domain.intents import Risk
from chargehand.domain.states import PlanStatus, RequestStatus, TaskStatus
from chargehand.settings import Settings

SCRIPT = """#!/bin/sh
# chargehand:
#   intent: count_sheep
#   description: Count the sheep
#   examples: [count the sheep, please count the sheep, count sheep, count all sheep]
#   risk: change
#   retry_safe: true
#   outputs:
#     sheep: {type: integer}
echo '{"sheep": 7}' > "$CHARGEHAND_OUTPUT_FILE"
"""


class Routes:
    """What a web server would call: JSON in, JSON out."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def post_request(self, words: str, who: str) -> str:
        request_id = await self._app.submit(words, requester=who)
        return self._answer({"request_id": request_id})

    async def list_requests(self, status: RequestStatus | None = None) -> str:
        return self._answer([json_view.request_line(one) for one in await self._app.requests(status)])

    async def get_request(self, given: str) -> str:
        return self._answer(json_view.request_value(await self._app.snapshot(await self._app.request_id(given))))

    async def get_trail(self, given: str) -> str:
        return self._answer(json_view.trail_value(await self._app.trail(await self._app.request_id(given))))

    async def post_approval(self, given: str, digest: str, who: str) -> str:
        request_id = await self._app.request_id(given)
        return self._answer({"status": await self._app.approve(request_id, digest, who)})

    @staticmethod
    def _answer(value: Any) -> str:
        return json.dumps(value, default=str)


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Application]:
    """An application whose own agent can count sheep."""
    script = tmp_path / "scripts" / "count.sh"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    settings = Settings(
        home=tmp_path / "home", database_url=database_url, scripts=(script.parent,), playbooks=(tmp_path / "none",)
    )
    async with open_application(settings) as opened, worker_beside(opened) as worker:
        await asyncio.wait_for(worker.holding.wait(), 30)
        yield opened


async def reached(app: Application, request_id: str, status: RequestStatus) -> None:
    async with asyncio.timeout(60):
        while (await app.request(UUID(request_id))).status is not status:
            await app.changed(0.5)


async def test_a_route_lists_requests_and_approves_one(app: Application) -> None:
    routes = Routes(app)
    request_id = json.loads(await routes.post_request("count the sheep", "ann"))["request_id"]
    await reached(app, request_id, RequestStatus.AWAITING_APPROVAL)
    (waiting,) = json.loads(await routes.list_requests(RequestStatus.AWAITING_APPROVAL))
    assert (waiting["request_id"], waiting["requester"]) == (request_id, "ann")

    shown = json.loads(await routes.get_request(request_id[:8]))
    with pytest.raises(PlanChanged):
        await routes.post_approval(request_id, "0" * 64, "bob")
    approved = json.loads(await routes.post_approval(request_id, shown["plan"]["digest"], "bob"))
    assert approved == {"status": "running"}
    await reached(app, request_id, RequestStatus.COMPLETED)

    done = json.loads(await routes.get_request(request_id))
    assert [(task["status"], task["outputs"]) for task in done["tasks"]] == [("succeeded", {"sheep": 7})]
    told = json.loads(await routes.get_trail(request_id))
    assert [(one["approver"], one["decision"]) for one in told["approvals"]] == [("bob", "approved")]
    assert told["events"][-1]["kind"] == "request.completed"
    assert json.loads(await routes.list_requests(RequestStatus.AWAITING_APPROVAL)) == []


async def test_what_a_door_gets_is_typed(app: Application) -> None:
    request_id = await app.submit("count the sheep", requester="ann", dry_run=False, priority="high")
    await reached(app, str(request_id), RequestStatus.AWAITING_APPROVAL)
    found = await app.snapshot(request_id)
    assert found.plan is not None
    assert (found.plan.status, found.plan.plan.tasks[0].intent) == (PlanStatus.PENDING_APPROVAL, "count_sheep")
    assert found.request.priority == "high"
    assert found.tasks == (), "nothing is a task before somebody agrees"
    (entry,) = [entry for entry in await app.catalog() if entry.intent == "count_sheep"]
    assert (entry.agent, entry.risk, entry.unavailable) == ("infra-1", Risk.CHANGE, None)
    (agent,) = await app.agents()
    assert (agent.name, agent.is_silent(30)) == ("infra-1", False)

    assert await app.cancel(request_id, "ann") is RequestStatus.CANCELLED
    with pytest.raises(WrongStatus):
        await app.reject(request_id, "ann")
    with pytest.raises(UnknownId):
        await app.snapshot(UUID(int=0))


async def test_who_disagrees_needs_no_digest_and_can_say_what_to_plan_instead(app: Application) -> None:
    refused = await app.submit("make coffee for everybody", requester="ann")
    await reached(app, str(refused), RequestStatus.REFUSED)
    with pytest.raises(WrongStatus, match="no plan yet"):
        await app.reject(refused, "ann")
    request_id = await app.submit("count the sheep", requester="ann")
    await reached(app, str(request_id), RequestStatus.AWAITING_APPROVAL)
    assert await app.reject(request_id, "ann", "please count the sheep") is RequestStatus.ACCEPTED
    await reached(app, str(request_id), RequestStatus.AWAITING_APPROVAL)
    plan = await app.plan(request_id)
    assert plan is not None
    assert plan.version == 2
    await app.approve(request_id, plan.digest, "ann")
    await reached(app, str(request_id), RequestStatus.COMPLETED)
    assert {task.status for task in await app.tasks(request_id)} == {TaskStatus.SUCCEEDED}


def test_this_door_asks_only_the_application() -> None:
    named = {
        node.module.split(".")[1]
        for node in ast.walk(ast.parse(Path(__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("chargehand.")
    }
    assert named == {"app", "domain", "settings"}
