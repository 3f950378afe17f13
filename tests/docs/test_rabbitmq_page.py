"""docs/rabbitmq.md says how the queues really are. What its permissions allow is tried in tests/integration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chargehand.broker import DELIVERY_LIMIT, dead_letters
from chargehand.broker.rabbitmq import sending, topology
from chargehand.broker.rabbitmq.address import PORTS, Address
from chargehand.broker.rabbitmq.link import Backoff
from chargehand.broker.rabbitmq.topology import Topology
from chargehand.domain.errors import BadConfiguration
from chargehand.domain.ports import EVENTS_QUEUE, HEARTBEATS_QUEUE, control_queue, work_queue

PAGE = (Path(__file__).parents[2] / "docs" / "rabbitmq.md").read_text()
QUEUES = (work_queue("AGENT"), control_queue("AGENT"), EVENTS_QUEUE, HEARTBEATS_QUEUE)


def test_every_exchange_is_described_with_its_type() -> None:
    assert dict(re.findall(r"^\| `(chargehand\.\w+)` \| (\w+) \|", PAGE, re.MULTILINE)) == Topology().exchanges


@pytest.mark.parametrize("queue", QUEUES)
def test_every_queue_is_described_with_its_kind(queue: str) -> None:
    section = PAGE.partition("## Exchanges and queues")[2].partition("\n## ")[0]
    rows = {line.split(" | ")[0]: line for line in section.splitlines() if line.startswith("| `")}
    for made in Topology().declarations(queue):
        [row] = [line for names, line in rows.items() if f"`{made.name}`" in names]
        assert str(made.arguments["x-queue-type"]) in row


def test_the_numbers_are_right() -> None:
    for number, words in (
        (topology.MOST_WAITING, "at most {:,} messages"),
        (topology.MOST_KEPT, "at most {:,}: the oldest go"),
        (topology.HEARTBEAT_LIFE // 1000, "dropped after {} s"),
        (DELIVERY_LIMIT, "came back {} times"),
        (Backoff().first, "made again after {} s"),
        (Backoff().most, "each time up to {:.0f} s"),
        (PORTS["amqps"], "for TLS (port {})"),
    ):
        assert words.format(number) in PAGE
    assert Address.parse("amqp://host").url.query["heartbeat"] == "10"
    assert "seconds, 10 by default" in PAGE
    assert sending.SLOWEST < 900


def test_a_namespace_comes_before_every_name() -> None:
    names = Topology("lab", "a")
    for queue in QUEUES:
        for made in names.declarations(queue):
            assert made.name.startswith("lab.")
            assert made.binding.exchange.startswith("lab.chargehand.")
        assert names.route(queue).exchange in names.exchanges


@pytest.mark.parametrize("namespace", ["a b", "a/b", "é", "x" * 61, "a\n"])
def test_a_namespace_that_would_break_patterns_is_refused(namespace: str) -> None:
    with pytest.raises(BadConfiguration):
        Topology(namespace)


def test_what_agents_say_carries_their_name_and_reaches_one_queue() -> None:
    mine = Topology(sender="a")
    for queue in (EVENTS_QUEUE, HEARTBEATS_QUEUE):
        assert mine.route(queue).key == f"{queue}.a"
        assert mine.declarations(queue)[-1].binding.key == f"{queue}.#"


def test_dead_letters_find_their_queue() -> None:
    grave, queue = Topology("lab").declarations(work_queue("a"))
    assert grave.name == f"lab.{dead_letters(work_queue('a'))}"
    assert (queue.arguments["x-dead-letter-exchange"], queue.arguments["x-dead-letter-routing-key"]) == grave.binding


def test_waits_grow_up_to_a_limit_and_differ() -> None:
    backoff = Backoff(first=1.0, most=8.0)
    for failures, longest in ((0, 1), (1, 2), (3, 8), (100, 8), (100_000, 8)):
        waits = {backoff.seconds(failures) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest
