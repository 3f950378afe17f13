"""PostgreSQL's own programs: which one fits a server, and running it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode

from chargehand.domain.errors import BadConfiguration

SAID = 2000  # characters of what a failing program said that are looked at for its last line
SETS_TRANSACTION_TIMEOUT = 17  # from this version on pg_restore sets it first, and older servers refuse it


@dataclass(frozen=True)
class Program:
    """A program of PostgreSQL's and its major version."""

    path: Path
    major: int


def find(name: str, at_least: int, server: int, directories: Iterable[Path]) -> Program:
    """Return the oldest program of that major version or later that also gets on with the server's.

    Raises `BadConfiguration` when there is none.
    """
    found = sorted(set(_versions(name, directories)))
    for major, path in found:
        if major >= at_least and fits(major, server):
            return Program(path, major)
    have = ", ".join(str(major) for major, _ in found) or "none"
    wanted = f"{at_least} or later" if server >= SETS_TRANSACTION_TIMEOUT else f"{at_least} to 16"
    raise BadConfiguration(
        f"{name} of PostgreSQL {wanted} is needed for this server; found: {have}",
        hint=f"Install your system's postgresql-client of version {wanted}, or the extra `postgres`.",
    )


def fits(program: int, server: int) -> bool:
    """Return whether a restore by this version of the programs can work on that version of the server. Pure."""
    return program < SETS_TRANSACTION_TIMEOUT or server >= SETS_TRANSACTION_TIMEOUT


async def run(program: Program, arguments: Iterable[str], dsn: str) -> None:
    """Run a program on a database. Raises `BadConfiguration` with its last words when it fails.

    The password goes by the environment: everybody on the machine can read the arguments.
    """
    address, password = without_password(dsn)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHARGEHAND_")}
    process = await asyncio.create_subprocess_exec(
        program.path,
        *arguments,
        "--no-password",
        f"--dbname={address}",
        env=environment | {"LC_ALL": "C"} | ({"PGPASSWORD": password} if password else {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:  # we were interrupted
            process.kill()
            await process.wait()
    if process.returncode:
        lines = said.decode(errors="replace")[-SAID:].strip().splitlines()
        raise BadConfiguration(
            f"{program.path.name} failed: {lines[-1] if lines else f'exit code {process.returncode}'}",
            hint="Nothing was changed. Is there enough space, and may this user do that?",
        )


def without_password(dsn: str) -> tuple[str, str | None]:
    """Return a database URL without its password, and the password."""
    head, mark, query = dsn.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    password = dict(options).get("password")
    scheme, slashes, rest = head.partition("://")
    user, at, where = rest.rpartition("@")
    name, colon, secret = user.partition(":")
    kept = urlencode([(key, value) for key, value in options if key != "password"], safe="/:,")
    return f"{scheme}{slashes}{name}{at}{where}{mark}{kept}", unquote(secret) if colon else password


def _versions(name: str, directories: Iterable[Path]) -> Iterator[tuple[int, Path]]:
    places = [*directories, *(Path(place) for place in os.get_exec_path())]
    for path in dict.fromkeys(place / name for place in places):
        if not os.access(path, os.X_OK):
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        version = re.search(r"\(PostgreSQL\) (\d+)", said)
        if version:
            yield int(version[1]), path
