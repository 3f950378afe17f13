"""The worker of the yardstick: `python -m bench.raw.worker AMQP_URL NAME`. Ends with its stdin."""

from __future__ import annotations

import asyncio
import json
import sys

from aio_pika import connect
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable

RESULTS = "raw.results"
QUORUM: FieldTable = {"x-queue-type": "quorum"}
AT_ONCE = 64
PERSISTENT = Basic.Properties(delivery_mode=2)


async def work(url: str, name: str) -> None:
    """Answer every order with a result until stdin ends."""
    connection = await connect(url)
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=AT_ONCE)
    orders = await channel.declare_queue(name, durable=True, arguments=QUORUM)
    plain = await channel.get_underlay_channel()  # a quarter cheaper per message than aio-pika's classes over it

    async def on_order(message: DeliveredMessage) -> None:
        order = json.loads(message.body)
        result = {**order, "ok": True, "summary": "nothing to do", "changed": False}
        body = json.dumps(result, separators=(",", ":")).encode()
        await plain.basic_publish(body, routing_key=RESULTS, properties=PERSISTENT)
        await plain.basic_ack(message.delivery_tag or 0, wait=False)

    await plain.basic_consume(orders.name, on_order)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
