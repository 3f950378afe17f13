"""What a work function gets: its order, a private directory, progress, cancellation, programs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import JsonValue

from chargehand import folders
from chargehand.agent.processes.meter import Meter, Usage
from chargehand.agent.processes.orphans import lock_path, mark_of
from chargehand.agent.runtime.progress import Feed, Said
from chargehand.agent.secrets.lookup import Chain, Secrets
from chargehand.domain.errors import TaskInterrupted
from chargehand.domain.messages import WorkOrder

if TYPE_CHECKING:
    from chargehand.agent.processes.programs import Finished, OnLine, Program
    from chargehand.agent.runtime.lease import Lease
    from chargehand.agent.secrets.redactor import Redactor


class Work:
    """One attempt, as its function sees it.

    When the work must end (cancelled, too late, lease lost), `cancelled` is set, every program started with `run` is
    ended with all its descendants, and the function gets `asyncio.CancelledError` where it waits. The event is for
    code in threads, which nothing can interrupt.
    """

    def __init__(
        self, order: WorkOrder, folder: Path, feed: Feed, lease: Lease, secrets: Secrets | None = None
    ) -> None:
        self.order = order
        self.parameters = order.parameters
        """As the work gets them: with the values of secrets. `order` has only references."""
        self.cancelled = asyncio.Event()
        self._folder, self._feed, self._lease = folder, feed, lease
        self._secrets = secrets or Secrets(Chain())
        self._programs: set[Program] = set()
        self._usage: tuple[Meter, Usage] | None = None
        self._runs = 0
        self.all_ended = True  # False: a program could not be ended, so nobody knows what it still does

    @property
    def attempt_id(self) -> UUID:
        return self.order.attempt_id

    @property
    def task_id(self) -> UUID:
        return self.order.task_id

    @property
    def intent(self) -> str:
        return self.order.intent

    @property
    def work_type(self) -> str:
        return self.order.work_type

    @property
    def dry_run(self) -> bool:
        return self.order.dry_run

    @property
    def workdir(self) -> Path:
        """A directory only the agent's user can read, made when first used, removed when the result is recorded."""
        folders.make(self._folder)
        return self._folder

    async def progress(self, message: str, **data: JsonValue) -> None:
        """Say how it goes. Never waits; what is said more than 20 times a second is merged. Secrets are hidden."""
        self._feed.say(Said(self.redactor.line(message), self.redactor.mapping(data)))

    async def secret(self, name: str) -> str:
        """Look up a secret of this agent, whether or not a parameter refers to it.

        Its value is hidden from then on in everything that leaves the agent. Raises `TaskFailed` saying where it was
        looked for.
        """
        return await self._secrets.value(name)

    @property
    def redactor(self) -> Redactor:
        """What hides the values of secrets. Whatever leaves the agent passes it; call it before you cut a text."""
        return self._secrets.redactor

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        on_line: OnLine | None = None,
    ) -> Finished:
        """Run a program to its end; `on_line` gets each line of its output (standard error included), secrets hidden.

        `env` is the whole environment; without it the program gets the agent's own, less Chargehand's settings. `cwd`
        is `workdir` unless given. Daemons that a program detaches on purpose outlive it when it ends by itself;
        otherwise every descendant is ended with it. Raises `BadConfiguration` when there is no such program,
        `OutcomeUnknown` when it was torn down from outside.
        """
        from chargehand.agent.processes.programs import Program  # an agent that runs no programs need not load it

        if self.cancelled.is_set():
            raise TaskInterrupted("the work was ended, so no further program is started")
        self._runs += 1
        program = Program(
            argv,
            env=env,
            cwd=cwd or self.workdir,
            lock=lock_path(self.workdir, self._runs),
            mark=mark_of(self._folder, self._runs),
            grace=self._lease.grace,
        )
        self._programs.add(program)
        if self._usage is not None:
            meter, usage = self._usage
            meter.watch(program.pid, usage)
        self._renew(program)
        try:
            finished = await program.finish(on_line and self._hiding(on_line))
            return replace(finished, tail=self.redactor.text(finished.tail))
        finally:
            if self._usage is not None:
                await self._usage[0].leave(program.pid)
            self.all_ended &= await program.close()
            self._programs.discard(program)

    def _hiding(self, on_line: OnLine) -> OnLine:
        return lambda line: on_line(self.redactor.line(line))

    def measure(self, meter: Meter) -> None:
        """Begin to measure what the work uses."""
        self._usage = meter, meter.begin()

    def measured(self) -> dict[str, float]:
        """Return what it has used since `measure`; nothing when that was never called. It is asked once."""
        if self._usage is None:
            return {}
        (meter, usage), self._usage = self._usage, None
        return meter.end(usage)

    def renew_programs(self) -> None:
        """Tell the keepers that the lease was renewed."""
        for program in self._programs:
            self._renew(program)

    def end_programs(self) -> None:
        """End every program, whatever the function does about its cancellation."""
        self.cancelled.set()
        for program in self._programs:
            program.end(self._lease.grace)

    def _renew(self, program: Program) -> None:
        program.renew(self._lease.keeper_acts_at - asyncio.get_running_loop().time())
