"""How long a task takes and what it uses: from the runs of its intent, else from those of its work type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chargehand.domain.intents import MOST_CORES, MOST_MIB, Resources
from chargehand.domain.plans import WorkTask
from chargehand.domain.routing import AgentFacts, Figures
from chargehand.routing.performance import expected_seconds, is_tricky


class Source(NamedTuple):
    """Runs that an estimate is taken from: of what, and what they came to on each agent. `few` says why no better ones.

    `enough`: they are as many as it takes for anything but a guess of the duration.
    """

    name: str
    figures: Sequence[Figures]
    enough: bool
    few: str = ""

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return sum(seen.runs for seen in self.figures)

    def mean(self, values: Iterable[float | None]) -> float | None:
        """Return the mean of one figure of each agent, by its runs; None where nobody has one."""
        known = [(seen.runs, value) for seen, value in zip(self.figures, values, strict=True) if value is not None]
        return sum(n * value for n, value in known) / sum(n for n, _ in known) if known else None


def estimated(task: WorkTask, agents: Sequence[AgentFacts], minimum: int) -> WorkTask:
    """Return the task with what it can be expected to take; `agents` are those that are there.

    What is declared counts, too: for the duration like a few runs, for resources as the least.
    """
    source = _source(task, agents, minimum)
    if not source.runs:
        return task
    declared = task.resource_requirements
    seconds = max(1, round(expected_seconds(declared.estimated_duration_seconds, _medians(source))))
    asked = declared.model_copy(update={"estimated_duration_seconds": seconds})
    need = _need(asked, source)
    fields = {
        "resource_requirements": asked,
        "measured_need": None if need == asked else need,
        "estimate": _told(task, source, asked, need) + _difficulty(agents, minimum),
    }
    return task.model_copy(update=fields)


def _source(task: WorkTask, agents: Sequence[AgentFacts], minimum: int) -> Source:
    """Return the runs of the intent once there are enough of them, else those of the work type with the reason."""
    own = [agent.of_intent for agent in agents if agent.of_intent is not None and agent.of_intent.p50_ms is not None]
    runs = sum(seen.runs for seen in own)
    if runs and runs >= minimum:
        return Source(task.intent, own, enough=True)
    whole = [seen for agent in agents if (seen := agent.of_work_type).p50_ms is not None and seen.runs]
    few = f"of {task.intent} only {runs}, and it takes {minimum}"
    return Source(task.work_type, whole, sum(seen.runs for seen in whole) >= minimum, few)


def _medians(source: Source) -> list[tuple[int, float]]:
    return [(seen.runs, seen.p50_ms) for seen in source.figures if seen.p50_ms is not None]


def _need(asked: Resources, source: Source) -> Resources:
    """Raise what is asked for to what was used. It is never lowered: the author of the work may know of a rare run."""
    if not source.enough:
        return asked
    memory = source.mean(seen.memory_mb for seen in source.figures)
    cores = source.mean(seen.cpu_cores for seen in source.figures)
    used = {"memory_mb": _whole(memory, MOST_MIB), "cpu_cores": _whole(cores, MOST_CORES)}
    return asked.model_copy(update={name: max(getattr(asked, name), value) for name, value in used.items()})


def _whole(value: float | None, most: int) -> int:
    """Return a measurement as a resource. An agent said it, so it may be anything."""
    return round(min(max(value or 0.0, 0.0), most))


def _told(task: WorkTask, source: Source, asked: Resources, need: Resources) -> str:
    declared = task.resource_requirements.estimated_duration_seconds
    runs = f"{source.runs} run{'' if source.runs == 1 else 's'} of {source.name}"
    spread = source.mean(seen.deviation_ms for seen in source.figures) if source.enough else None
    told = f"{asked.estimated_duration_seconds} s: {declared} s declared, and {runs}"
    told += f", give or take {spread / 1000:.1f} s" if spread else ""
    told += f" ({source.few})" if source.few else ""
    used = [f"{need.memory_mb:,} MiB of memory"] if need.memory_mb > asked.memory_mb else []
    used += [f"{need.cpu_cores} cores"] if need.cpu_cores > asked.cpu_cores else []
    return told + (f"; they used {' and '.join(used)}" if used else "")


def _difficulty(agents: Sequence[AgentFacts], minimum: int) -> str:
    tricky = bool(agents) and is_tricky(agents[0].usual_difficulty, agents[0].judged_runs, minimum)
    return "; usually tricky" if tricky else ""
