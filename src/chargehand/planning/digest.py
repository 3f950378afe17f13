"""The digest of a plan: what an approval binds to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from chargehand.domain.canonical import canonical
from chargehand.domain.canonical import digest as digest_of
from chargehand.domain.plans import WorkPlan, WorkTask


def digest(plan: WorkPlan) -> str:
    """Return the hex SHA-256 over what is approved: content, not names, times, estimates, ids or numbering.

    The order of tasks counts only where one depends on another. So dependencies are written between labels that are
    found from the content, and two plans that differ only in the order of independent tasks have one digest.
    """
    place = {task.order: n for n, task in enumerate(plan.tasks)}
    before = [frozenset((place[order], _passed(task, order)) for order in task.depends_on) for task in plan.tasks]
    contents = [_covered(task) for task in plan.tasks]
    labels = _labels([canonical(content) for content in contents], before)
    tasks: list[dict[str, Any]] = [{} for _ in labels]
    for n, label in enumerate(labels):
        tasks[label] = {**contents[n], "depends_on": sorted(labels[other] for other, _ in before[n])}
        if plan.tasks[n].inputs:
            refs = plan.tasks[n].inputs.items()
            tasks[label] |= {"inputs": {name: [labels[place[ref.task]], ref.output] for name, ref in refs}}
    covered = {"mode": plan.mode, "dry_run": plan.dry_run, "tasks": tasks}
    return digest_of(covered)


def _passed(task: WorkTask, order: int) -> str:
    """Return what a task takes from one that it depends on: two givers that are alike are told apart by it."""
    taken = {name: ref.output for name, ref in task.inputs.items() if ref.task == order}
    return canonical(taken) if taken else ""


def _covered(task: WorkTask) -> dict[str, Any]:
    hosts = sorted([part.digest, part.count] for part in task.hosts)
    # What says nothing is left out: a plan that was approved before there was a field for it keeps its digest.
    said = {
        "takes": task.takes,
        "outputs": task.outputs,
        "hosts": hosts,
        "state": task.state,
        "retry_safe": task.retry_safe,
        "agents": sorted(task.agents),
    }
    return {
        "intent": task.intent,
        "content_hash": task.content_hash,
        "parameters": task.parameters,
        "risk": task.risk,
        "resources": task.resource_requirements.model_dump(exclude={"estimated_duration_seconds"}),
        "exclusive_keys": sorted(task.exclusive_keys),
        "pinned_agent": task.pinned_agent,
        "alternatives": [other.model_dump() for other in task.alternatives],
        **{name: value for name, value in said.items() if value},
    }


Edges = frozenset[tuple[int, str]]
"""The tasks on the other end of dependencies, each with what is passed along."""


def _labels(contents: Sequence[str], before: Sequence[Edges]) -> list[int]:
    """Number tasks 0, 1, ... by content and place among the dependencies, whatever order they are listed in.

    Equal tasks are told apart by what they wait for and what waits for them, again and again until that changes
    nothing. What is then still equal is interchangeable, so the listed order may break the tie. (In contrived graphs
    it is not. Such a plan, listed otherwise, is asked about again; two different plans never share a digest.)
    """
    after = [
        frozenset((m, what) for m, others in enumerate(before) for other, what in others if other == n)
        for n in range(len(before))
    ]
    labels = _ranks(contents)
    while len(set(labels)) < len(labels):
        around = [_around(labels, before[n], after[n]) for n in range(len(labels))]
        refined = _ranks(list(zip(labels, around, strict=True)))
        labels = refined if refined != labels else _break_tie(labels, before, after)
    return labels


def _around(labels: Sequence[int], *neighbours: Edges) -> tuple[tuple[tuple[int, str], ...], ...]:
    return tuple(tuple(sorted((labels[n], what) for n, what in some)) for some in neighbours)


def _break_tie(labels: list[int], before: Sequence[Edges], after: Sequence[Edges]) -> list[int]:
    """Tell one of the first equal tasks from the rest, with all that have the very same neighbours."""
    shared = min(label for label, count in Counter(labels).items() if count > 1)
    first = labels.index(shared)
    twins = [
        n
        for n, label in enumerate(labels)
        if label == shared and (before[n], after[n]) == (before[first], after[first])
    ]
    return _ranks([(label, n if n in twins else len(labels)) for n, label in enumerate(labels)])


def _ranks(keys: Sequence[Any]) -> list[int]:
    number = {key: n for n, key in enumerate(sorted(set(keys)))}
    return [number[key] for key in keys]
