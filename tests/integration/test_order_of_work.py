"""What can start never waits for what cannot: the order of work on real agents, while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Protocol
from uuid import UUID, uuid4

from chargehand.agent import Agent, Outcome, Work
from chargehand.agent.runtime.runtime import AgentRuntime
from chargehand.cli.flows.explain import story_lines
from chargehand.domain.envelopes import derive_key
from chargehand.domain.errors import PermanentError
from chargehand.domain.intents import Resources, Variant
from chargehand.engine.loops import Loops, Wake
from tests.builders import make_spec
from tests.world import MASTER, PaperAgent, World, decomposition

GPU = Resources(estimated_duration_seconds=60, gpu_vram_mb=6_000)
MACHINE = Resources(estimated_duration_seconds=0, cpu_cores=8, memory_mb=16_000, gpu_vram_mb=8_000)


class Employer(Protocol):
    """Whoever has a real agent."""

    @property
    def agent(self) -> Agent: ...


class Studio:
    """A real agent with one GPU that can be held busy, and what it has done, in order."""

    def __init__(self, name: str = "studio", slots: int = 4) -> None:
        self.done: list[str] = []
        self.begun: list[str] = []
        self.failing: set[str] = set()
        self.gpu_free = asyncio.Event()
        self.agent = Agent(name, slots=slots, resources=MACHINE)
        for intent, needs in (("train_model", GPU), ("render_film", GPU), ("tidy_up", None), ("write_notes", None)):
            keys = (f"folder:{intent}",)  # so that they are known to be apart
            self.agent.work(intent, retry_safe=True, resources=needs, description=intent, exclusive_keys=keys)(self._do)

    async def has(self, **lists: list[str]) -> None:
        """Wait until that is what has begun or is done."""

        async def there() -> bool:
            return all(getattr(self, name) == wanted for name, wanted in lists.items())

        await until(there)

    async def _do(self, work: Work) -> Outcome:
        self.begun.append(work.intent)
        if work.intent in self.failing:
            raise PermanentError(f"{work.intent} went wrong")
        if work.intent == "train_model":
            await self.gpu_free.wait()
        self.done.append(work.intent)
        return Outcome(f"did {work.intent}")


@asynccontextmanager
async def at_work(world: World, home: Path, *studios: Employer) -> AsyncIterator[Sequence[AgentRuntime]]:
    """Run the loops and the agents, as one process does."""
    wake = Wake()
    loops = world.loops = Loops(world.engine, world.sweep, world.broker, wake)
    stop_listening = await world.store.listen(wake.steps, lambda: None)
    await loops.receive()
    runtimes = [await _started(world, home, studio) for studio in studios]
    await loops.work()
    try:
        yield runtimes
    finally:
        for runtime in runtimes:
            await runtime.stop()
        await loops.stop()
        await stop_listening()


async def _started(world: World, home: Path, studio: Employer) -> AgentRuntime:
    agent_id, name = uuid4(), studio.agent.name
    async with world.store.transaction() as tx:
        await tx.enrol(agent_id, name, agent_type="infra", pool="test", grant_policy="test")
    runtime = await revived(world, home, studio, agent_id)
    there = "SELECT 1 FROM agent_registry WHERE name = $1 AND incarnation <> ''"
    await until(lambda: world.run(there, name))
    return runtime


async def revived(world: World, home: Path, studio: Employer, agent_id: UUID) -> AgentRuntime:
    """Start a life of an agent that is enrolled."""
    key, folder = derive_key(MASTER, str(agent_id), 1), home / studio.agent.name
    runtime = AgentRuntime(studio.agent, world.broker, agent_id=str(agent_id), key=key, home=folder)
    await runtime.start()
    return runtime


async def gone(world: World, runtime: AgentRuntime) -> None:
    """Stop an agent and let it have been silent for an hour."""
    await runtime.stop()
    assert world.loops is not None
    await world.loops.settled()  # it may have been asked who it is, and have said so while it went
    agent_id = UUID(runtime.agent_id)
    await until(lambda: world.run("SELECT 1 FROM agent_registry WHERE agent_id = $1 AND status = 'draining'", agent_id))
    silent = "UPDATE agent_registry SET last_heartbeat_at = now() - interval '1 hour' WHERE agent_id = $1"
    await world.run(silent, agent_id)
    await world.sweep.mark_offline()


async def start(
    world: World, words: str, *intents: str, after: dict[int, list[int]] | None = None, **options: Any
) -> UUID:
    """Submit a request of these intents, independent unless `after` says otherwise, and approve its plan."""
    answer = decomposition(*intents)
    for subtask in answer["subtasks"]:
        subtask["depends_on"] = (after or {}).get(subtask["order"], [])
    world.model.answers[words] = answer
    request_id = await world.engine.submit(words, requester="ann", **options)
    plan = await until(lambda: world.queries.plan(request_id))
    await world.control.approve(request_id, plan["digest"], "ann")
    return request_id


async def reached(world: World, request_id: UUID, status: str) -> None:
    async def there() -> bool:
        return await world.status(request_id) == status

    await until(there)


async def until(check: Callable[[], Awaitable[Any]]) -> Any:
    """Return what `check` finds once that is true."""
    async with asyncio.timeout(30):
        while True:
            if found := await check():
                return found
            await asyncio.sleep(0.02)


async def test_while_the_gpu_is_busy_other_work_goes_first_and_why_says_so(world: World, tmp_path: Path) -> None:
    studio = Studio()
    async with at_work(world, tmp_path, studio):
        training = await start(world, "train", "train_model")
        await studio.has(begun=["train_model"])
        request_id = await start(world, "film", "render_film", "tidy_up", "write_notes")
        await studio.has(done=["tidy_up", "write_notes"])
        assert await world.status(request_id) == "running", "the film waits for the GPU"
        studio.gpu_free.set()
        await reached(world, training, "completed")
        await reached(world, request_id, "completed")
    assert studio.done == ["tidy_up", "write_notes", "train_model", "render_film"]
    told = "\n".join(line.text for line in await story_lines(world.reads, request_id))
    busy = "0/1 agents can run render_film: 1 busy: needs 6,000 MiB of GPU memory, 2,000 left"
    assert f"task 2 goes first: {busy}" in told
    assert f"goes before task 1, which waits: {busy}" in told
    assert f"goes before task 1, which waits: {busy}" in told.split("Step 3")[1]
    plan = await world.queries.plan(request_id)
    assert plan is not None
    assert [task["intent"] for task in plan["plan"]["tasks"]] == ["render_film", "tidy_up", "write_notes"]


async def test_nothing_goes_before_what_it_depends_on(world: World, tmp_path: Path) -> None:
    studio = Studio()
    async with at_work(world, tmp_path, studio):
        await start(world, "train", "train_model")
        await studio.has(begun=["train_model"])
        request_id = await start(world, "film", "render_film", "tidy_up", "write_notes", after={2: [1]})
        await studio.has(done=["write_notes"])
        await asyncio.sleep(0.3)
        assert studio.done == ["write_notes"]
        studio.gpu_free.set()
        await reached(world, request_id, "completed")
    assert studio.done == ["write_notes", "train_model", "render_film", "tidy_up"]


async def test_what_is_urgent_goes_first_and_what_has_waited_goes_before_it(world: World) -> None:
    agent = await world.agent("infra-1", make_spec("tidy_up", retry_safe=True), slots=1)
    ids = {}
    for words, priority in (("low", "low"), ("normal", "normal"), ("critical", "critical")):
        ids[words] = await world.approved("tidy_up", words=words, priority=priority)
    assert await _next(world, agent) == ids["critical"]
    await world.run("UPDATE tasks SET turn = turn - interval '61 minutes' WHERE request_id = $1", ids["low"])
    assert await _next(world, agent) == ids["low"], "as if it had waited for an hour"
    assert await _next(world, agent) == ids["normal"]


async def _next(world: World, agent: PaperAgent) -> UUID:
    """Let the agent, which has one slot, do one task, and return its request."""
    await world.due_now()
    await world.engine.dispatch()
    (order,) = await agent.orders()
    await agent.accept(order)
    await agent.finish(order)
    row = await world.run("SELECT request_id FROM attempts WHERE attempt_id = $1", order.attempt_id)
    return UUID(str(row[0]["request_id"]))


async def test_urgent_requests_are_read_first(world: World) -> None:
    for priority in ("background", "normal", "critical", "low", "high"):
        await world.engine.submit(priority, requester="ann", priority=priority)
    claimed = [await world.engine.claim(1) for _ in range(5)]
    assert [request.wording for (request,), _ in claimed] == ["critical", "high", "normal", "low", "background"]


async def test_a_request_is_refused_at_once_when_no_agent_is_there(world: World, tmp_path: Path) -> None:
    studios = Studio("studio-1"), Studio("studio-2")
    async with at_work(world, tmp_path, *studios) as runtimes:
        for runtime in runtimes:
            await gone(world, runtime)
        await world.run("UPDATE agent_registry SET status = 'draining' WHERE name = 'studio-2'")
        began = monotonic()
        request_id = await world.engine.submit("tidy up", requester="ann")
        await reached(world, request_id, "refused")
        assert monotonic() - began < 1.0
        assert world.model.asked == 0, "no model was asked for what cannot be done"
    row = await world.queries.request(request_id)
    assert row["status_reason"] == "0/2 agents are there: 1 draining, 1 offline"
    (refused,) = (e for e in await world.queries.events(request_id) if e.kind == "request.refused")
    assert "--otherwise wait" in refused.data["hint"]


async def test_what_may_wait_goes_on_by_itself_when_an_agent_comes_back(world: World, tmp_path: Path) -> None:
    world.engine.settings.no_agent_timeout = 0.001
    async with at_work(world, tmp_path, Studio()) as (runtime,):
        await gone(world, runtime)
        request_id = await start(world, "tidy", "tidy_up", otherwise=["wait"])
        waits = "0/1 agents can run tidy_up: 1 offline"
        await until(lambda: world.run("SELECT 1 FROM tasks WHERE status = 'ready' AND status_reason = $1", waits))
        back = Studio()
        second_life = await revived(world, tmp_path, back, UUID(runtime.agent_id))
        await reached(world, request_id, "completed")
        await second_life.stop()
    assert back.done == ["tidy_up"]


async def test_a_variant_is_taken_where_that_is_allowed(world: World) -> None:
    needs = Resources(gpu_vram_mb=6_000)
    on_cpu = Variant(name="cpu", resources=Resources(cpu_cores=4), parameters={"device": "cpu"})
    spec = make_spec("train_model", resources=needs, variants=(on_cpu,), parameters={"device": {"default": "gpu"}})
    await world.agent("infra-1", spec)
    refused = await world.planned("train_model", words="train")
    row = await world.queries.request(refused)
    assert row["status"] == "refused"
    assert "needs 6,000 MiB of GPU memory, has 0" in row["status_reason"]
    (event,) = (e for e in await world.queries.events(refused) if e.kind == "request.refused")
    assert event.data["hint"] == "It can be done as cpu: say so with `--otherwise variant`."
    request_id = await world.planned("train_model", words="train it", otherwise=["variant"])
    plan = (await world.queries.plan(request_id) or {})["plan"]
    assert plan["tasks"][0]["parameters"] == {"device": "cpu"}
    assert plan["tasks"][0]["resource_requirements"]["gpu_vram_mb"] == 0
    assert any("is done as cpu" in note for note in plan["notes"])


async def test_nothing_starts_before_the_time_given(world: World) -> None:
    agent = await world.agent("infra-1", make_spec("tidy_up", retry_safe=True))
    later = datetime.now(UTC) + timedelta(hours=2)
    request_id = await world.approved("tidy_up", not_before=later)
    assert await world.engine.dispatch() == 0
    (task,) = await world.queries.tasks(request_id)
    assert (task["status"], task["due_at"]) == ("ready", later)
    await world.run("UPDATE requests SET not_before = now()")
    await world.due_now()
    await world.engine.dispatch()
    assert await agent.work_off() == 1
    assert await world.status(request_id) == "completed"


async def test_one_step_without_an_agent_refuses_the_request_unless_it_may_wait(world: World) -> None:
    there, away = make_spec("tidy_up", retry_safe=True), make_spec("render_film", retry_safe=True)
    await world.agent("infra-1", there)
    studio = await world.agent("studio-1", away)
    await world.run("UPDATE agent_registry SET status = 'offline' WHERE agent_id = $1", studio.agent_id)
    refused = await world.planned("tidy_up", "render_film", words="tidy and render")
    row = await world.queries.request(refused)
    assert row["status"] == "refused"
    assert "1 offline, 1 does not offer it; can be done: step 1" in row["status_reason"]
    agreed = await world.planned("tidy_up", "render_film", words="tidy and render, then", otherwise=["wait"])
    assert await world.status(agreed) == "awaiting_approval"


async def test_a_step_with_a_time_to_start_looks_for_an_agent_from_then_on(world: World) -> None:
    agent = await world.agent("infra-1", make_spec("tidy_up", retry_safe=True))
    later = datetime.now(UTC) + timedelta(hours=2)
    request_id = await world.approved("tidy_up", not_before=later)
    await world.run("UPDATE agent_registry SET status = 'offline' WHERE agent_id = $1", agent.agent_id)
    await world.run("UPDATE tasks SET ready_since = now() - interval '2 hours'")
    await world.run("UPDATE requests SET not_before = now()")
    await world.due_now()
    await world.engine.dispatch()
    (task,) = await world.queries.tasks(request_id)
    assert task["status"] == "ready", "it has looked for a moment, not for two hours"
    await world.run("UPDATE requests SET not_before = now() - interval '1 hour'")
    await world.due_now()
    await world.engine.dispatch()
    (task,) = await world.queries.tasks(request_id)
    assert task["status"] == "failed"


async def test_side_by_side_a_failure_stops_what_depends_on_it_and_retry_goes_on_from_there(
    world: World, tmp_path: Path
) -> None:
    world.engine.settings.mode = "parallel"
    studio = Studio()
    studio.failing = {"render_film"}
    async with at_work(world, tmp_path, studio):
        intents = ("train_model", "tidy_up", "render_film", "write_notes")
        request_id = await start(world, "all", *intents, after={3: [2], 4: [3]})
        await until(lambda: both_begun(studio))
        studio.gpu_free.set()
        await reached(world, request_id, "failed")
        assert sorted(studio.done) == ["tidy_up", "train_model"]
        tasks = {task["intent"]: task for task in await world.queries.tasks(request_id)}
        assert tasks["write_notes"]["status"] == "skipped"
        assert tasks["write_notes"]["status_reason"] == f"task {tasks['render_film']['task_order']} failed"
        studio.failing = set()
        assert await world.control.retry(request_id, "ann") == "running"
        await reached(world, request_id, "completed")
    assert sorted(studio.begun) == ["render_film", "render_film", "tidy_up", "train_model", "write_notes"]
    assert studio.done[-2:] == ["render_film", "write_notes"]


async def both_begun(studio: Studio) -> bool:
    """Whether the long step runs, and the short one beside it has been done."""
    return {"train_model"} <= set(studio.begun) and "tidy_up" in studio.done
