"""Says what the broker or the network refused in Chargehand's own errors, by class, never by text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused

from chargehand.domain.errors import BadConfiguration, BrokerUnreachable, ChargehandError, NotPermitted, Unroutable

# What a refusal means. The first class that fits counts.
Meaning = Mapping[type[BaseException], tuple[type[ChargehandError], str]]

NEEDS_RIGHTS = "docs/rabbitmq.md lists the permissions that each user of the broker needs."
AGAIN = "Nothing is lost: it is tried again when the broker answers."

CONNECTING: Meaning = {
    ProbableAuthenticationError: (BrokerUnreachable, "Check user and password in the URL, and the user on the broker."),
    TimeoutError: (BrokerUnreachable, "Is RabbitMQ running there, and does a firewall let this machine through?"),
    BaseException: (
        BrokerUnreachable,
        "Is RabbitMQ running there? Check host, port and virtual host, and amqps:// where it wants TLS.",
    ),
}
QUEUES: Meaning = {
    ChannelAccessRefused: (NotPermitted, NEEDS_RIGHTS),
    ChannelNotFoundEntity: (Unroutable, "Declare it first."),
    ChannelPreconditionFailed: (
        BadConfiguration,
        "It was made with other settings. Delete it once it is empty, or use another namespace.",
    ),
    BaseException: (BrokerUnreachable, AGAIN),
}
SENDING: Meaning = {
    PublishError: (Unroutable, "Nobody has declared that queue: its reader has not connected yet."),
    DeliveryError: (BrokerUnreachable, "The queue is full or has lost its majority of nodes."),
    ChannelAccessRefused: (NotPermitted, NEEDS_RIGHTS),
    ChannelPreconditionFailed: (NotPermitted, "A sender must carry the name of the user that is connected."),
    ChannelNotFoundEntity: (Unroutable, "The server makes the exchanges when it starts."),
    ValueError: (Unroutable, "No queue can have that name."),
    BaseException: (BrokerUnreachable, AGAIN),
}


@contextmanager
def plainly(what: str, meaning: Meaning) -> Iterator[None]:
    """Turn what AMQP's libraries raise into Chargehand's errors; `what` begins their messages."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled us: aiormq ends what waits on a lost connection this way.
        raise said(what, error, meaning) from None
    except (TimeoutError, ValueError, *CONNECTION_EXCEPTIONS) as error:
        raise said(what, error, meaning) from error


def said(what: str, error: BaseException, meaning: Meaning) -> ChargehandError:
    """Return the error that stands for `error`."""
    kind, hint = next(entry for known, entry in meaning.items() if isinstance(error, known))
    return kind(f"{what}: {_words(error)}", hint=hint)


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, asyncio.CancelledError):
        return "the connection was lost"
    return str(error) or type(error).__name__
