"""Agents' reservations within one transaction: those of the database, and each placement on top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from chargehand.domain.intents import Resources
from chargehand.domain.records import TaskRecord
from chargehand.domain.routing import AgentFacts

Promised = Mapping[UUID, tuple[int, int]]
"""Memory and GPU memory (MiB) that each agent's open attempts were promised."""


def needs_memory(task: TaskRecord) -> bool:
    """Whether it matters for the task what memory other work was promised."""
    need = task.spec.resource_requirements
    return bool(need.memory_mb or need.gpu_vram_mb)


@dataclass(slots=True)
class Reservations:
    """Slots and memory taken, beyond what the agents' facts say. `worked` holds (request, agent) pairs of the past."""

    promised: Promised
    worked: set[tuple[UUID, UUID]]
    slots: Counter[str] = field(default_factory=Counter)
    line: Counter[str] = field(default_factory=Counter)
    memory: Counter[str] = field(default_factory=Counter)
    gpu: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.memory.update({str(agent_id): memory for agent_id, (memory, _) in self.promised.items()})
        self.gpu.update({str(agent_id): gpu for agent_id, (_, gpu) in self.promised.items()})

    def take(self, agent_id: str, need: Resources) -> None:
        """Count a placement."""
        self.slots[agent_id] += 1
        self.memory[agent_id] += need.memory_mb
        self.gpu[agent_id] += need.gpu_vram_mb

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
        return agent._replace(
            in_flight=agent.in_flight + self.slots[agent_id],
            promised_memory_mb=self.memory[agent_id],
            promised_gpu_vram_mb=self.gpu[agent_id],
            # Who has a place in the line is called when it is its turn: whoever else waits is behind.
            in_line=0 if agent_id == place else agent.in_line + self.line[agent_id],
            tried=agent_id in tried,
            recent_request=agent_id in met,
        )
