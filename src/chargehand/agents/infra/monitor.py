"""`monitor_system`: looks whether something is well, and changes nothing.

A check that ran is a task that succeeded, whatever it found: `outputs.healthy` says it, and the summary starts with
DOWN, LOW or OK. Only a check that cannot be made (no such directory) fails.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
from pydantic import JsonValue

from chargehand.agent import Outcome, TaskFailed, Work
from chargehand.agents.infra.addresses import Network, resolved, transport

MAX_SECONDS = 60
MAX_BODY = 1_000_000  # bytes that are searched for `contains`
CHARSETS = ("utf-", "utf8", "us-ascii", "ascii", "iso-8859-", "windows-125", "shift_jis", "euc-", "gb", "big5", "koi8-")
MAX_PIDS = 20  # named in the outputs
GIB = 1024**3


async def check_http(work: Work, allowed: Sequence[Network] = ()) -> Outcome:
    """Ask a URL and compare the status and, when wanted, the text of the answer. `allowed`: see `addresses`."""
    import httpx  # takes 0.2 s, which nobody should wait for who checks nothing

    wanted: dict[str, Any] = {"expect_status": 200, "timeout_seconds": 10} | work.parameters
    shown = _without_login(wanted["url"])
    try:
        async with asyncio.timeout(wanted["timeout_seconds"]):
            follow = not 300 <= wanted["expect_status"] < 400
            status, body, seconds = await _ask(wanted["url"], follow=follow, allowed=allowed)
    except TimeoutError:
        return _verdict(False, "DOWN", f"{shown} did not answer within {wanted['timeout_seconds']} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _verdict(False, "DOWN", f"{shown}: {str(error) or type(error).__name__}")
    found: dict[str, JsonValue] = {"status": status, "seconds": round(seconds, 3)}
    if status != wanted["expect_status"]:
        return _verdict(False, "DOWN", f"{shown} answers {status}, not {wanted['expect_status']}", found)
    if wanted.get("contains") and wanted["contains"] not in body:
        return _verdict(False, "DOWN", f"{shown} answers {status}, but without {wanted['contains']!r}", found)
    return _verdict(True, "DOWN", f"{shown} answers {status} in {seconds:.2f} s", found)


async def check_tcp(work: Work, allowed: Sequence[Network] = ()) -> Outcome:
    """Open a connection and close it again. `allowed`: see `addresses`."""
    wanted: dict[str, Any] = {"timeout_seconds": 5} | work.parameters
    place = f"{wanted['host']}:{wanted['port']}"
    try:
        async with asyncio.timeout(wanted["timeout_seconds"]):
            _, writer = await _connected(wanted["host"], wanted["port"], allowed)
    except TimeoutError:
        return _verdict(False, "DOWN", f"{place} did not answer within {wanted['timeout_seconds']} s")
    except (OSError, UnicodeError) as error:
        # asyncio puts the address into `strerror`; the plain words say what happened.
        number = getattr(error, "errno", None) or 0
        return _verdict(False, "DOWN", f"{place}: {os.strerror(number) if number > 0 else error}")
    writer.close()
    return _verdict(True, "DOWN", f"{place} accepts connections")


async def check_disk(work: Work) -> Outcome:
    """Compare the free share of a file system with the wanted minimum."""
    wanted: dict[str, Any] = {"path": "/", "min_free_percent": 10} | work.parameters
    try:
        usage = await asyncio.to_thread(psutil.disk_usage, wanted["path"])
    except (OSError, ValueError) as error:
        raise TaskFailed(f"cannot look at {wanted['path']}: {getattr(error, 'strerror', None) or error}") from error
    return _share(f"the disk of {wanted['path']}", usage.free, usage.total, wanted["min_free_percent"])


async def check_memory(work: Work) -> Outcome:
    """Compare the memory that programs can still get with the wanted minimum."""
    wanted: dict[str, Any] = {"min_free_percent": 10} | work.parameters
    memory = psutil.virtual_memory()
    return _share("memory", memory.available, memory.total, wanted["min_free_percent"])


async def check_process(work: Work) -> Outcome:
    """Look for running programs of a name."""
    name = str(work.parameters["name"])
    pids = await asyncio.to_thread(_pids_of, name)
    found: dict[str, JsonValue] = {"count": len(pids), "pids": list(pids[:MAX_PIDS])}
    text = f"{name} runs ({len(pids)} processes)" if pids else f"no process named {name} runs"
    return _verdict(bool(pids), "DOWN", text, found)


async def _connected(
    host: str, port: int, allowed: Sequence[Network]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    failure: OSError | None = None
    for address in await resolved(host, port, allowed):
        try:
            return await asyncio.open_connection(address, port)
        except OSError as error:
            failure = error
    raise failure or OSError(f"{host} has no address")


async def _ask(url: str, *, follow: bool, allowed: Sequence[Network]) -> tuple[int, str, float]:
    import httpx

    # Proxies of the environment are for the way out; a check asks the address itself. Identity: a small body that
    # unpacks to a large one is of no use to anybody.
    headers = {"accept-encoding": "identity"}
    clock = asyncio.get_running_loop().time
    started = clock()
    way = await asyncio.to_thread(transport, allowed)
    async with (
        httpx.AsyncClient(
            transport=way, trust_env=False, follow_redirects=follow, timeout=MAX_SECONDS, headers=headers
        ) as client,
        client.stream("GET", url) as answer,
    ):
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_BODY:
                break
    return answer.status_code, _text(bytes(body[:MAX_BODY]), answer.charset_encoding), clock() - started


def _text(body: bytes, charset: str | None) -> str:
    """Return an answer as text. Only charsets of texts: Python knows others, and one that takes the square of time."""
    known = (charset or "").lower().startswith(CHARSETS)
    try:
        return body.decode(charset if known and charset else "utf-8", errors="replace")
    except LookupError:
        return body.decode("utf-8", errors="replace")


def _pids_of(name: str) -> list[int]:
    """Return the processes whose name, or the file name of whose program, is `name`; zombies do not run."""
    found = []
    for process in psutil.process_iter(["name", "cmdline", "status"]):
        facts = process.info
        programs = {facts["name"], *(PurePath(part).name for part in (facts["cmdline"] or [])[:2])}
        if name in programs and facts["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return sorted(found)


def _share(what: str, free: int, total: int, minimum: float) -> Outcome:
    percent = 100 * free / total
    found: dict[str, JsonValue] = {"free_percent": round(percent, 1), "free_bytes": free, "total_bytes": total}
    text = f"{what} has {free / GIB:.1f} of {total / GIB:.1f} GiB free ({percent:.0f} %, wanted: {minimum:g} %)"
    return _verdict(percent >= minimum, "LOW", text, found)


def _verdict(healthy: bool, bad_word: str, text: str, found: dict[str, JsonValue] | None = None) -> Outcome:
    outputs: dict[str, JsonValue] = {"healthy": healthy, **(found or {})}
    return Outcome(f"{'OK' if healthy else bad_word}: {text}", changed=False, outputs=outputs, data=dict(outputs))


def _without_login(url: str) -> str:
    """Return the URL without the user and password that may be in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))
