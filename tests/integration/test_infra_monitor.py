"""The checks of `monitor_system` against real servers, ports, disks and processes of this machine."""

import asyncio
import socket
from collections.abc import AsyncIterator
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from chargehand.agent import Outcome, TaskFailed
from chargehand.agents.infra.addresses import refusal
from chargehand.agents.infra.assembly import CHECKERS, REACHING
from chargehand.agents.infra.checks import CHECKS
from tests.integration.infra_work import make_work

LOOPBACK = ip_network("127.0.0.0/8")

ANSWERS = {
    b"/": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nwelcome",
    b"/broken": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"/moved": b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"/garbage": b"hello\r\n\r\n",
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a little web server; `/silent` never answers."""
    silent = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.read(65_536) or b"- -").split(b" ")[1]
        if path == b"/silent":
            await silent.wait()
        writer.write(ANSWERS.get(path, b""))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    silent.set()
    server.close()


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def check(intent: str, **parameters: Any) -> Outcome:
    """Run a check on an agent whose operator lets it ask the machine itself."""
    run = partial(CHECKERS[intent], allowed=[LOOPBACK]) if intent in REACHING else CHECKERS[intent]
    return await run(make_work(Path("unused"), parameters=parameters))


@pytest.mark.parametrize(
    ("path", "wanted", "healthy", "words"),
    [
        ("/", {}, True, "OK: http://127.0.0.1"),
        ("/", {"contains": "welcome"}, True, "answers 200"),
        ("/", {"contains": "goodbye"}, False, "without 'goodbye'"),
        ("/", {"expect_status": 204}, False, "answers 200, not 204"),
        ("/broken", {}, False, "DOWN: http"),
        ("/moved", {}, True, "answers 200"),
        ("/moved", {"expect_status": 302}, True, "answers 302"),
        ("/garbage", {}, False, "DOWN"),
        ("/silent", {"timeout_seconds": 0.2}, False, "did not answer within 0.2 s"),
    ],
)
async def test_http(port: int, path: str, wanted: dict[str, Any], healthy: bool, words: str) -> None:
    outcome = await check("check_http", url=f"http://127.0.0.1:{port}{path}", **wanted)
    assert outcome.outputs["healthy"] is healthy
    assert words in outcome.summary
    assert outcome.changed is False


async def test_http_that_nobody_serves_is_down_and_its_password_stays_out_of_the_answer() -> None:
    outcome = await check("check_http", url=f"http://bob:hunter2@127.0.0.1:{closed_port()}/")
    assert outcome.outputs["healthy"] is False
    assert outcome.summary.startswith("DOWN: http://127.0.0.1:")


async def test_tcp(port: int) -> None:
    assert (await check("check_tcp", host="127.0.0.1", port=port)).outputs["healthy"] is True
    down = await check("check_tcp", host="127.0.0.1", port=closed_port())
    assert down.outputs["healthy"] is False
    assert "refused" in down.summary


async def test_disk_and_memory() -> None:
    for name in ("check_disk", "check_memory"):
        fine = await check(name, min_free_percent=0)
        assert fine.outputs["healthy"] is True
        assert 0 < fine.outputs["free_bytes"] < fine.outputs["total_bytes"]  # type: ignore[operator]
        assert (await check(name, min_free_percent=100)).summary.startswith("LOW: ")
    with pytest.raises(TaskFailed, match="/no/such/place"):
        await check("check_disk", path="/no/such/place")


async def test_process() -> None:
    sleeping = await asyncio.create_subprocess_exec("sleep", "60")
    running = await check("check_process", name="sleep")
    sleeping.kill()
    await sleeping.wait()
    assert running.outputs["healthy"] is True
    assert sleeping.pid in running.outputs["pids"]  # type: ignore[operator]
    assert (await check("check_process", name="no-such-program")).summary.startswith("DOWN: no process")


def test_every_check_has_its_function_and_only_reads() -> None:
    assert {spec.intent for spec in CHECKS} == set(CHECKERS)
    assert {spec.risk for spec in CHECKS} == {"read"}


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "::1", "::", "fe80::1", "::ffff:127.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:169.254.169.254", "224.0.0.1", "255.255.255.255"],
)  # fmt: skip
def test_the_machine_itself_and_its_link_are_not_asked_unless_the_operator_says_so(address: str) -> None:
    found = ip_address(address)
    assert refusal(found, ())
    assert refusal(found, (ip_network(f"{address}/{found.max_prefixlen}"),)) is None


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db9::1", "fd00::1"])
def test_other_machines_are_asked(address: str) -> None:
    assert refusal(ip_address(address), ()) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433"])
async def test_a_check_of_this_machine_is_refused_and_says_how_to_allow_it(host: str, port: int) -> None:
    for intent, parameters in (
        ("check_http", {"url": f"http://{host}:{port}/"}),
        ("check_tcp", {"host": host, "port": port}),
    ):
        with pytest.raises(TaskFailed, match="is not asked") as refused:
            await CHECKERS[intent](make_work(Path("unused"), parameters=parameters))
        assert "CHARGEHAND_CHECK_NETWORKS" in refused.value.hint


async def test_a_redirect_leads_to_no_address_that_may_not_be_asked(port: int) -> None:
    allowed = [ip_network("127.0.0.1/32")]
    ANSWERS[b"/away"] = ANSWERS[b"/moved"].replace(b"Location: /", f"Location: http://127.0.0.2:{port}/".encode())
    work = make_work(Path("unused"), parameters={"url": f"http://127.0.0.1:{port}/away"})
    with pytest.raises(TaskFailed, match=r"127\.0\.0\.2 is not asked"):
        await CHECKERS["check_http"](work, allowed=allowed)


async def test_a_name_is_resolved_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers with another address the second time has no second time."""
    loop, asked = asyncio.get_running_loop(), []
    real = loop.getaddrinfo

    async def answer(host: str, *arguments: Any, **more: Any) -> Any:
        asked.append(host)
        return await real("127.0.0.1" if asked.count(host) == 1 else "127.0.0.2", *arguments, **more)

    monkeypatch.setattr(loop, "getaddrinfo", answer)
    outcome = await check("check_http", url=f"http://rebound.example:{port}/")
    assert outcome.outputs["healthy"] is True
    assert asked.count("rebound.example") == 1


async def test_a_charset_that_is_none_of_texts_costs_no_time(port: int) -> None:
    body = b"a" * 900_000
    ANSWERS[b"/odd"] = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=punycode\r\nConnection: close\r\n\r\n" + body
    )
    outcome = await check("check_http", url=f"http://127.0.0.1:{port}/odd", contains="aaa")
    assert outcome.outputs["healthy"] is True
