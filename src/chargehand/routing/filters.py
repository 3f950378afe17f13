"""Which agents can have a task, and why each other one cannot. A table of reasons, and the health of a pool.

A preference never overrides a filter: the router scores only those that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from chargehand.domain.intents import Resources
from chargehand.domain.plans import WorkTask
from chargehand.domain.routing import AgentFacts, Candidate

MEMORY, GPU_MEMORY = "MiB of memory", "MiB of GPU memory"
LONGEST_REASON = 160  # an agent's own words in one line of a terminal
AWAY = frozenset({"offline", "draining"})


@dataclass(frozen=True, slots=True)
class Filter:
    """A reason for which an agent cannot have a task.

    `lasting` says when that may pass: `never` by itself, `down` when the agent comes back, `busy` when it gets its
    turn. `one` and `many` finish the sentences "1 ..." and "3 ..."; `{reason}` is what `detail` says of one agent.
    """

    name: str
    rejects: Callable[[WorkTask, AgentFacts], bool]
    lasting: Literal["never", "down", "busy"]
    one: str
    many: str
    detail: Callable[[WorkTask, AgentFacts], str] | None = None
    hint: str = ""
    gives_way: bool = False  # does not apply when it would leave nobody


# What lasts comes first, so that an offline agent that could never do it is not taken for one that soon can.
FILTERS = (
    Filter("offered", lambda t, a: a.content_hash is None, "never", "does not offer it", "do not offer it",
           hint="`chargehand catalog` lists what can be asked for."),
    Filter("granted", lambda t, a: not a.granted, "never", "is not allowed to run it", "are not allowed to run it",
           hint="An operator can allow it; `chargehand agents` shows what each agent offers."),
    Filter("unavailable", lambda t, a: a.unavailable is not None, "never", "{reason}", "cannot ({reason})",
           detail=lambda t, a: one_line(a.unavailable or ""),
           hint="Fix that on the agent's machine, then ask again."),
    Filter("content", lambda t, a: a.content_hash != t.content_hash, "never",
           "has another version of it", "have another version of it",
           hint="The content differs from the plan; ask again for a new plan."),
    Filter("approved", lambda t, a: bool(t.agents) and a.name not in t.agents, "never",
           "offers it since after the plan was made", "offer it since after the plan was made",
           hint="The plan names the agents that may run it; ask again for a new plan."),
    Filter("size", lambda t, a: not fits(t.resource_requirements, a), "never", "{reason}", "are too small for it",
           detail=lambda t, a: shortage(t.resource_requirements, a),
           hint="It needs an agent on a larger machine, or a smaller variant of the work."),
    Filter("pin", lambda t, a: t.pinned_agent not in (None, a.agent_id, a.name), "never",
           "is not the agent it is pinned to", "are not the agent it is pinned to",
           hint="Pin it to an agent that can run it, or to none."),
    Filter("online", lambda t, a: a.status == "offline", "down", "offline", "offline"),
    Filter("draining", lambda t, a: a.status == "draining", "down", "draining", "draining"),
    Filter("circuit", lambda t, a: a.circuit_open_for > 0, "down", "resting after failures", "resting after failures",
           detail=lambda t, a: f"resting for {a.circuit_open_for:.0f} s after failures in a row"),
    Filter("slots", lambda t, a: a.in_flight >= a.slots, "busy", "full", "full",
           detail=lambda t, a: f"full ({a.in_flight} of {a.slots} slots taken)"),
    Filter("room", lambda t, a: bool(lack_of_room(t, a)), "busy", "{reason}", "have no room now",
           detail=lambda t, a: f"busy: {lack_of_room(t, a)}"),
    # What was measured is no demand: where nobody has as much, the work must have run with less.
    Filter("usual", lambda t, a: bool(below_usual(t, a)), "busy", "{reason}", "have less than it usually takes",
           detail=lambda t, a: f"usually {below_usual(t, a)}", gives_way=True),
    Filter("tried", lambda t, a: a.tried, "busy", "tried before", "tried before", gives_way=True),
)  # fmt: skip

WAITABLE = "slots"  # what passes by itself, and by when can be guessed

FILTER = {filter_.name: filter_ for filter_ in FILTERS}
YIELDING = tuple(filter_ for filter_ in FILTERS if filter_.gives_way)


def is_sized(need: Resources) -> bool:
    """Whether a task needs anything that a machine could lack: one core they all have."""
    return bool(need.gpu_vram_mb or need.memory_mb or need.cpu_cores > 1)


def passes(task: WorkTask, agent: AgentFacts, sized: bool = True) -> bool:
    """Whether no filter rejects the agent, those that give way apart. Says the same as the table, faster; a test holds
    it to that.

    In a pool of thousands this is asked of each; a reason is found only for those that are shown. `sized` is whether
    the task `is_sized`: what is not fits everywhere.
    """
    return (
        agent.content_hash == task.content_hash
        and agent.granted
        and (not task.agents or agent.name in task.agents)
        and agent.unavailable is None
        and agent.status not in AWAY
        and agent.in_flight < agent.slots
        and agent.circuit_open_for <= 0
        and (task.pinned_agent is None or task.pinned_agent in (agent.agent_id, agent.name))
        and (not sized or (fits(task.resource_requirements, agent) and has_room(task, agent)))
    )


def rejections(task: WorkTask, agents: Sequence[AgentFacts]) -> list[Candidate | None]:
    """Apply `FILTERS` in their order. Return for each agent why it cannot have the task, or None where it can.

    What gives way rejects an agent only where it leaves another one.
    """
    sized = is_sized(task.need)
    sifted = [None if passes(task, agent, sized) else rejection(_first(task, agent), task, agent) for agent in agents]
    for filter_ in YIELDING:
        if filter_.name == "tried" and True not in [agent.tried for agent in agents]:
            continue
        if filter_.name == "usual" and task.measured_need is None:
            continue
        sifted = _yielding(filter_, task, agents, sifted)
    return sifted


def _yielding(
    filter_: Filter, task: WorkTask, agents: Sequence[AgentFacts], sifted: list[Candidate | None]
) -> list[Candidate | None]:
    """Apply a filter that gives way to those that are able so far."""
    against = [why is None and filter_.rejects(task, a) for a, why in zip(agents, sifted, strict=True)]
    if True not in against or against.count(True) == sifted.count(None):
        return sifted
    return [
        rejection(filter_, task, a) if rejects else why for a, why, rejects in zip(agents, sifted, against, strict=True)
    ]


def _first(task: WorkTask, agent: AgentFacts) -> Filter:
    return next(filter_ for filter_ in FILTERS if filter_.rejects(task, agent))


State = Literal["available", "unavailable", "infeasible"]


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """Whether anybody can do a task: now or in its turn (`available`), only when an agent comes back (`unavailable`),
    or not as things are (`infeasible`). `reason` counts why the others cannot."""

    state: State
    reason: str
    hint: str = ""


def pool_health(task: WorkTask, agents: Sequence[AgentFacts], others: int = 0) -> PoolHealth:
    """Look at a pool before anything is started. No known agent at all is infeasible.

    `others` is how many agents there are beside these, which do not offer it.
    """
    rejected = [why for why in rejections(task, agents) if why is not None]
    reason = counted(rejected, task.intent, of=len(agents), others=others)
    lasting = {FILTER[candidate.rejected_by or ""].lasting for candidate in rejected}
    if len(rejected) < len(agents) or "busy" in lasting:
        return PoolHealth("available", reason)
    if "down" in lasting:
        return PoolHealth("unavailable", reason)
    return PoolHealth("infeasible", reason, _way_out(rejected))


def counted(candidates: Iterable[Candidate], intent: str, *, of: int | None = None, others: int = 0) -> str:
    """Count who cannot and why, who came closest first: `0/3 agents can run deploy_service: 1 full, 2 offline`.

    `of` is how many were looked at, where not all are given; `others` do not offer it and were not looked at.
    """
    looked_at = list(candidates)
    rejected = [candidate for candidate in looked_at if candidate.rejected_by is not None]
    rejected += [Candidate("", "", FILTERS[0].name, FILTERS[0].one)] * others
    total = (len(looked_at) if of is None else of) + others
    why = _counts(rejected) or ("no agent is known" if not total else "")
    return f"{total - len(rejected)}/{total} agents can run {intent}" + (f": {why}" if why else "")


def _counts(rejected: Sequence[Candidate]) -> str:
    groups: dict[str, list[str]] = {}
    for candidate in sorted(rejected, key=_closeness, reverse=True):
        one, many = _phrases(candidate)
        groups.setdefault(many, []).append(one)
    return ", ".join(f"{len(ones)} {ones[0] if len(ones) == 1 else many}" for many, ones in groups.items())


def _phrases(candidate: Candidate) -> tuple[str, str]:
    """What to say of this candidate alone, and of it with others like it."""
    filter_ = FILTER.get(candidate.rejected_by or "")
    if filter_ is None:  # stored by a version with other filters
        return candidate.reason, candidate.reason
    return filter_.one.format(reason=candidate.reason), filter_.many.format(reason=candidate.reason)


def _closeness(candidate: Candidate) -> int:
    """How many filters it passed."""
    return next((place for place, filter_ in enumerate(FILTERS) if filter_.name == candidate.rejected_by), len(FILTERS))


def _way_out(rejected: Iterable[Candidate]) -> str:
    closest = max(rejected, key=_closeness, default=None)
    if closest is None:
        return "Start an agent that offers it."
    return FILTER[closest.rejected_by or ""].hint


def never(candidate: Candidate) -> bool:
    """Whether the candidate could not have the task however long one waited."""
    return candidate.rejected_by is not None and FILTER[candidate.rejected_by].lasting == "never"


def rejection(filter_: Filter, task: WorkTask, agent: AgentFacts) -> Candidate:
    """Return the candidate with what that filter says of it."""
    reason = filter_.detail(task, agent) if filter_.detail else filter_.one
    return Candidate(agent.agent_id, agent.name, filter_.name, reason, facts=agent)


def fits(need: Resources, agent: AgentFacts) -> bool:
    """Whether a task could ever fit on the agent's whole machine."""
    return (  # as `_sizes` has them; asked of each agent
        need.gpu_vram_mb <= agent.gpu_vram_mb
        and need.cpu_cores <= (agent.cpu_cores or need.cpu_cores)
        and need.memory_mb <= (agent.memory_mb or need.memory_mb)
    )


def has_room(task: WorkTask, agent: AgentFacts) -> bool:
    """Whether there is enough memory that its running work was not promised, and that was free at its last heartbeat.

    Cores are counted by its slots: the load of a machine is no reason to let work wait for ever.
    """
    return all(wanted <= left for wanted, left, _ in _memories(task, agent))


def lack_of_room(task: WorkTask, agent: AgentFacts) -> str:
    """Name what there is too little of now; empty where `has_room` says yes."""
    lacking = [room for room in _memories(task, agent) if room[0] > room[1]]
    return "; ".join(f"needs {wanted:,} {unit}, {max(0, left):,} left" for wanted, left, unit in lacking)


def _memories(task: WorkTask, agent: AgentFacts) -> Iterator[tuple[int, int, str]]:
    """What is needed, what is left for it, and its unit, of each kind of memory that is needed and known of.

    What is declared must be left by the agent's work and by others. What was only measured must be left by the agent's
    work: that ends, so the wait does.
    """
    asked, usual = task.resource_requirements, task.need
    if asked.gpu_vram_mb:
        unpromised = agent.gpu_vram_mb - agent.promised_gpu_vram_mb
        yield asked.gpu_vram_mb, _left(unpromised, agent.free_gpu_vram_mb, agent.unseen_gpu_vram_mb), GPU_MEMORY
    left = agent.memory_mb - agent.promised_memory_mb
    if asked.memory_mb and agent.memory_mb:
        yield asked.memory_mb, _left(left, agent.free_memory_mb, agent.unseen_memory_mb), MEMORY
    if usual.memory_mb > asked.memory_mb and agent.memory_mb:
        yield min(usual.memory_mb, agent.memory_mb), left, MEMORY


def _left(unpromised: int, free: int | None, unseen: int) -> int:
    """What can still be given away: nothing that is promised, and nothing that others use or are about to."""
    return unpromised if free is None else min(unpromised, free - unseen)


def below_usual(task: WorkTask, agent: AgentFacts) -> str:
    """Name what the work usually takes and the agent does not have, or not free; empty where it has enough."""
    if task.measured_need is None:
        return ""
    if not fits(task.need, agent):
        return shortage(task.need, agent)
    left = _left(task.need.memory_mb, agent.free_memory_mb, agent.unseen_memory_mb)
    short = agent.memory_mb and task.need.memory_mb > left
    return f"needs {task.need.memory_mb:,} {MEMORY}, {max(0, left):,} free" if short else ""


def shortage(need: Resources, agent: AgentFacts) -> str:
    """Name what is needed and the machine does not have, where `fits` says no."""
    lacking = [f"{wanted:,} {unit}, has {there:,}" for wanted, there, unit in _sizes(need, agent) if wanted > there]
    return "needs " + "; ".join(lacking)


def _sizes(need: Resources, agent: AgentFacts) -> tuple[tuple[int, int, str], ...]:
    """No cores or no memory at all means that the agent did not say; no GPU memory means that it has none."""
    return (
        (need.gpu_vram_mb, agent.gpu_vram_mb, GPU_MEMORY),
        (need.cpu_cores, agent.cpu_cores or need.cpu_cores, "cores"),
        (need.memory_mb, agent.memory_mb or need.memory_mb, MEMORY),
    )


def one_line(text: str) -> str:
    """An agent's own words, made safe to show: one line, printable, not too long."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."
