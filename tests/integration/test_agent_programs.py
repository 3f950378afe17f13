"""Programs run under a keeper, and nothing of them outlives the work: cancel, lease, deadline, kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from glob import glob
from itertools import count
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from chargehand.agent import Agent, Outcome, Work
from chargehand.agent.processes.orphans import MARK
from chargehand.agent.processes.programs import TAIL
from chargehand.agent.runtime.control_messages import StartGrant
from chargehand.broker.weather import Fate
from chargehand.domain.envelopes import MessageType
from chargehand.domain.messages import WorkResult
from chargehand.domain.ports import HEARTBEATS_QUEUE
from tests.integration.agent_process import tree_agent
from tests.integration.counterpart import Counterpart, counterpart, make_order, processes_with, running, sleepers, until
from tests.unit.test_agent_journal import disk_full_after

TREE_SIZE = 5  # the sleeps of TREE; its shells carry the mark as well
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def desk() -> AsyncIterator[Counterpart]:
    async with counterpart() as made:
        yield made


@pytest.fixture
def mark() -> Iterator[str]:
    """A number of seconds to sleep that no other process on this machine sleeps. Ends what a failed test leaves."""
    text = f"{600 + Random(os.urandom(8)).random():.9f}"
    yield text
    for pid in processes_with(text):
        os.kill(pid, signal.SIGKILL)


def agent_running(*argv: str, **options: object) -> Agent:
    agent = Agent("runner")

    @agent.work("do_it", version="1")
    async def do_it(work: Work) -> dict[str, object]:
        lines: list[str] = []

        async def keep(line: str) -> None:
            lines.append(line)

        finished = await work.run(argv, on_line=keep, **options)  # type: ignore[arg-type]
        return {"code": finished.exit_code, "tail": finished.tail, "lines": list(lines), "workdir": str(work.workdir)}

    return agent


async def measured(desk: Counterpart, agent: Agent, home: Path) -> WorkResult:
    async with running(agent, desk, home):
        return await desk.result(await desk.order(make_order()))


async def run(desk: Counterpart, home: Path, *argv: str, **options: object) -> WorkResult:
    return await measured(desk, agent_running(*argv, **options), home)


async def grown_tree(desk: Counterpart, mark: str, **fields: object) -> tuple[object, set[int]]:
    order = await desk.order(make_order(**fields))
    await desk.said("ready")
    await until(lambda: len(sleepers(mark)) >= TREE_SIZE)
    return order, processes_with(mark)


async def test_output_and_exit_code_come_back(desk: Counterpart, tmp_path: Path) -> None:
    result = await run(desk, tmp_path, "sh", "-c", "echo one; echo two >&2; printf three; exit 3")
    assert result.outputs["code"] == 3
    assert result.outputs["lines"] == ["one", "two", "three"]
    assert result.outputs["tail"] == "one\ntwo\nthree"


async def test_a_program_runs_in_its_private_directory_with_the_environment_it_was_given(
    desk: Counterpart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEHAND_DATABASE_URL", "postgresql://user:hunter2@nowhere/db")
    shown = "echo $PWD; env; stat -c %a .; cat"  # `cat` ends at once: standard input is empty
    given = await run(desk, tmp_path / "a", "sh", "-c", shown, env={"PATH": os.environ["PATH"], "COLOUR": "blue"})
    lines = [str(line) for line in given.outputs["lines"]]  # type: ignore[union-attr]
    assert lines[0] == given.outputs["workdir"]
    assert lines[-1] == "700"
    names = {line.partition("=")[0] for line in lines[1:-1]}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "COLOUR", MARK}
    inherited = await run(desk, tmp_path / "b", "env")
    assert "PATH=" in str(inherited.outputs["tail"])
    assert "hunter2" not in str(inherited.outputs["tail"])


async def test_only_the_end_of_much_output_is_kept(desk: Counterpart, tmp_path: Path) -> None:
    result = await run(desk, tmp_path, "sh", "-c", "seq 1 50000")
    assert len(result.outputs["lines"]) == 50_000  # type: ignore[arg-type]
    assert len(str(result.outputs["tail"])) == TAIL
    assert str(result.outputs["tail"]).endswith("50000\n")


async def test_a_missing_program_is_the_agents_fault(desk: Counterpart, tmp_path: Path) -> None:
    result = await run(desk, tmp_path, "no-such-program-anywhere")
    assert result.failure is not None
    assert result.failure.kind == "infrastructure"
    assert "no-such-program-anywhere" in result.summary


async def test_a_killed_program_reports_its_signal_as_a_shell_does(desk: Counterpart, tmp_path: Path) -> None:
    assert (await run(desk, tmp_path, "sh", "-c", "kill -9 $$")).outputs["code"] == 137


async def test_a_daemon_that_was_detached_on_purpose_is_left_alone(
    desk: Counterpart, tmp_path: Path, mark: str
) -> None:
    # It even keeps standard output open, so the end of the output does not mark the end of the program.
    result = await run(desk, tmp_path, "sh", "-c", f"setsid sleep {mark} & echo detached")
    assert result.outputs["lines"] == ["detached"]
    assert len(sleepers(mark)) == 1
    assert not glob(f"{tmp_path}/**/keeper.*.lock", recursive=True)


async def test_cancelling_ends_every_descendant(desk: Counterpart, tmp_path: Path, mark: str) -> None:
    async with running(tree_agent(mark), desk, tmp_path):
        order, tree = await grown_tree(desk, mark)
        assert len(tree) > TREE_SIZE
        await desk.cancel(order, "not needed any more")  # type: ignore[arg-type]
        result = await desk.result(order)  # type: ignore[arg-type]
        assert processes_with(mark) == set()
    assert result.failure is not None
    assert result.failure.kind == "cancelled"
    assert "not needed any more" in result.summary


async def test_programs_that_ignore_being_asked_are_killed(desk: Counterpart, tmp_path: Path, mark: str) -> None:
    stubborn = f"trap '' TERM; echo ready; while true; do sleep {mark}; done"
    agent = Agent("stubborn")

    @agent.work("do_it", version="1")
    async def do_it(work: Work) -> None:
        await work.run(["sh", "-c", stubborn], on_line=work.progress)

    async with running(agent, desk, tmp_path):
        order = await desk.order(make_order(lease_seconds=3.0))  # a short lease has a short grace
        await desk.said("ready")
        await desk.cancel(order)
        assert (await desk.result(order)).failure is not None
        assert processes_with(mark) == set()


async def test_work_that_takes_too_long_is_ended(desk: Counterpart, tmp_path: Path, mark: str) -> None:
    async with running(tree_agent(mark), desk, tmp_path):
        result = await desk.result(await desk.order(make_order(deadline_seconds=0.3)))
    assert processes_with(mark) == set()
    assert result.failure is not None
    assert (result.failure.kind, result.summary) == ("retryable", "took longer than allowed: 0.3 s")


class Partition:
    """Heartbeats are not confirmed any more once `cut` is set; everything else gets through."""

    cut = False

    def fate(self, queue: str) -> Fate:
        return Fate(copies=0, confirmed=False) if self.cut and queue == HEARTBEATS_QUEUE else Fate()


async def test_an_agent_that_is_not_heard_ends_its_work_before_the_lease_runs_out(tmp_path: Path, mark: str) -> None:
    weather = Partition()
    loop = asyncio.get_running_loop()
    async with counterpart(weather=weather) as desk, running(tree_agent(mark), desk, tmp_path):
        order, _ = await grown_tree(desk, mark, lease_seconds=3.0)
        await asyncio.sleep(2.5)  # well past the margin: heartbeats have renewed the lease
        assert processes_with(mark)
        weather.cut, cut_at = True, loop.time()
        await until(lambda: not processes_with(mark))
        assert 1.5 < loop.time() - cut_at < 3.0
        result = await desk.result(order)  # type: ignore[arg-type]
    assert result.failure is not None
    assert (result.failure.kind, result.failure.details["ended_by"]) == ("unknown", "lease")


async def test_the_keeper_ends_the_work_when_the_agent_hangs(desk: Counterpart, tmp_path: Path, mark: str) -> None:
    process = await start_agent(tmp_path, mark, "safe", lease="4")
    os.kill(process.pid, signal.SIGSTOP)
    await until(lambda: not sleepers(mark))
    process.kill()
    await process.wait()


async def test_killing_the_keeper_ends_the_program_and_its_descendants(
    desk: Counterpart, tmp_path: Path, mark: str
) -> None:
    async with running(tree_agent(mark), desk, tmp_path):
        order, tree = await grown_tree(desk, mark)
        keepers = tree & processes_with("keeper.py")
        assert len(keepers) == 1
        os.kill(keepers.pop(), signal.SIGKILL)
        result = await desk.result(order)  # type: ignore[arg-type]
        await until(lambda: not processes_with(mark))
    assert result.failure is not None
    assert result.failure.kind == "unknown"


async def start_agent(home: Path, mark: str, safety: str = "unsafe", lease: str = "30") -> asyncio.subprocess.Process:
    """Start an agent in a process of its own and return when its tree has grown."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.agent_process",
        str(home),
        mark,
        safety,
        lease,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/src"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 20)
    await until(lambda: len(sleepers(mark)) >= TREE_SIZE)
    return process


@pytest.mark.parametrize("safety", ["unsafe", "safe"])
async def test_kill_9_of_an_agent_ends_the_tree_and_the_next_life_says_unknown(
    desk: Counterpart, tmp_path: Path, mark: str, safety: str
) -> None:
    process = await start_agent(tmp_path, mark, safety)
    [keeper] = processes_with(mark) & processes_with("keeper.py")
    os.kill(keeper, signal.SIGSTOP)  # a busy machine: it does not get round to its work at once
    process.kill()
    await process.wait()
    async with running(tree_agent(mark), desk, tmp_path):
        await desk.beats(3)
        assert desk.count(MessageType.WORK_RESULT) == 0  # nothing is said while something may be running
        os.kill(keeper, signal.SIGCONT)
        report = await desk.expect(MessageType.WORK_RESULT)
        assert processes_with(mark) == set()
        result = WorkResult.model_validate(report.payload)
        assert result.failure is not None
        assert (result.failure.kind, result.lease_token) == ("unknown", 7)
        await desk.order(make_order(attempt_id=result.attempt_id, retry_safe=safety == "safe"))
        await desk.beats(3)
    assert processes_with(mark) == set()  # it did not run again
    assert desk.count(MessageType.WORK_PROGRESS) == 0


async def test_kill_9_of_agent_and_keeper_leaves_nothing_to_the_next_life(
    desk: Counterpart, tmp_path: Path, mark: str
) -> None:
    process = await start_agent(tmp_path, mark)
    keepers = processes_with(mark) & processes_with("keeper.py")
    [keeper] = keepers
    os.kill(keeper, signal.SIGSTOP)  # so that it cannot do its work between the two kills
    for pid in (process.pid, keeper):
        os.kill(pid, signal.SIGKILL)
    await process.wait()
    await until(lambda: not processes_with("keeper.py") & keepers)
    assert processes_with(mark)
    async with running(tree_agent(mark), desk, tmp_path):
        await desk.expect(MessageType.WORK_RESULT)
        assert processes_with(mark) == set()


async def test_an_accepted_order_survives_the_agent(tmp_path: Path, mark: str) -> None:
    """Accepted and waiting for its grant when the agent dies: the next life asks again, and only then runs it."""
    agent, attempts = Agent("quick"), count()

    @agent.work("do_it", version="1")
    async def do_it(work: Work) -> dict[str, object]:
        return {"run": next(attempts)}

    async with counterpart(grants=False) as first:
        runtime_home = tmp_path / "home"
        async with running(agent, first, runtime_home) as one:
            order = await first.order(make_order(retry_safe=False))
            await first.accepted(order, needs_grant=True)
            kept = (runtime_home / "journal" / "journal.jsonl").read_bytes()
    (runtime_home / "journal" / "journal.jsonl").write_bytes(kept)  # as if `stop` had never run
    async with counterpart(grants=False) as second, running(agent, second, runtime_home) as two:
        await second.accepted(order, needs_grant=True, incarnation=two.incarnation)
        stale = StartGrant(attempt_id=order.attempt_id, lease_token=7, lease_seconds=30, incarnation=one.incarnation)
        await second.control(MessageType.START, stale)
        await second.beats(2)
        assert second.count(MessageType.WORK_RESULT) == 0
        await second.grant(order)
        assert (await second.result(order)).outputs == {"run": 0}


async def test_a_full_disk_refuses_the_order_and_takes_it_later(desk: Counterpart, tmp_path: Path) -> None:
    async with running(agent_running("true"), desk, tmp_path):
        order = make_order(name="x" * 200_000)
        with disk_full_after(100_000):
            await desk.order(order)
            await desk.beats(3)
            assert desk.count(MessageType.WORK_ACCEPTED) == 0
        assert (await desk.result(order)).ok  # the broker kept it


async def test_a_cancel_that_overtakes_its_order_is_obeyed(desk: Counterpart, tmp_path: Path) -> None:
    async with running(agent_running("true"), desk, tmp_path):
        order = make_order()
        await desk.cancel(order)
        await desk.beats(1)
        await desk.order(order)
        result = await desk.result(order)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.details["started"]) == ("cancelled", False)


async def test_the_directory_of_a_recorded_attempt_is_removed(desk: Counterpart, tmp_path: Path) -> None:
    async with running(agent_running("touch", "left-behind"), desk, tmp_path):
        result = await desk.result(await desk.order(make_order()))
        await until(lambda: not Path(str(result.outputs["workdir"])).exists())
    assert UUID(Path(str(result.outputs["workdir"])).name) == result.attempt_id


BUSY = "import time; held = bytearray(60 << 20); end = time.process_time() + 0.6\nwhile time.process_time() < end: pass"


async def test_what_a_program_and_all_that_it_starts_use_is_measured(desk: Counterpart, tmp_path: Path) -> None:
    # The shell's child does the work: the program itself uses nothing.
    agent = agent_running("sh", "-c", f"{sys.executable} -c '{BUSY}'; true")
    used = (await measured(desk, agent, tmp_path)).resources_used
    assert 60 <= used["memory_mb"] < 500
    assert 0.6 <= used["cpu_seconds"] < 10
    assert 0 < used["cpu_cores"] < 3


async def test_a_program_too_short_for_a_look_still_shows_its_processor_time(desk: Counterpart, tmp_path: Path) -> None:
    code = "import time; end = time.process_time() + 0.05\nwhile time.process_time() < end: pass"
    agent = agent_running(sys.executable, "-S", "-c", code)
    used = (await measured(desk, agent, tmp_path)).resources_used
    assert used["cpu_seconds"] >= 0.05


async def test_what_its_author_says_was_used_counts_more_than_the_measurement(
    desk: Counterpart, tmp_path: Path
) -> None:
    agent = Agent("runner")

    @agent.work("do_it", version="1")
    async def do_it(work: Work) -> Outcome:
        return Outcome("done", resources_used={"memory_mb": 7.0})

    used = (await measured(desk, agent, tmp_path)).resources_used
    assert used["memory_mb"] == 7.0
    assert used["cpu_seconds"] >= 0
