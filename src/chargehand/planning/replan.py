"""What is left of a request whose plan is made again: what is not done, with what the done tasks returned. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from chargehand.catalog import outputs
from chargehand.catalog.outputs import Returned
from chargehand.domain.intents import OutputRef
from chargehand.domain.plans import DecomposedRequest, Subtask, WorkTask
from chargehand.domain.records import TaskRecord
from chargehand.domain.states import TaskStatus


def givers(tasks: Sequence[TaskRecord]) -> set[int]:
    """Return the orders of done tasks from which others take something."""
    done = {task.order for task in tasks if task.status is TaskStatus.SUCCEEDED}
    return {ref.task for task in tasks if task.order not in done for ref in task.spec.inputs.values()} & done


def rest(
    decomposed: DecomposedRequest, tasks: Sequence[TaskRecord], returned: Mapping[int, Returned]
) -> DecomposedRequest:
    """Return the decomposition that the newest plan was made of, less the subtasks whose tasks are done.

    What others take from those becomes a value: a person agrees to the new plan, and sees in it what is passed on.
    `returned` has at least the `givers`. Raises `MissingOutput`.
    """
    subtasks = {subtask.order: subtask for subtask in decomposed.subtasks}
    left = [task.spec for task in tasks if task.status is not TaskStatus.SUCCEEDED]
    kept = {task.subtask for task in left}
    places = {task.order: task.spec.subtask for task in tasks}
    assumptions = list(decomposed.assumptions)
    made = []
    for task in left:
        values = _values(task, returned)
        made.append(_continued(subtasks[task.subtask], task, values, places, kept))
        assumptions += [
            f"{name} for “{task.name}” is what task {task.inputs[name].task} returned as {task.inputs[name].output}"
            for name in values
        ]
    in_order = tuple(sorted(made, key=lambda subtask: subtask.order))
    return decomposed.model_copy(update={"subtasks": in_order, "assumptions": tuple(dict.fromkeys(assumptions))})


def _values(task: WorkTask, returned: Mapping[int, Returned]) -> dict[str, JsonValue]:
    inputs = {name: ref for name, ref in task.inputs.items() if ref.task in returned}
    takes = {**task.takes, "required": [*inputs]}
    return outputs.resolve(task.model_copy(update={"inputs": inputs, "takes": takes}), returned) if inputs else {}


def _continued(
    subtask: Subtask, task: WorkTask, values: Mapping[str, JsonValue], places: Mapping[int, int], kept: set[int]
) -> Subtask:
    inputs = {
        name: OutputRef(task=places[ref.task], output=ref.output)
        for name, ref in task.inputs.items()
        if name not in values
    }
    depends_on = tuple(order for order in subtask.depends_on if order in kept)
    changes = {"parameters": {**subtask.parameters, **values}, "inputs": inputs, "depends_on": depends_on}
    return subtask.model_copy(update=changes)
