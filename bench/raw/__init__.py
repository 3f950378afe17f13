"""The yardstick: the same plans by hand, with asyncpg and aio-pika and nothing else, and a worker in another process.

It decides who works, keeps the decision, the lease, the state of every task, its result and an event for every change,
all durable, and sends an order and gets a result for every task, durable and confirmed, over quorum queues. It has no
signatures, no journal at the worker, no leases that end, no seals, no retries, and nothing that could be changed.
"""
