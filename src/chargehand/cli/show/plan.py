"""A plan as a numbered list: what a person agrees to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from chargehand.app.snapshot import Decomposition, Plan, Request
from chargehand.cli.show.inputs import references
from chargehand.cli.terminal.lines import Line, clock, count, lasting, said, short
from chargehand.domain.hosts import told
from chargehand.domain.intents import Resources
from chargehand.domain.plans import WorkPlan, WorkTask
from chargehand.domain.risks import RISKS

MOST_AGENTS = 8  # that are named beside a step; `status --json` has them all
MAX_VALUE = 200  # characters of one parameter; `status --json` has it all


def plan_lines(request: Request, stored: Plan, decomposition: Decomposition | None) -> list[Line]:
    """Return a stored plan with everything its approval should look at."""
    plan, tasks = stored.plan, stored.plan.tasks
    title = f"{'Dry run' if plan.dry_run else 'Plan'} for “{request.wording}”"
    lines = [Line(title, "title")]
    for task in tasks:
        lines += _task(task, tasks)
    lines += [Line(f"Left out: no agent here can do “{wish}”", "warn", 2) for wish in plan.out_of_scope]
    lines += _notes(plan, decomposition)
    how = "one after the other" if plan.mode == "sequential" else "side by side where possible"
    total = lasting(plan.estimated_duration_seconds)
    if request.not_before:
        lines.append(Line(f"Starts at {clock(request.not_before)}, or later", "", 2))
    what = f"{count(len(tasks), 'step')}, {how}; about {total}; plan {stored.version}, {short(stored.digest)}"
    return [*lines, Line(what, "dim", 2)]


def resources(needs: Resources) -> str:
    """Return what a task needs: `1 core, 64 MB, about 6 s`."""
    parts = [count(needs.cpu_cores, "core")] if needs.cpu_cores else []
    parts += [f"{needs.memory_mb} MB"] if needs.memory_mb else []
    parts += [f"{needs.gpu_vram_mb} MB of GPU memory"] if needs.gpu_vram_mb else []
    return ", ".join([*parts, f"about {lasting(needs.estimated_duration_seconds)}"])


def may_run(task: WorkTask) -> str:
    """Return who may run a step, to be put behind where it comes from: `; may run on nas-1, nas-2`."""
    if task.pinned_agent:
        return f"; only on {task.pinned_agent}"
    named = task.agents[:MOST_AGENTS]
    more = f" and {len(task.agents) - MOST_AGENTS} more" if len(task.agents) > MOST_AGENTS else ""
    return f"; may run on {', '.join(named)}{more}" if named else ""


def parameters(given: Mapping[str, JsonValue]) -> str:
    """Return parameters on one line; of a long value its length is told."""
    return ", ".join(f"{name} = {said(value, MAX_VALUE)}" for name, value in given.items())


def _task(task: WorkTask, tasks: Sequence[WorkTask]) -> Iterator[Line]:
    yield Line(f"{task.order}. {task.name}", "title", 2)
    after = f"; after {', '.join(map(str, task.depends_on))}" if task.depends_on else ""
    traits = RISKS[task.risk]
    repeat = "; not safe to repeat" if traits.changes and not task.retry_safe else ""
    risk = f"{traits.shown}; {resources(task.resource_requirements)}{after}{repeat}"
    yield Line(risk, "bad" if traits.final else "", 5)
    if task.parameters:
        yield Line(f"with {parameters(task.parameters)}", "", 5)
    yield from references(task, tasks)
    if task.hosts:
        yield Line(f"on {told(task.hosts)}", "", 5)
    if task.state:
        yield Line(f"may write {', '.join(said(path) for path in task.state)} in its project", "", 5)
    if task.contested:
        yield Line(f"agents do not agree on what this is: {task.contested}", "warn", 5)
    yield Line(f"{task.intent} from {task.source or 'the agent'}{may_run(task)}", "dim", 5)


def _notes(plan: WorkPlan, decomposition: Decomposition | None) -> Iterator[Line]:
    notice = decomposition.value.notice if decomposition else ""
    if decomposition:
        yield Line(f"Read by: {decomposition.model} ({decomposition.tier})", "dim", 2)
    for note in plan.notes:
        yield Line(note, "dim" if note == notice else "warn", 2)
