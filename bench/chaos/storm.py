"""What happens to the site, drawn from a seed: kills in rounds, and between them everything that is not a kill.

When which kind of hit comes is the seed's alone. Whom it hits also depends on who stands at that moment, and what the
programs are doing then on nobody, so a run is not repeated exactly by its seed.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from random import Random
from typing import Literal

from bench.chaos.gremlin import Gremlin
from bench.chaos.site import AGENTS, SERVERS, Site, Way

KILL_GAP, TROUBLE_GAP = 6.5, 3.0  # mean seconds between two; some stay for longer than that
ROUND = ("server", "agent", "broker", "server", "agent", "database", "server", "agent")
"""One round of kills, shuffled anew each time, so that even a short run has some of every kind."""

BROKER_WAYS: tuple[Way, ...] = ("kill", "wipe", "stop", "wipe")
DATABASE_WAYS: tuple[Way, ...] = ("kill", "kill", "stop")
AWAY = (0.0, 3.0)  # seconds until what was killed is started again
LONG_AWAY = (14.0, 20.0)  # longer than a lease and its grace
SOMETIMES = 0.2

Trouble = Literal["cut", "partition", "database_cut", "database_partition", "freeze", "drain", "purge", "delete"]
TROUBLES: dict[Trouble, int] = {
    "cut": 4,
    "partition": 3,
    "database_cut": 4,
    "database_partition": 1,
    "freeze": 3,
    "drain": 1,
    "purge": 2,
    "delete": 1,
}
"""Which trouble, and how often in relation to the others."""


class Storm:
    """Counts what it does: `kills` by kind, `troubles` by kind."""

    def __init__(self, site: Site, gremlin: Gremlin, seed: int) -> None:
        self._site, self._gremlin = site, gremlin
        self._kill_times, self._trouble_times, self._random = (
            Random(f"{seed} {use}") for use in ("kill", "harm", "how")
        )
        self._hit: set[str] = set()  # programs something is being done to
        self.kills: Counter[str] = Counter(dict.fromkeys(("server", "agent", "broker", "database"), 0))
        self.troubles: Counter[str] = Counter()

    async def rage(self, seconds: float) -> None:
        """Go on for so long; when this returns, everything that was taken away has been given back."""
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as hits:
            hits.create_task(self._gremlin.run(seconds))
            hits.create_task(self._killing(hits, until))
            hits.create_task(self._troubling(hits, until))

    async def _killing(self, hits: asyncio.TaskGroup, until: float) -> None:
        left: list[str] = []
        while await pause(self._kill_times, KILL_GAP, until):
            if not left:
                left = self._kill_times.sample(ROUND, len(ROUND))
            hits.create_task(self._kill(left.pop()))

    async def _troubling(self, hits: asyncio.TaskGroup, until: float) -> None:
        while await pause(self._trouble_times, TROUBLE_GAP, until):
            [kind] = self._trouble_times.choices(list(TROUBLES), list(TROUBLES.values()))
            hits.create_task(self._trouble(kind))

    async def _kill(self, kind: str) -> None:
        away = self._random.uniform(*(LONG_AWAY if self._random.random() < SOMETIMES else AWAY))
        if kind == "broker":
            self.kills[kind] += 1
            await self._site.hit_broker(self._random.choice(BROKER_WAYS), min(away, AWAY[1]))
        elif kind == "database":
            self.kills[kind] += 1
            await self._site.hit_database(self._random.choice(DATABASE_WAYS), min(away, AWAY[1]))
        elif name := self._target(SERVERS if kind == "server" else AGENTS):
            self.kills[kind] += 1
            self._site.kill(name)
            await asyncio.sleep(away)
            self._site.start(name)
            self._hit.discard(name)

    async def _trouble(self, kind: Trouble) -> None:
        seconds = self._random.uniform(0.5, 16.0)
        self.troubles[kind] += 1
        if kind in ("purge", "delete"):
            await self._gremlin.empty(delete=kind == "delete")
        elif kind == "freeze":
            await self._freeze(seconds)
        elif kind == "drain":
            await self._drain()
        else:
            await self._disconnect(kind, seconds)

    async def _disconnect(self, kind: Trouble, seconds: float) -> None:
        """Cut a cable, or let nothing through it for a while."""
        site = self._site
        if kind.startswith("database"):
            cable = site.database_cables[self._random.choice(tuple(site.database_cables))]
        else:
            cable = site.broker_cables[self._random.choice((*SERVERS, *AGENTS))]
        if kind.endswith("cut"):
            cable.cut()
            return
        cable.freeze()
        await asyncio.sleep(seconds)
        cable.thaw()

    async def _freeze(self, seconds: float) -> None:
        """Stop a program where it stands, and let it go on as if no time had passed."""
        if name := self._target((*SERVERS, *AGENTS)):
            self._site.programs.signal(name, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._site.programs.signal(name, signal.SIGCONT)
            self._hit.discard(name)

    async def _drain(self) -> None:
        if name := self._target((*SERVERS, *AGENTS)):
            await self._site.stop(name)
            self._site.start(name)
            self._hit.discard(name)

    def _target(self, names: tuple[str, ...]) -> str | None:
        """Return one of these that nothing is being done to, and keep it for the caller."""
        free = [name for name in names if name not in self._hit]
        if not free:
            return None
        name = self._random.choice(free)
        self._hit.add(name)
        return name


async def pause(random: Random, mean: float, until: float) -> bool:
    """Wait some time and return whether the storm goes on."""
    await asyncio.sleep(random.uniform(0.3 * mean, 1.7 * mean))
    return asyncio.get_running_loop().time() < until
