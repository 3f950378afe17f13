"""Which transport a broker's URL means."""

from __future__ import annotations

import pytest

from chargehand.broker.memory import MemoryBroker
from chargehand.broker.rabbitmq import RabbitMQBroker
from chargehand.broker.transports import TRANSPORTS, transport_of
from chargehand.domain.errors import BadConfiguration


@pytest.mark.parametrize(
    ("url", "kind", "shared"),
    [
        (None, MemoryBroker, False),
        ("", MemoryBroker, False),
        ("amqp://ann:hush@host/", RabbitMQBroker, True),
        ("amqps://host", RabbitMQBroker, True),
        ("AMQP://host", RabbitMQBroker, True),
    ],
)
def test_the_scheme_says_which_and_whether_many_processes_share_it(url: str | None, kind: type, shared: bool) -> None:
    transport = transport_of(url)
    assert transport.shared is shared
    assert type(transport.open_broker(url)) is kind


@pytest.mark.parametrize("url", ["pigeon://ann:hush@host/", "amqp:ann:hush@host", "hush", "ann:hush@host", "://hush"])
def test_an_unknown_scheme_is_refused_with_the_known_ones_and_without_the_rest(url: str) -> None:
    with pytest.raises(BadConfiguration) as refusal:
        transport_of(url)
    assert "hush" not in str(refusal.value)
    for known in ("amqp://", "amqps://"):
        assert known in refusal.value.hint


def test_each_scheme_belongs_to_one_transport_and_one_transport_needs_none() -> None:
    schemes = [scheme for transport in TRANSPORTS for scheme in transport.schemes or ("",)]
    assert len(schemes) == len(set(schemes))
    assert schemes.count("") == 1
