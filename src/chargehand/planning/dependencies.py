"""Which task must come before which: checked once, then relied on.

Steps are named by their order in messages, and by their index everywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from heapq import heappop, heappush

from chargehand.domain.errors import BadDecomposition
from chargehand.domain.plans import WorkTask


def check_dependencies(tasks: Sequence[WorkTask]) -> None:
    """Raise `BadDecomposition` when two tasks have one order, a dependency is not there, or they form a circle."""
    by_order = {task.order: task for task in tasks}
    if len(by_order) < len(tasks):
        raise BadDecomposition("two steps have the same number")
    for task in tasks:
        unknown = sorted(set(task.depends_on) - by_order.keys())
        if unknown:
            raise BadDecomposition(f"step {task.order} depends on step {unknown[0]}, which is not there")
    circle = _circle({task.order: task.depends_on for task in tasks})
    if circle:
        told = " -> ".join(f"{by_order[order].intent} ({order})" for order in circle)
        raise BadDecomposition(f"the steps wait for each other in a circle: {told}")


def _circle(waits_for: Mapping[int, Sequence[int]]) -> list[int]:
    """Return a circle, first step repeated at the end; empty when there is none.

    Always the same one, because people are told: which one graphlib names depends on the order of its nodes.
    """
    left = {step: set(others) for step, others in waits_for.items()}
    while free := [step for step, others in left.items() if not others & left.keys()]:
        for step in free:
            del left[step]
    if not left:
        return []
    path = [min(left)]  # every step left waits for another one left: following them must come back to one seen
    while (following := min(left[path[-1]] & left.keys())) not in path:
        path.append(following)
    return [*path[path.index(following) :], following]


def places_before(tasks: Sequence[WorkTask]) -> list[tuple[int, ...]]:
    """Return, per task, the indices of those it depends on; what is not in `tasks` is taken to be done."""
    place = {task.order: index for index, task in enumerate(tasks)}
    return [tuple(sorted({place[other] for other in task.depends_on if other in place})) for task in tasks]


def turned(before: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return, per index, what comes right after it; given that, what comes right before."""
    after: list[list[int]] = [[] for _ in before]
    for index, others in enumerate(before):
        for other in others:
            after[other].append(index)
    return [tuple(others) for others in after]


def topological(before: Sequence[Sequence[int]], ranks: Sequence[float]) -> list[int]:
    """Return the indices so that each comes after what is before it; of those that may come, the lowest rank first."""
    sorter = TopologicalSorter(dict(enumerate(before)))
    sorter.prepare()
    free: list[tuple[float, int]] = []
    sequence = []
    while sorter.is_active():
        for index in sorter.get_ready():
            heappush(free, (ranks[index], index))
        _, index = heappop(free)
        sequence.append(index)
        sorter.done(index)
    return sequence


def longest_after(after: Sequence[Sequence[int]], seconds: Sequence[int], forward: Sequence[int]) -> list[int]:
    """Return, per index, how long the longest chain behind it takes. Seconds."""
    tails = [0] * len(seconds)
    for index in reversed(forward):
        tails[index] = max((seconds[other] + tails[other] for other in after[index]), default=0)
    return tails


def all_after(after: Sequence[Sequence[int]], forward: Sequence[int]) -> list[int]:
    """Return, per index, everything that comes after it, near or far, as a bit mask."""
    behind = [0] * len(after)
    for index in reversed(forward):
        for other in after[index]:
            behind[index] |= behind[other] | 1 << other
    return behind
