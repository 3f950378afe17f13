"""From what was understood to what will be done: typed tasks in order, or a refusal that counts its reasons.

make_plan(decomposed, catalog, pool facts) -> WorkPlan, with the digest that an approval binds to
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal
from uuid import UUID

from chargehand.catalog import output_links
from chargehand.catalog.catalog import Catalog, check_parameters, exclusive_keys
from chargehand.catalog.targets import targeted
from chargehand.domain.errors import BadDecomposition, Infeasible
from chargehand.domain.intents import IntentSpec, Otherwise, Resources
from chargehand.domain.plans import WAITS, DecomposedRequest, Subtask, WorkPlan, WorkTask
from chargehand.domain.records import Staff
from chargehand.domain.risks import RISKS
from chargehand.domain.routing import AgentFacts
from chargehand.planning.dependencies import check_dependencies, places_before, topological
from chargehand.planning.digest import digest
from chargehand.planning.estimates import estimated
from chargehand.planning.scheduling import ordering
from chargehand.routing.filters import PoolHealth, State, one_line, pool_health
from chargehand.routing.overtaking import may_overtake
from chargehand.routing.performance import MINIMUM_RUNS

Pool = Mapping[str, Sequence[AgentFacts]]

COMPLEX_WORK = frozenset({"research", "code_gen", "architecture_review"})  # a local model is not up to these
MANY_HANDOVERS = 3  # between agent types; more make a plan complex
MANY_TASKS = 3  # more make a plan medium
TOO_FINE = 5  # more than this for one request is usually a request cut too small

WAIT = "It can wait until an agent is back (`--otherwise wait`), or be done at a given time (`--at TIME`)."


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What a plan needs from outside: ids (one per subtask), the time, and how the user wants it run."""

    plan_id: UUID
    task_ids: Sequence[UUID]
    now: datetime
    version: int = 1
    mode: str = "sequential"
    dry_run: bool = False
    otherwise: Collection[Otherwise] = ()
    may_wait: bool = False
    agents: int | None = None  # enrolled in all, where it matters to count those that do not offer it
    minimum_runs: int = MINIMUM_RUNS  # of an intent, before its own figures count


def make_plan(decomposed: DecomposedRequest, catalog: Catalog, pool: Pool, facts: PlanFacts) -> WorkPlan:
    """Make the plan. `pool` holds what is known of every agent, by intent.

    Raises `Infeasible` when no agent could ever do a task, or nobody can do one of them now and the request may not
    wait, `BadDecomposition` for an unknown intent, a dependency that
    is not there or goes in a circle, or an open question, `BadParameters` for parameters that do not fit. When nobody
    can do a task just now and it may wait, the plan is made and says so.
    """
    drafts = _drafts(decomposed, catalog, pool, facts)
    check_dependencies(drafts)
    drafts, health, taken = _with_alternatives(drafts, catalog, pool, facts)
    _refuse(drafts, health, catalog, pool, facts)
    known = [(_estimated(task, agents, facts), agents) for task, agents in _with_pool(drafts, pool)]
    drafts = [_offered_by(task, agents, catalog) for task, agents in known]
    held = {order: seen.reason for order, seen in health.items() if seen.state == "unavailable"}
    sequence = _sequence(drafts, pool, held, facts.mode)
    tasks = _in_sequence(drafts, sequence, set(health) if "wait" in facts.otherwise else ())
    waits = {place: held[order] for place, order in enumerate(sequence, start=1) if order in held}
    plan = WorkPlan(
        plan_id=facts.plan_id,
        request_id=decomposed.request_id,
        version=facts.version,
        tasks=tasks,
        estimated_duration_seconds=_duration(tasks, facts.mode),
        complexity_level=complexity(tasks),
        created_at=facts.now,
        mode="parallel" if facts.mode == "parallel" else "sequential",
        dry_run=facts.dry_run,
        notes=(*_notes(decomposed, tasks, waits), *taken, *_why_this_order(sequence, facts.mode)),
        out_of_scope=decomposed.out_of_scope,
    )
    return plan.model_copy(update={"digest": digest(plan)})


def why_infeasible(decomposed: DecomposedRequest, catalog: Catalog, pool: Pool, facts: PlanFacts) -> Infeasible:
    """Return what `make_plan` raised, told with all that `facts` count: who does not offer it, too."""
    try:
        make_plan(decomposed, catalog, pool, facts)
    except Infeasible as error:
        return error
    raise AssertionError("a plan became possible by counting agents")


def asked_of_pool(decomposed: DecomposedRequest, catalog: Catalog) -> list[tuple[str, str]]:
    """Return the (intent, work type) pairs whose agents `make_plan` needs to know about."""
    intents = dict.fromkeys(subtask.intent for subtask in decomposed.subtasks)
    specs = (_spec(intent, catalog) for intent in intents)
    return [(spec.intent, spec.work_type) for spec in specs if spec is not None]


def complexity(tasks: Sequence[WorkTask]) -> Literal["simple", "medium", "complex"]:
    """Assess a plan by its work types, its hand-overs between types of agents and its length."""
    handovers = sum(one.agent_type != other.agent_type for one, other in pairwise(tasks))
    if handovers > MANY_HANDOVERS or any(task.work_type in COMPLEX_WORK for task in tasks):
        return "complex"
    return "medium" if len(tasks) > MANY_TASKS else "simple"


# --- subtasks to tasks, numbered as the decomposer numbered them -----------------------------------------------------


def _drafts(decomposed: DecomposedRequest, catalog: Catalog, pool: Pool, facts: PlanFacts) -> list[WorkTask]:
    if decomposed.ambiguities:
        raise BadDecomposition(f"a person must answer first: {decomposed.ambiguities[0]}")
    if not decomposed.subtasks:
        raise BadDecomposition("there is nothing in it that an agent can do")
    pairs = [(subtask, _known(subtask, catalog, pool)) for subtask in decomposed.subtasks]
    if facts.dry_run:
        _check_dry_run([spec for _, spec in pairs])
    _check_inputs(decomposed.subtasks, catalog)
    return [
        _draft(subtask, spec, task_id, _dependencies(subtask, spec, decomposed.subtasks))
        for (subtask, spec), task_id in zip(pairs, facts.task_ids, strict=True)
    ]


def _spec(intent: str, catalog: Catalog, agents: Sequence[AgentFacts] = ()) -> IntentSpec | None:
    """Return the spec to plan by: of several versions one that an agent has which is there."""
    there = {agent.content_hash for agent in agents if agent.content_hash and agent.granted and _is_there(agent)}
    return catalog.offered_as(intent, there)


def _known(subtask: Subtask, catalog: Catalog, pool: Pool) -> IntentSpec:
    spec = _spec(subtask.intent, catalog, pool.get(subtask.intent, ()))
    if spec is None:
        known = ", ".join(catalog.intents) or "nothing yet"
        raise BadDecomposition(f"no agent offers {one_line(subtask.intent)!r}", hint=f"What is offered: {known}.")
    return spec


def _check_dry_run(specs: Sequence[IntentSpec]) -> None:
    """A dry run needs no approval, so that nothing may slip through that would really be done."""
    unable = sorted({spec.intent for spec in specs if not spec.dry_run and RISKS[spec.risk].changes})
    if unable:
        raise Infeasible(
            f"{', '.join(unable)} cannot be tried without changing anything",
            hint="Ask without the dry run: the plan is shown, and nothing starts before you agree.",
        )


def _check_inputs(subtasks: Sequence[Subtask], catalog: Catalog) -> None:
    """References were checked when they were made, but against what was offered then."""
    for subtask in subtasks:
        for problem in output_links.problems(subtask, subtasks, catalog):
            raise BadDecomposition(f"step {subtask.order}: {problem}")


def _dependencies(subtask: Subtask, spec: IntentSpec, subtasks: Sequence[Subtask]) -> tuple[int, ...]:
    """What the request says, what gives it a value, and what the intent itself must always come after."""
    first = set(spec.after) - {spec.intent}
    by_nature = {other.order for other in subtasks if other.intent in first}
    givers = {ref.task for ref in subtask.inputs.values()}
    return tuple(sorted({*subtask.depends_on, *givers, *by_nature}))


def _draft(subtask: Subtask, spec: IntentSpec, task_id: UUID, depends_on: tuple[int, ...]) -> WorkTask:
    parameters = check_parameters(spec, subtask.parameters, later=subtask.inputs.keys())
    return WorkTask(
        task_id=task_id,
        order=subtask.order,
        name=subtask.name or spec.description or spec.intent,
        intent=spec.intent,
        work_type=spec.work_type,
        agent_type=spec.agent_type,
        parameters=parameters,
        inputs=subtask.inputs,
        takes=output_links.taken(spec, subtask.inputs),
        outputs=spec.outputs,
        subtask=subtask.order,
        resource_requirements=spec.resources,
        depends_on=depends_on,
        risk=spec.risk,
        retry_safe=spec.retry_safe,
        deadlines=spec.deadlines,
        exclusive_keys=exclusive_keys(spec, parameters),
        content_hash=spec.content_hash,
        hosts=targeted(spec, parameters, subtask.limit),
        limit=subtask.limit,
        state=spec.state,
        confidence=subtask.confidence,
        flags=(*subtask.flags, *spec.cautions),
        pinned_agent=subtask.pinned_agent,
        source=spec.source,
    )


# --- who could do it, and in which order -----------------------------------------------------------------------------


def _with_alternatives(
    drafts: Sequence[WorkTask], catalog: Catalog, pool: Pool, facts: PlanFacts
) -> tuple[list[WorkTask], dict[int, PoolHealth], list[str]]:
    """Return the tasks, those that nobody can do as asked as a variant where that is allowed, and notes about it."""
    tasks, health, notes = [], {}, []
    for draft in drafts:
        agents = pool.get(draft.intent, ())
        seen, task = pool_health(draft, agents, max(0, (facts.agents or 0) - len(agents))), draft
        wanted = seen.state != "available" and "variant" in facts.otherwise
        variant = _variant(draft, catalog, pool) if wanted else None
        if variant is not None:
            name, task = variant
            notes.append(f"{draft.name} is done as {name}: {seen.reason}")
            seen = PoolHealth("available", seen.reason)
        tasks.append(task)
        health[draft.order] = seen
    return tasks, health, notes


def _variant(draft: WorkTask, catalog: Catalog, pool: Pool) -> tuple[str, WorkTask] | None:
    """Return the first variant of a task that somebody can do, with its name."""
    spec = _spec(draft.intent, catalog, pool.get(draft.intent, ()))
    for variant in spec.variants if spec else ():
        if not draft.inputs.keys().isdisjoint(variant.parameters):
            continue  # its value is not the one that was asked for
        given = {**draft.parameters, **variant.parameters}
        parameters = check_parameters(spec, given, later=draft.inputs.keys()) if spec else {}
        hosts = targeted(spec, parameters, draft.limit) if spec else ()
        changes = {"resource_requirements": variant.resources, "parameters": parameters, "hosts": hosts}
        task = draft.model_copy(update=changes)
        if pool_health(task, pool.get(draft.intent, ())).state == "available":
            return variant.name, task
    return None


def _refuse(
    drafts: Sequence[WorkTask], health: Mapping[int, PoolHealth], catalog: Catalog, pool: Pool, facts: PlanFacts
) -> None:
    """Raise `Infeasible` for what can never be done, and for what nobody can do now unless it may wait.

    One such step is enough: whoever asked has not agreed to a wait of which nobody knows the end.
    """
    infeasible = [task for task in drafts if health[task.order].state == "infeasible"]
    away = [task for task in drafts if health[task.order].state == "unavailable" and not facts.may_wait]
    stopped = infeasible or away
    if not stopped:
        return
    variant = _variant(stopped[0], catalog, pool)
    if variant is not None:
        hint = f"It can be done as {variant[0]}: say so with `--otherwise variant`."
    else:
        hint = health[infeasible[0].order].hint if infeasible else WAIT
    raise Infeasible("; ".join(_judged(stopped, drafts, health)), hint=hint)


HEALTH: Mapping[State, str] = {
    "available": "can be done",
    "unavailable": "has nobody to do it now",
    "infeasible": "cannot be done",
}
"""What is said of a step by the health of its pool."""


def _judged(stopped: Sequence[WorkTask], drafts: Sequence[WorkTask], health: Mapping[int, PoolHealth]) -> Iterator[str]:
    """Say of each step that stops a request why, and which of the others could be done."""
    if len(drafts) == 1:
        yield health[stopped[0].order].reason
        return
    for task in stopped:
        seen = health[task.order]
        yield f"step {task.order} ({one_line(task.name)}) {HEALTH[seen.state]}: {seen.reason}"
    able = [str(task.order) for task in drafts if health[task.order].state == "available"]
    if able:
        yield f"{HEALTH['available']}: step {', '.join(able)}"


def _estimated(task: WorkTask, agents: Sequence[AgentFacts], facts: PlanFacts) -> WorkTask:
    return estimated(task, [agent for agent in agents if _is_there(agent)], facts.minimum_runs)


def _with_pool(tasks: Iterable[WorkTask], pool: Pool) -> Iterator[tuple[WorkTask, Sequence[AgentFacts]]]:
    return ((task, pool.get(task.intent, ())) for task in tasks)


def _offered_by(task: WorkTask, agents: Sequence[AgentFacts], catalog: Catalog) -> WorkTask:
    """Name the agents whose offer the task is, whether they are there or not, and how other offers differ."""
    able = sorted(agent.name for agent in agents if agent.granted and agent.content_hash == task.content_hash)
    return task.model_copy(update={"agents": tuple(able), "contested": catalog.contested.get(task.intent, "")})


def nobody_there(staff: Sequence[Staff]) -> str | None:
    """Return why nothing at all can be done now, counted; None when somebody is there, or no agent is known yet."""
    reasons = Counter(
        agent.status if agent.status in ("offline", "draining") else "resting after failures"
        for agent in staff
        if agent.status in ("offline", "draining") or agent.circuit_open_for > 0
    )
    if not staff or reasons.total() < len(staff):
        return None
    counts = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
    return f"0/{len(staff)} agents are there: {counts}"


def _capacity(tasks: Sequence[WorkTask], pool: Pool) -> Resources:
    """What the agents that are there have together, memory as far as it is free at their last heartbeats.

    One that does not say its size is taken to be large enough.
    """
    there = {agent.agent_id: agent for agents in pool.values() for agent in agents if _is_there(agent)}.values()
    needs = [task.need for task in tasks]
    return Resources(
        cpu_cores=sum(agent.cpu_cores or sum(need.cpu_cores for need in needs) for agent in there),
        memory_mb=sum(_free(agent) or sum(need.memory_mb for need in needs) for agent in there),
        gpu_vram_mb=sum(_at_most(agent.gpu_vram_mb, agent.free_gpu_vram_mb) for agent in there),
    )


def _free(agent: AgentFacts) -> int:
    return _at_most(agent.memory_mb, agent.free_memory_mb)


def _at_most(there: int, free: int | None) -> int:
    return there if free is None else min(there, free)


def _is_there(agent: AgentFacts) -> bool:
    return agent.status in ("online", "busy") and agent.circuit_open_for <= 0


def _in_sequence(drafts: Sequence[WorkTask], sequence: Sequence[int], waiting: Collection[int]) -> tuple[WorkTask, ...]:
    """Number the tasks in the order they will be done; those in `waiting` may wait for an agent without end."""
    by_order = {task.order: task for task in drafts}
    place = {order: n for n, order in enumerate(sequence, start=1)}
    return tuple(
        by_order[order].model_copy(
            update={
                "order": place[order],
                "depends_on": tuple(sorted(place[other] for other in by_order[order].depends_on)),
                "inputs": {
                    name: ref.model_copy(update={"task": place[ref.task]})
                    for name, ref in by_order[order].inputs.items()
                },
                # Only that it may wait: why it must is true for a moment, and the digest covers this.
                "alternatives": (WAITS,) if order in waiting else (),
            }
        )
        for order in sequence
    )


def _duration(tasks: Sequence[WorkTask], mode: str) -> int:
    if mode == "parallel":
        return ordering.critical_path(tasks)
    return sum(task.resource_requirements.estimated_duration_seconds for task in tasks)


def _notes(decomposed: DecomposedRequest, tasks: Sequence[WorkTask], waits: Mapping[int, str]) -> Iterator[str]:
    if decomposed.notice:
        yield decomposed.notice
    yield from (f"assumed: {assumption}" for assumption in decomposed.assumptions)
    for task in tasks:
        yield from (f"step {task.order} ({task.name}): {flag}" for flag in task.flags)
    for order, reason in sorted(waits.items()):
        words = "waits for as long as it takes" if tasks[order - 1].may_wait else HEALTH["unavailable"]
        yield f"step {order} {words}: {reason}{_meanwhile(tasks, order)}"
    if len(tasks) > TOO_FINE:
        yield f"this request has {len(tasks)} steps; could some be combined?"


def _sequence(drafts: Sequence[WorkTask], pool: Pool, held: Collection[int], mode: str) -> tuple[int, ...]:
    """Return the tasks' orders in the sequence of the plan: side by side the fastest, else the one asked for."""
    if mode == "parallel":
        return ordering.order(drafts, _capacity(drafts, pool), held=frozenset(held))
    before = places_before(drafts)
    asked = topological(before, [task.order for task in drafts])
    return tuple(drafts[index].order for index in asked)


def _meanwhile(tasks: Sequence[WorkTask], waiting: int) -> str:
    """Say which steps may go before one that waits, while it cannot start."""
    free = []
    for place, task in enumerate(tasks):
        if task.order > waiting and may_overtake(task, tasks[waiting - 1 : place]):
            free.append(str(task.order))
    return f"; step {' and '.join(free)} may go first meanwhile" if free else ""


ORDER_CHANGED = {
    "parallel": "the steps as a whole end soonest in this order",
    "sequential": "a step comes after those that it depends on",
}


def _why_this_order(sequence: Sequence[int], mode: str) -> Iterator[str]:
    if list(sequence) != sorted(sequence):
        asked = ", ".join(str(order) for order in sequence)
        yield f"asked for in another order ({asked}): {ORDER_CHANGED[mode]}"
