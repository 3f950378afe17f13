"""Runs one work function as an agent runs it: checks, directory, programs under their keeper, deadline, result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from pydantic import JsonValue, TypeAdapter

from chargehand.agent import Agent
from chargehand.agent.runtime.attempt import Attempt, Surroundings
from chargehand.agent.runtime.control_messages import StartGrant
from chargehand.agent.runtime.journal import Journal
from chargehand.agent.runtime.progress import Feed, Said
from chargehand.agent.runtime.reports import Reports, Trace
from chargehand.agent.secrets.lookup import VARIABLE, Environment, Secrets
from chargehand.catalog import outputs
from chargehand.domain.envelopes import MessageType
from chargehand.domain.messages import Acceptance, Failure, WorkOrder, WorkResult
from chargehand.domain.ports import EVENTS_QUEUE
from chargehand.domain.value import Value
from chargehand.testing.orders import make_order

SLACK = 60.0
"""Seconds by which the lease outlasts the deadline: nothing renews it here, and the deadline is what is tested."""
DATA: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True)
class Ran:
    """How work ended.

    `result` is what the orchestrator would get. `progress` is all the work said, nothing merged. `error` is what it
    raised, with the traceback. `workdir` still exists when a `folder` was given. `unfit_outputs` is how its outputs
    differ from what the intent declares, None when they do not.
    """

    result: WorkResult
    progress: tuple[Said, ...]
    error: BaseException | None
    workdir: Path
    unfit_outputs: str | None = None

    @property
    def ok(self) -> bool:
        return self.result.ok

    @property
    def summary(self) -> str:
        return self.result.summary

    @property
    def changed(self) -> bool | None:
        return self.result.changed

    @property
    def outputs(self) -> dict[str, JsonValue]:
        return self.result.outputs

    @property
    def failure(self) -> Failure | None:
        return self.result.failure

    @property
    def messages(self) -> tuple[str, ...]:
        """The words of `progress`."""
        return tuple(said.message for said in self.progress)


class Running:
    """Work that has been started; made by `started`."""

    def __init__(self, agent: Agent, order: WorkOrder, journal: Journal, folder: Path, secrets: Secrets) -> None:
        self.order, self.workdir, self._offers = order, folder / str(order.attempt_id), agent
        self.progress: list[Said] = []
        self._news = asyncio.Event()
        self._result: asyncio.Future[WorkResult] = asyncio.get_running_loop().create_future()
        slots = asyncio.Semaphore(agent.slots)
        around = Surroundings(agent, journal, _Granting(self.grant), uuid4().hex, folder, slots, self._feed, secrets)
        self._attempt = Attempt(order, Trace(uuid4()), around, self._done)
        self._attempt.begin()

    def cancel(self, reason: str = "cancelled by the test") -> None:
        """Tell the work to end, as the orchestrator would: its programs, then the function."""
        self._attempt.end("cancel", reason)

    def grant(self) -> None:
        """Give leave to start to work that is not safe to repeat."""
        ids = {"attempt_id": self.order.attempt_id, "lease_token": self.order.lease_token}
        self._attempt.grant(StartGrant(**ids, lease_seconds=self.order.lease_seconds))

    async def said(self, message: str, *, timeout: float = 10.0) -> Said:
        """Wait until the work says this. Raises TimeoutError after `timeout` seconds, or when the work ends without."""
        async with asyncio.timeout(timeout):
            while True:
                for said in self.progress:
                    if said.message == message:
                        return said
                if self._result.done():
                    raise TimeoutError(f"the work ended without saying {message!r}: {self._result.result().summary}")
                await self._news.wait()

    async def ended(self) -> Ran:
        """Wait until the work is over."""
        result = await asyncio.shield(self._result)
        offer = self._offers.find(self.order.intent)
        unfit = outputs.unfit(offer.spec, result.outputs) if offer and result.ok else None
        return Ran(result, tuple(self.progress), self._attempt.error, self.workdir, unfit)

    async def close(self) -> None:
        """End it, if need be."""
        self._attempt.end("stop")
        await asyncio.wait({self._result})

    def _feed(self, _: Callable[[Said], Awaitable[object]]) -> Feed:
        return _Listening(self._heard)

    def _heard(self, said: Said) -> None:
        self.progress.append(said)
        self._tell()

    async def _done(self, _: Attempt, result: WorkResult) -> None:
        self._result.set_result(result)
        self._tell()

    def _tell(self) -> None:
        told, self._news = self._news, asyncio.Event()
        told.set()


@asynccontextmanager
async def started(
    agent: Agent,
    intent: str,
    parameters: Mapping[str, JsonValue] | None = None,
    *,
    dry_run: bool = False,
    timeout: float = 10.0,
    folder: Path | None = None,
    secrets: Mapping[str, str] | None = None,
) -> AsyncIterator[Running]:
    """Start work; leaving the block ends it. The arguments are those of `run`."""
    fields = {"dry_run": dry_run, "deadline_seconds": timeout, "lease_seconds": timeout + SLACK}
    order = make_order(agent, intent, parameters, **fields)
    with TemporaryDirectory(prefix="chargehand-testing-") as temporary:
        journal = await asyncio.to_thread(Journal.open, Path(temporary) / "journal")
        known = Secrets(Environment({VARIABLE + name.upper(): value for name, value in (secrets or {}).items()}))
        running = Running(agent, order, journal, folder or Path(temporary) / "work", known)
        try:
            yield running
        finally:
            await running.close()
            await journal.close()


async def run(
    agent: Agent,
    intent: str,
    parameters: Mapping[str, JsonValue] | None = None,
    *,
    dry_run: bool = False,
    timeout: float = 10.0,
    folder: Path | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Ran:
    """Run what the agent offers as `intent` to its end, and return how that was.

    What goes wrong in the work is in the outcome, not raised; `timeout` (seconds) is its deadline. Its directory is
    made below `folder`, or in a temporary one that is gone afterwards. `secrets` has the values of those that
    parameters refer to. Raises `UnknownId` when there is no such offer.
    """
    async with started(
        agent, intent, parameters, dry_run=dry_run, timeout=timeout, folder=folder, secrets=secrets
    ) as running:
        return await running.ended()


class _Listening(Feed):
    """Keeps every word at once, where a real one merges what is said too fast. Data that cannot be sent is refused."""

    def __init__(self, heard: Callable[[Said], None]) -> None:
        super().__init__(_nowhere)
        self._heard = heard

    def say(self, said: Said) -> None:
        if not said.started and not self._closing.is_set():
            self._heard(Said(said.message, DATA.validate_python(said.data)))


class _Granting(Reports):
    """Gives leave to start whenever it is asked for; there is nobody else to report to."""

    def __init__(self, grant: Callable[[], None]) -> None:
        self._grant = grant

    async def send(
        self, kind: MessageType, payload: Value, trace: Trace | None = None, *, queue: str = EVENTS_QUEUE
    ) -> bool:
        if isinstance(payload, Acceptance) and payload.needs_grant:
            self._grant()
        return True


async def _nowhere(_: Said) -> None:
    raise AssertionError("a listening feed sends nothing")
