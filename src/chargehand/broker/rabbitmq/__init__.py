"""The broker for more than one machine: RabbitMQ, 3.10 or later. See docs/rabbitmq.md.

Needs the extra `rabbitmq`; nothing else of Chargehand imports this package before it is asked for.
"""

from __future__ import annotations

from chargehand.broker.rabbitmq.broker import RabbitMQBroker

__all__ = ["RabbitMQBroker"]
