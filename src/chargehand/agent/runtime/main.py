"""Runs an agent as a program of its own: connect, work, and leave in good order when told to."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from chargehand.agent.identity import Identity
from chargehand.broker.transports import transport_of
from chargehand.domain.errors import BadConfiguration

if TYPE_CHECKING:
    from chargehand.agent.offers import Agent
    from chargehand.agent.runtime.runtime import AgentRuntime
    from chargehand.domain.ports import Broker

log = logging.getLogger("chargehand.agent")

OFFERS_SCAN = 2.0
"""Seconds between looks at the files that offers come from; a look is a few stat calls."""


def agent_home() -> Path:
    """Return where this machine's agent keeps its identity and journal: CHARGEHAND_AGENT_HOME, or a default."""
    configured = os.environ.get("CHARGEHAND_AGENT_HOME")
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(configured) if configured else Path(data) / "chargehand-agent"


def broker_url(identity: Identity) -> str:
    """Return where the broker is: CHARGEHAND_AMQP_URL, or what the enrolment said. Raises `BadConfiguration`."""
    url = os.environ.get("CHARGEHAND_AMQP_URL") or identity.amqp_url
    if not url:
        raise BadConfiguration(
            "the agent does not know where the broker is",
            hint="Set CHARGEHAND_AMQP_URL, or enrol it with --amqp-url.",
        )
    return url


def run_agent(
    agent: Agent,
    *,
    home: Path | None = None,
    heartbeat_seconds: float = 10.0,
    rescan: Callable[[], bool] | None = None,
) -> None:
    """Run an agent until SIGTERM or Ctrl-C; the first finishes what runs, the second ends it at once.

    `rescan` is called every few seconds; when it says that the offers have changed they are announced again. Raises
    `BadConfiguration` without an identity or a broker, `BrokerUnreachable` when it cannot be reached at first.
    """
    where = home or agent_home()
    identity = Identity.load(where)
    url = broker_url(identity)
    broker = transport_of(url).open_broker(url, identity.agent_id)
    runtime = runtime_of(agent, identity, broker, where, heartbeat_seconds)
    port = os.environ.get("CHARGEHAND_AGENT_HEALTH_PORT")
    asyncio.run(serve(runtime, broker, rescan, int(port) if port and port.isdigit() else None))


def runtime_of(agent: Agent, identity: Identity, broker: Broker, home: Path, heartbeat_seconds: float) -> AgentRuntime:
    """Return the runtime of an enrolled agent."""
    from chargehand.agent.runtime.runtime import AgentRuntime

    return AgentRuntime(
        agent,
        broker,
        agent_id=identity.agent_id,
        key=identity.key,
        generation=identity.generation,
        home=home,
        heartbeat_seconds=heartbeat_seconds,
    )


async def serve(
    runtime: AgentRuntime,
    broker: Broker,
    rescan: Callable[[], bool] | None = None,
    health_port: int | None = None,
) -> None:
    """Run an agent over a broker until a signal says to stop."""
    from chargehand.agent.runtime.health import Health

    await broker.start()
    try:
        await runtime.start()
        log.info("agent %s runs", runtime.agent_id)
        with_signals(runtime)
        async with AsyncExitStack() as beside:
            if health_port is not None:
                await beside.enter_async_context(Health(runtime, health_port))
            if rescan is not None:
                watching = asyncio.create_task(watch_offers(runtime, rescan), name="offers")
                beside.callback(watching.cancel)
            await runtime.run_until_stopped()
    finally:
        await broker.stop()


async def watch_offers(runtime: AgentRuntime, rescan: Callable[[], bool]) -> None:
    """Announce the offers again whenever the files they come from have changed, until cancelled."""
    while True:
        await asyncio.sleep(OFFERS_SCAN)
        if await asyncio.to_thread(rescan):
            await runtime.offers_changed()


def with_signals(runtime: AgentRuntime) -> None:
    """Let SIGTERM and SIGINT drain the agent, and a second one end it at once."""
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        stopping.append(loop.create_task(runtime.stop(drain=not stopping)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
