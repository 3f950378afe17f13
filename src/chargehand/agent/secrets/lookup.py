"""Where an agent finds its secrets: its environment, files in its home, a command. Values stay on its machine.

They are looked up anew for every attempt, right before the work begins, so a rotated secret is used at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from chargehand.agent.secrets.redactor import SHORTEST, Redactor
from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration, TaskFailed, TaskInterrupted

VARIABLE = "CHARGEHAND_SECRET_"
COMMAND = "CHARGEHAND_SECRETS_COMMAND"
FOLDER = "secrets"  # in the agent's home
LARGEST = 64_000
"""Bytes: a private key has four thousand; more is no secret but a document."""
COMMAND_SECONDS = 15.0
"""How long the command may take: a vault on the network answers in one, but may want to be asked twice."""


class SecretSource(Protocol):
    """Finds values by the names of secrets."""

    async def find(self, name: str) -> str | None:
        """Return the value, None when it is not here. Raises when it is here and must not or cannot be used."""

    def places(self, name: str) -> tuple[str, ...]:
        """Return where `find` looks, for people."""


class Environment:
    """Variables `CHARGEHAND_SECRET_<NAME>` of the agent; programs it runs do not get them."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables

    async def find(self, name: str) -> str | None:
        return self._variables.get(VARIABLE + name.upper())

    def places(self, name: str) -> tuple[str, ...]:
        return (f"the variable {VARIABLE}{name.upper()}",)


class Files:
    """One file per secret in a directory, neither of which anybody else may read. A last line break does not count."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def find(self, name: str) -> str | None:
        return await asyncio.to_thread(self._read, self._folder / name)

    def places(self, name: str) -> tuple[str, ...]:
        return (f"the file {self._folder / name}",)

    def _read(self, path: Path) -> str | None:
        try:
            _check_private(self._folder, self._folder.stat(), 0o700)
            with path.open("rb") as file:
                _check_private(path, os.fstat(file.fileno()), 0o600)
                raw = file.read(LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadConfiguration(f"{path} cannot be read: {error.strerror}", hint="Look at its owner.") from error
        if len(raw) > LARGEST:
            raise BadConfiguration(f"{path} has more than {LARGEST:,} bytes", hint="Put only the secret into it.")
        return re.sub(r"\r?\n\Z", "", raw.decode(errors="surrogateescape"))


class Command:
    """A program that prints a secret's value on its first line, such as `["pass", "show", "{name}"]`.

    There is no shell. An exit code other than 0 means that it does not have the secret; what it says then is not kept.
    """

    def __init__(self, argv: Sequence[str], *, seconds: float = COMMAND_SECONDS) -> None:
        if not any("{name}" in word for word in argv[1:]):
            raise BadConfiguration(
                f"{COMMAND} does not say where the name goes", hint='For example ["pass", "show", "{name}"].'
            )
        self._argv, self._seconds = tuple(argv), seconds

    @classmethod
    def from_text(cls, text: str) -> Command:
        """Read a JSON list, or words quoted as in a shell. Raises `BadConfiguration`."""
        try:
            argv = json.loads(text) if text.lstrip().startswith("[") else shlex.split(text)
        except ValueError as error:
            raise BadConfiguration(f"{COMMAND} cannot be read: {error}", hint="Write a JSON list of texts.") from error
        if not argv or not all(isinstance(word, str) for word in argv):
            raise BadConfiguration(f"{COMMAND} is not a list of texts", hint="Write a JSON list of texts.")
        return cls(argv)

    async def find(self, name: str) -> str | None:
        from chargehand.agent.processes.programs import inherited  # an agent that runs no programs need not load it

        argv = [word.replace("{name}", name) for word in self._argv]
        try:
            program = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=inherited(),
                start_new_session=True,
            )
        except OSError as error:
            raise BadConfiguration(
                f"the program {argv[0]} for secrets cannot be run: {error.strerror}", hint=f"Mend {COMMAND}."
            ) from error
        said = await self._said(program, name)
        return said.decode(errors="surrogateescape").splitlines()[0] if program.returncode == 0 and said else None

    def places(self, name: str) -> tuple[str, ...]:
        return (f"the command {shlex.join(word.replace('{name}', name) for word in self._argv)}",)

    async def _said(self, program: asyncio.subprocess.Process, name: str) -> bytes:
        """Return what it prints. If that takes too long or nobody waits any more, end it and what it has started."""
        try:
            async with asyncio.timeout(self._seconds):
                said, _ = await program.communicate()
            return said
        except TimeoutError:
            raise TaskInterrupted(
                f"the command for the secret {name} did not end within {self._seconds:g} s",
                hint="Does it ask for a passphrase? Nobody is there to type one.",
            ) from None
        finally:
            if program.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
                await program.wait()


class Chain:
    """Several sources; the first that has a secret is believed."""

    def __init__(self, *sources: SecretSource) -> None:
        self._sources = sources

    async def find(self, name: str) -> str | None:
        for source in self._sources:
            if (value := await source.find(name)) is not None:
                return value
        return None

    def places(self, name: str) -> tuple[str, ...]:
        return tuple(place for source in self._sources for place in source.places(name))


class Secrets:
    """An agent's secrets: looks them up, and has the redactor hide each value it has given out."""

    def __init__(self, source: SecretSource, redactor: Redactor | None = None) -> None:
        self._source = source
        self.redactor = redactor or Redactor()

    async def value(self, name: str) -> str:
        """Return a secret's value.

        Raises `TaskFailed` saying where it was looked for, or that it cannot be used; `BadConfiguration` when a file or
        the command is not as it must be; `TaskInterrupted` when the command does not answer.
        """
        if secret_refs.reference_in({"secret": name}) is None:
            raise TaskFailed("this cannot be the name of a secret", hint="Lower case, digits and _, like db_admin.")
        value = await self._source.find(name)
        if value is None:
            places = ", ".join(self._source.places(name)) or "there is no place for secrets"
            raise TaskFailed(
                f"this agent does not have the secret {name}; it looked for {places}",
                hint="Put it into one of these places on the agent's machine (docs/secrets.md).",
            )
        _check_usable(name, value)
        self.redactor.learn(name, value)
        return value

    async def filled_in(self, schema: Mapping[str, Any], parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the parameters with every reference replaced by its value. Raises what `value` does."""
        values = {name: await self.value(name) for name in secret_refs.names(schema, parameters)}
        filled = secret_refs.filled_in(schema, parameters, values.__getitem__)
        assert isinstance(filled, dict)
        return filled


def sources(home: Path) -> Chain:
    """Return where the agent of a home looks: its environment, `secrets/` in the home, the configured command.

    Raises `BadConfiguration` when the command cannot be read.
    """
    command = os.environ.get(COMMAND)
    return Chain(Environment(), Files(home / FOLDER), *([Command.from_text(command)] if command else []))


def _check_private(path: Path, status: os.stat_result, mode: int) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise BadConfiguration(f"{path} is open to others; no secret is taken from it", hint=f"chmod {mode:o} '{path}'")
    if status.st_uid not in (0, os.geteuid()):
        raise BadConfiguration(f"{path} belongs to another user than root and the agent's", hint="Make it its own.")


def _check_usable(name: str, value: str) -> None:
    """Raise `TaskFailed` for a value that could not be hidden in what programs print, or not be given to them."""
    problem = None
    if len(value.strip()) < SHORTEST:
        problem = f"it has fewer than {SHORTEST} characters, and so short a one cannot be hidden in what programs print"
    elif "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        problem = "it is not text in UTF-8"
    if problem:
        raise TaskFailed(f"the secret {name} cannot be used: {problem}", hint="Put another value in its place.")
