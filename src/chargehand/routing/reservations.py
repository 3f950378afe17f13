"""Agents' reservations within one transaction: those of the database, and each placement on top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from chargehand.domain.intents import Resources
from chargehand.domain.plans import WorkTask
from chargehand.domain.records import TaskRecord
from chargehand.domain.routing import AgentFacts


class Promise(NamedTuple):
    """Memory in MiB that an agent's open attempts were promised.

    `unseen` is the part of those that had not begun at the agent's last heartbeat: what that one calls free is not.
    """

    memory_mb: int = 0
    gpu_vram_mb: int = 0
    unseen_memory_mb: int = 0
    unseen_gpu_vram_mb: int = 0

    def plus(self, need: Resources) -> Promise:
        """Return the promise with that of one more attempt."""
        memory, gpu = need.memory_mb, need.gpu_vram_mb
        return Promise(
            self.memory_mb + memory,
            self.gpu_vram_mb + gpu,
            self.unseen_memory_mb + memory,
            self.unseen_gpu_vram_mb + gpu,
        )


NO_PROMISE = Promise()
Promised = Mapping[UUID, Promise]
"""By agent."""


class Machine(NamedTuple):
    """An agent's memory and GPU memory in MiB, in all and free at its last heartbeat; None: it does not say."""

    memory_mb: int
    gpu_vram_mb: int
    free_memory_mb: int | None
    free_gpu_vram_mb: int | None

    @classmethod
    def of(cls, resources: Mapping[str, int], free: Mapping[str, int]) -> Machine:
        """Read what an agent has said of its machine; a heartbeat without free memory tells nothing."""
        known = bool(free.get("memory_mb"))
        return cls(
            resources.get("memory_mb", 0),
            resources.get("gpu_vram_mb", 0),
            free["memory_mb"] if known else None,
            free.get("gpu_vram_mb", 0) if known else None,
        )

    def is_overbooked(self, promise: Promise, tasks: Sequence[WorkTask]) -> bool:
        """Whether so many more tasks are too many, by the rules of the filter "room"."""
        asked = [task.resource_requirements for task in tasks]
        usual = sum(min(task.need.memory_mb, self.memory_mb) for task in tasks)
        memory, gpu = sum(need.memory_mb for need in asked), sum(need.gpu_vram_mb for need in asked)
        pairs = (
            (promise.memory_mb + usual, self.memory_mb or None),
            (promise.unseen_memory_mb + memory if memory else 0, self.free_memory_mb),
            (promise.gpu_vram_mb + gpu if gpu else 0, self.gpu_vram_mb),
            (promise.unseen_gpu_vram_mb + gpu if gpu else 0, self.free_gpu_vram_mb),
        )
        return any(there is not None and wanted > there for wanted, there in pairs)


def needs_memory(task: TaskRecord) -> bool:
    """Whether it matters for the task what memory other work was promised."""
    need = task.spec.need
    return bool(need.memory_mb or need.gpu_vram_mb)


@dataclass(slots=True)
class Reservations:
    """Slots and memory taken, beyond what the agents' facts say. `worked` holds (request, agent) pairs of the past."""

    promised: Promised
    worked: set[tuple[UUID, UUID]]
    slots: Counter[str] = field(default_factory=Counter)
    line: Counter[str] = field(default_factory=Counter)
    memory: dict[str, Promise] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.memory.update({str(agent_id): promise for agent_id, promise in self.promised.items()})

    def take(self, agent_id: str, need: Resources) -> None:
        """Count a placement."""
        self.slots[agent_id] += 1
        self.memory[agent_id] = self.memory.get(agent_id, NO_PROMISE).plus(need)

    def wait(self, agent_id: str) -> None:
        """Count a task that waits for the agent."""
        self.line[agent_id] += 1

    def seen_for(self, task: TaskRecord, agents: Sequence[AgentFacts]) -> list[AgentFacts]:
        """Return the facts as they are for this task, after what this transaction has already placed.

        Most agents have nothing to do with it: in a pool of thousands, their facts are shared by all tasks.
        """
        tried = {str(agent_id) for agent_id in task.tried}
        met = {str(agent_id) for request_id, agent_id in self.worked if request_id == task.request_id}
        place = None if task.waits_for is None else str(task.waits_for)
        concerned = tried | met | self.slots.keys() | self.memory.keys() | self.line.keys() | {place}
        return [self._seen(agent, tried, met, place) if agent[0] in concerned else agent for agent in agents]

    def _seen(self, agent: AgentFacts, tried: set[str], met: set[str], place: str | None) -> AgentFacts:
        agent_id = agent.agent_id
        promise = self.memory.get(agent_id, NO_PROMISE)
        return agent._replace(
            in_flight=agent.in_flight + self.slots[agent_id],
            promised_memory_mb=promise.memory_mb,
            promised_gpu_vram_mb=promise.gpu_vram_mb,
            unseen_memory_mb=promise.unseen_memory_mb,
            unseen_gpu_vram_mb=promise.unseen_gpu_vram_mb,
            # Who has a place in the line is called when it is its turn: whoever else waits is behind.
            in_line=0 if agent_id == place else agent.in_line + self.line[agent_id],
            tried=agent_id in tried,
            recent_request=agent_id in met,
        )
