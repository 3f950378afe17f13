"""What `chargehand.broker.transports` needs of RabbitMQ."""

from __future__ import annotations

from chargehand.broker.rabbitmq.address import Address
from chargehand.broker.rabbitmq.broker import RabbitMQBroker


def open_broker(url: str, agent_id: str | None = None) -> RabbitMQBroker:
    """Return the broker at that URL; RabbitMQ vouches for an agent whose user is called as it."""
    return RabbitMQBroker(url, sender=own_user(url, agent_id) if agent_id else None)


def own_user(url: str, agent_id: str) -> str | None:
    """Return the name that RabbitMQ can vouch for: the agent's id, where its user is called so; else None."""
    return agent_id if Address.parse(url).user == agent_id else None


async def greeting(url: str) -> str:
    """Connect, disconnect, and return what answered and where: `RabbitMQ 3.12.1 answers at amqp://ann@host:5672/`."""
    broker = RabbitMQBroker(url, name="chargehand doctor")
    await broker.start()
    try:
        return f"{broker.server} answers at {broker.address}"
    finally:
        await broker.stop()
