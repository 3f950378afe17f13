"""`doctor` and the broker: it connects as servers do, ends within its time, says what to do and shows no password."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from chargehand.app.doctor import Check, examine_broker, examine_writing
from chargehand.settings import Settings
from tests.rabbitmq import PrivateRabbitMQ, free_ports

SECONDS = 1.0  # as long as a test waits for what never answers


async def looked_at(url: str | None, home: Path, seconds: float = 30.0) -> Check:
    return await examine_broker(Settings(home=home, amqp_url=url), seconds)


async def test_a_database_that_can_be_written_is_told_and_left_as_it_is(database_url: str) -> None:
    (check,) = await examine_writing(database_url)
    assert (check.name, check.state) == ("writing", "ok")
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM anomalies") == 0
    await connection.close()


@pytest.mark.parametrize(
    ("made", "told", "remedy"),
    [
        ("ALTER DATABASE {} SET default_transaction_read_only = on", "read-only", "standby"),
        (
            "CREATE ROLE reader; GRANT USAGE ON SCHEMA public TO reader; GRANT reader TO CURRENT_USER;"
            "ALTER DATABASE {} SET role = 'reader'",
            "lacks a permission",
            "GRANT",
        ),
    ],
)
async def test_a_database_that_answers_and_cannot_be_written_is_told(
    database_url: str, made: str, told: str, remedy: str
) -> None:
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(made.format(name))
    await connection.close()
    (check,) = await examine_writing(database_url)
    assert check.state == "fail"
    assert told in check.found
    assert remedy in check.remedy


async def test_without_a_url_the_broker_is_in_this_process(tmp_path: Path) -> None:
    check = await looked_at(None, tmp_path)
    assert (check.name, check.state) == ("broker", "ok")
    assert "in this process" in check.found


async def test_a_broker_that_answers_is_named_with_its_version(
    private_rabbitmq: PrivateRabbitMQ, tmp_path: Path
) -> None:
    check = await looked_at(private_rabbitmq.url_of("server"), tmp_path)
    assert check.state == "ok"
    assert check.found.startswith("RabbitMQ ")
    assert check.found.split()[1][0].isdigit()
    assert f"answers at amqp://server@127.0.0.1:{private_rabbitmq.port}" in check.found
    assert private_rabbitmq.passwords["server"] not in str(check)


async def test_a_user_that_the_broker_refuses_is_said(private_rabbitmq: PrivateRabbitMQ, tmp_path: Path) -> None:
    check = await looked_at(private_rabbitmq.url_of("root", "hush-hush"), tmp_path)
    assert check.state == "fail"
    assert "user and password" in check.remedy
    assert "hush" not in str(check)


async def test_nothing_that_listens_is_said(tmp_path: Path) -> None:
    [port] = free_ports(1)
    check = await looked_at(f"amqp://eve:hush@127.0.0.1:{port}/", tmp_path)
    assert check.state == "fail"
    assert f"cannot connect to amqp://eve@127.0.0.1:{port}" in check.found
    assert "Is RabbitMQ running there?" in check.remedy
    assert "hush" not in str(check)


async def test_what_listens_and_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(SECONDS + 5):
            check = await looked_at(f"amqp://eve:hush@127.0.0.1:{port}/", tmp_path, SECONDS)
        gone.set()
    assert check.state == "fail"
    assert f"amqp://eve:***@127.0.0.1:{port}/ does not answer within 1 s" in check.found
    assert "firewall" in check.remedy


@pytest.mark.parametrize("url", ["localhost:5672", "http://eve:hush@host/", "amqp://eve:hush@host:port/", "amqp:///"])
async def test_a_url_that_is_not_one_is_said_without_being_quoted(url: str, tmp_path: Path) -> None:
    check = await looked_at(url, tmp_path)
    assert check.state == "fail"
    assert "the URL of the message broker" in check.found
    assert "amqp://user:password@host" in check.remedy
    assert "hush" not in str(check)


def test_a_library_that_is_missing_is_named_with_what_to_install(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
sys.modules["aio_pika"] = None
from chargehand.app.doctor import examine_broker
from chargehand.settings import Settings
print(asyncio.run(examine_broker(Settings(home={str(tmp_path)!r}, amqp_url="amqp://eve:hush@127.0.0.1/"))))
"""
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "state='fail'" in ended.stdout
    assert "aio_pika is not installed" in ended.stdout
    assert "Install chargehand[rabbitmq]." in ended.stdout
    assert "hush" not in ended.stdout
