"""RabbitMQ as `ports.Broker`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chargehand.broker.rabbitmq.address import Address
from chargehand.broker.rabbitmq.declaring import Declarations
from chargehand.broker.rabbitmq.link import Backoff, Link
from chargehand.broker.rabbitmq.reading import RabbitMQSubscription
from chargehand.broker.rabbitmq.sending import Sender
from chargehand.broker.rabbitmq.topology import Topology
from chargehand.domain.ports import OnMessage


class RabbitMQBroker:
    """Implements `ports.Broker` over one connection.

    `url` is `amqp[s]://user:password@host:port/vhost`, with aiormq's options (`cafile`, `certfile`, `keyfile`,
    `heartbeat`). `namespace` comes before the name of every queue and exchange. `sender` is put into each message as
    its `user_id` and into the routing keys of events; RabbitMQ refuses any other than the connected user's name, so
    agents with users of their own set it to that. `name` is shown in RabbitMQ's list of connections.
    `confirm_seconds` is how long one message may wait for its confirm.

    A queue is made again when it is lost while this process has declared it; readers go on by themselves after
    an outage, publishing fails at once while there is no connection. Raises `BadConfiguration` for a wrong URL.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "",
        sender: str | None = None,
        name: str = "chargehand",
        confirm_seconds: float = 5.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.address = Address.parse(url)
        self._topology = Topology(namespace, sender or self.address.user)
        self._declarations = Declarations(self._topology)
        self._link = Link(self.address, name, self._declarations.prepare, backoff or Backoff())
        self._sender = Sender(self._link, self._topology, sender, confirm_seconds)
        self._subscriptions: set[RabbitMQSubscription] = set()

    @property
    def server(self) -> str:
        """What is at the other end, as it calls itself: `RabbitMQ 3.12.1`. Raises `BrokerUnreachable`."""
        return self._link.server

    async def start(self) -> None:
        await self._link.open()

    async def stop(self) -> None:
        """End every subscription and disconnect. What was not confirmed by then is reported as failed."""
        subscriptions, self._subscriptions = self._subscriptions, set()
        await asyncio.gather(*(subscription.stop() for subscription in subscriptions))
        await self._link.close()

    async def declare(self, queue: str) -> None:
        """Make a queue if there is none, with its dead letters.

        Raises `BrokerUnreachable`; `Unroutable` when it is not there and this user may not make it;
        `BadConfiguration` when it is there with other settings.
        """
        await self._declarations.declare(self._link.connection, queue)

    async def remove(self, queue: str) -> None:
        """Delete a queue and its dead letters. Raises `BrokerUnreachable`, `NotPermitted`."""
        connection = self._link.connection
        readers = {subscription for subscription in self._subscriptions if subscription.queue == queue}
        self._subscriptions -= readers
        await asyncio.gather(*(reader.stop() for reader in readers))
        await self._declarations.remove(connection, queue)

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> list[BaseException | None]:
        """As the port says; besides, `NotPermitted` for what the broker's permissions or its check of the sender
        refuse. One refused message does not harm the others."""
        return await self._sender.send(messages)

    async def consume(self, queue: str, on_message: OnMessage, *, prefetch: int = 16) -> RabbitMQSubscription:
        """As the port says. Raises `BrokerUnreachable`, `Unroutable` (no such queue), `NotPermitted`."""
        subscription = RabbitMQSubscription(self._link, self._declarations, queue, self._topology.name(queue))
        await subscription.begin(on_message, prefetch)
        self._subscriptions = {known for known in self._subscriptions if not known.stopped} | {subscription}
        return subscription
