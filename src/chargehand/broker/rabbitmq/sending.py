"""Publishes with confirms: a message is sent when the broker has it on disk, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel

from chargehand.broker.rabbitmq.link import Link, close_channel
from chargehand.broker.rabbitmq.plainly import SENDING, plainly
from chargehand.broker.rabbitmq.topology import Topology
from chargehand.domain.errors import BrokerUnreachable, ChargehandError
from chargehand.domain.ports import HEARTBEATS_QUEUE

SLOWEST = 500  # messages a second; a batch gets that much longer than one message (measured: 1,800 to 8,000)

Outcome = BaseException | None


class Sender:
    """Sends on two channels, because a refused message closes its channel, and fails all that wait on it.

    What goes to a queue for the first time goes alone, on the one channel; what goes where the broker has taken
    something before goes together, on the other. (With several on their way at the refusal aiormq 7.2 goes on
    writing to the closed channel, for which the broker ends the whole connection.)

    `user_id`, when given, is in every message: the broker refuses one that is not ours.
    """

    def __init__(self, link: Link, topology: Topology, user_id: str | None, confirm_seconds: float) -> None:
        self._topology, self._user_id, self._confirm_seconds = topology, user_id, confirm_seconds
        self._alone = _Lane(link, confirm_seconds)
        self._together = _Lane(link, confirm_seconds)

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> list[Outcome]:
        """Send all and return how each fared: None when it is on the broker's disk."""
        outcomes: dict[int, Outcome] = {}
        try:
            channel = await self._together.channel()
            for n, (queue, body) in enumerate(messages):
                if queue not in self._together.taken:
                    outcomes[n] = await self._first(queue, body)
        except BrokerUnreachable as error:  # nothing can be sent at all
            return [outcomes.get(n, error) for n in range(len(messages))]
        rest = [n for n in range(len(messages)) if n not in outcomes]
        seconds = self._confirm_seconds + len(rest) / SLOWEST
        sent = await asyncio.gather(*(self._send(channel, *messages[n], seconds) for n in rest))
        outcomes.update(zip(rest, sent, strict=True))
        return [outcomes[n] for n in range(len(messages))]

    async def _first(self, queue: str, body: bytes) -> Outcome:
        """Send alone. Raises `BrokerUnreachable` when there is no channel to send on."""
        async with self._alone.turn:
            outcome = await self._send(await self._alone.channel(), queue, body, self._confirm_seconds)
            if outcome is None:
                self._together.taken.add(queue)
            elif isinstance(outcome.__cause__, TimeoutError):
                # The queue may be stuck, or the whole broker. Whether a new channel opens tells them apart.
                await self._alone.close()
        return outcome

    async def _send(self, channel: AbstractChannel, queue: str, body: bytes, seconds: float) -> Outcome:
        lasting = queue != HEARTBEATS_QUEUE
        message = Message(
            body,
            delivery_mode=DeliveryMode.PERSISTENT if lasting else DeliveryMode.NOT_PERSISTENT,
            user_id=self._user_id,
        )
        route = self._topology.route(queue)
        try:
            with plainly(f"a message to {queue} was not taken", SENDING):
                exchange = await channel.get_exchange(route.exchange, ensure=False)
                await exchange.publish(message, route.key, mandatory=True, timeout=seconds)
        except ChargehandError as error:
            return error
        return None


class _Lane:
    """A channel with confirms, opened when it is needed and again when it was closed."""

    def __init__(self, link: Link, open_seconds: float) -> None:
        self.turn = asyncio.Lock()
        self.taken: set[str] = set()  # queues for which the broker has taken something on this connection
        self._link, self._open_seconds = link, open_seconds
        self._opening = asyncio.Lock()
        self._open: AbstractChannel | None = None

    async def channel(self) -> AbstractChannel:
        """Return the open channel. Raises `BrokerUnreachable`."""
        async with self._opening:
            if self._open is None or self._open.is_closed:
                self._open = await self._link.channel(confirms=True, seconds=self._open_seconds)
                self.taken = set()
            return self._open

    async def close(self) -> None:
        channel, self._open = self._open, None
        if channel is not None:
            await close_channel(channel, self._open_seconds)
