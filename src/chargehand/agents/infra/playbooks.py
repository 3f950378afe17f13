"""Runs a playbook with `ansible-playbook`, in a copy of its project, and reports what happens while it happens.

Ansible is a program beside our Python, never imported. Its output is only kept for when it fails in its own words;
what happened comes as JSON lines through a FIFO from our callback (`ansible_plugins/`).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from chargehand.agent import Outcome, TaskFailed, Work
from chargehand.agents.infra.ansible_paths import config_of, pinned
from chargehand.agents.infra.copied import copied
from chargehand.agents.infra.discovery import Found
from chargehand.agents.infra.environment import child_environment
from chargehand.agents.infra.events import PlaybookRun, TaskEnd, conclude
from chargehand.agents.infra.inventories import Inventories
from chargehand.agents.infra.options import InfraOptions
from chargehand.agents.infra.snapshots import Copy, Snapshots, Subject
from chargehand.agents.infra.variables import variables_file
from chargehand.agents.infra.workdir import private_file

PLUGINS = Path(__file__).parent / "ansible_plugins"
HOSTS = "CHARGEHAND_HOSTS"  # tells our callback which hosts were approved
MAX_LINE = 2_000_000  # bytes of one event; the callback keeps them far smaller
LONG_TASK = 3.0  # seconds after which a running task is worth a line of its own; most take one
LAST_EVENTS = 5.0  # seconds to wait for events after Ansible has ended; something it left may hold the FIFO open


def ansible_program() -> Path:
    """Return where `ansible-playbook` must be: beside the Python that runs us."""
    return Path(sys.executable).parent / "ansible-playbook"


def ansible_missing() -> str | None:
    """Return why playbooks cannot run on this machine, or None."""
    program = ansible_program()
    return None if program.exists() else f"needs Ansible, and there is no {program} (install chargehand[ansible])"


@dataclass(frozen=True)
class Runner:
    """What all playbooks of one agent share."""

    snapshots: Snapshots
    inventories: Inventories
    options: InfraOptions


async def run_playbook(work: Work, found: Found, runner: Runner) -> Outcome:
    """Run one playbook for one attempt, on the hosts of its order and no others.

    Raises `ContentChanged`, `TaskFailed`, `TaskInterrupted`, `DiskFull`.
    """
    subject, options, missing = found.subject, runner.options, ansible_missing()
    if missing:
        raise TaskFailed(f"{subject.name} {missing}")
    fifo = work.workdir / "events"
    run = PlaybookRun(hide=work.redactor.text)
    hosts = await asyncio.to_thread(runner.inventories.approved, work.order, found.spec)
    async with copied(work, subject, runner.snapshots) as copy:
        with ExitStack() as files:
            limit = files.enter_context(private_file(work.workdir / "hosts.json", json.dumps(sorted(hosts))))
            text = variables_file(work.parameters)
            variables = files.enter_context(private_file(work.workdir / "variables.yml", text))
            passwords = await _passwords(work, options, files)
            async with _Events(fifo, run, work):
                finished = await work.run(
                    [*_launch(subject, limit, copy, work.workdir), *_command(copy, variables, dry_run=work.dry_run)],
                    env={**_environment(options, copy, work.workdir, fifo), **passwords, HOSTS: str(limit)},
                    cwd=copy.file.parent,
                )
    return conclude(run, finished.exit_code, finished.tail, dry_run=work.dry_run)


async def _passwords(work: Work, options: InfraOptions, files: ExitStack) -> dict[str, str]:
    """Return the variables that tell Ansible where its passwords are; the files last as long as `files`."""
    wanted = {
        "ANSIBLE_BECOME_PASSWORD_FILE": options.become_secret,
        "ANSIBLE_VAULT_PASSWORD_FILE": options.vault_secret,
    }
    told = {}
    for variable, name in wanted.items():
        if name is not None:
            password = private_file(work.workdir / variable.lower(), await work.secret(name))
            told[variable] = str(files.enter_context(password))
    return told


def _launch(subject: Subject, limit: Path, copy: Copy, workdir: Path) -> list[str]:
    """Return what goes before `ansible-playbook`: it must not open the files that the copy was made from, nor work on
    other hosts than those that `limit` lists."""
    shared = [os.path.realpath(subject.root / name) for name in subject.shared]
    kept_out = sorted({str(subject.root), os.path.realpath(subject.root)})
    code = [str(copy.folder), str(workdir), str(PLUGINS)]
    state = [*shared, *(str(copy.project / name) for name in subject.beside)]
    places = {"kept_out": kept_out, "let_in": shared, "code": code, "state": state}
    told = json.dumps({"hosts": str(limit), "watch": places})
    return [sys.executable, "-P", "-B", str(PLUGINS / "launch.py"), told]


def _command(copy: Copy, variables: Path, *, dry_run: bool) -> list[str]:
    given = [word for path in copy.inventory for word in ("-i", str(path))]
    inventory = given or ["-i", "localhost,", "-c", "local"]
    extra = ["-e", f"@{copy.vars_file}"] if copy.vars_file else []
    local = [] if copy.inventory else ["-e", f"@{PLUGINS / 'local.yml'}"]
    check = ["--check", "--diff"] if dry_run else []
    return [str(ansible_program()), *inventory, *extra, *local, "-e", f"@{variables}", *check, str(copy.file)]


def _environment(options: InfraOptions, copy: Copy, workdir: Path, fifo: Path) -> Mapping[str, str]:
    """Return the whole environment. Later entries win: what we rely on cannot be configured away."""
    temporary = str(workdir / "ansible")
    settings = {
        "ANSIBLE_HOME": str(options.home / "ansible"),
        "ANSIBLE_LOCAL_TEMP": temporary,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_STDOUT_CALLBACK": "minimal",
        "ANSIBLE_NO_TARGET_SYSLOG": "1",  # modules would write their arguments, secrets among them, to the system's log
    }
    if not copy.inventory:
        settings["ANSIBLE_REMOTE_TEMP"] = temporary  # the "remote" machine is this one
        settings["ANSIBLE_PIPELINING"] = "1"  # no copying of modules from this machine to itself
    callback = {
        "ANSIBLE_CALLBACK_PLUGINS": str(PLUGINS / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "chargehand_events",
        "CHARGEHAND_EVENTS": str(fifo),
    }
    pins = pinned(config_of(copy.file, copy.project), copy.project, copy.empty)
    return settings | child_environment(options.extra_env) | pins | callback


class _Events:
    """Reads the FIFO while Ansible runs, and passes every task on as progress."""

    def __init__(self, fifo: Path, run: PlaybookRun, work: Work) -> None:
        self.fifo, self.run, self.work = fifo, run, work

    async def __aenter__(self) -> None:
        self.fifo.unlink(missing_ok=True)  # of an earlier life of the agent
        os.mkfifo(self.fifo, 0o600)
        reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        # Held open so that the end comes when we say so, not when Ansible has not opened the FIFO yet.
        self.writer = os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
        self.stream = asyncio.StreamReader(limit=MAX_LINE)
        self.transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.stream), os.fdopen(reader, "rb", buffering=0)
        )
        self.following = asyncio.create_task(self._follow())

    async def __aexit__(self, *_: object) -> None:
        os.close(self.writer)
        done, _pending = await asyncio.wait({self.following}, timeout=LAST_EVENTS)
        self.following.cancel()
        self.transport.close()
        for task in done:
            task.result()

    async def _follow(self) -> None:
        while line := await self._line():
            end = self.run.take(line)
            if end is not None:
                await self._tell(end)

    async def _line(self) -> bytes:
        """Return the next event; meanwhile say which task is taking long."""
        try:
            async with asyncio.timeout(LONG_TASK if self.run.started else None):
                return await self._whole_line()
        except TimeoutError:
            task, self.run.started = self.run.started, None
        await self.work.progress(f"{task} ...", task=task, status="running")
        return await self._whole_line()

    async def _whole_line(self) -> bytes:
        try:
            return await self.stream.readline()
        except ValueError:  # over MAX_LINE: dropped, like any garbage
            return b"\n"

    async def _tell(self, end: TaskEnd) -> None:
        line = end.line(dry_run=self.work.dry_run)
        await self.work.progress(line, task=end.task, host=end.host, status=end.status, seconds=end.seconds)
