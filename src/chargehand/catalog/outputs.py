"""What a task returned against what it declared, and what a later one takes of it. Pure.

Outputs come from machines and are data: they fill a parameter that was approved to be filled from them, and decide
nothing. Whatever is resolved here is computed anew from what is stored, each time it is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue

from chargehand.catalog.catalog import check_parameters
from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration, BadParameters, MissingOutput
from chargehand.domain.intents import IntentSpec
from chargehand.domain.plans import WorkTask
from chargehand.domain.states import TaskStatus

MOST_CHARACTERS = 16_000
"""Of one value as JSON: what playbooks may return, and well below what one environment variable holds."""

MASKED = re.compile(r"\[secret [a-z][a-z0-9_]{0,62}\]")
"""What an agent writes in the place of a secret's value (`agent/redactor.py`)."""


class Returned(NamedTuple):
    """What is stored of a task that may have returned something. `outputs` is None when no attempt ended well."""

    order: int
    intent: str
    status: TaskStatus
    outputs: Mapping[str, JsonValue] | None


def unfit(declared: WorkTask | IntentSpec, outputs: Mapping[str, JsonValue]) -> str | None:
    """Return how what a task returned differs from what it declared; None when it fits. More than declared is fine."""
    if not declared.outputs:
        return None
    return _refused(declared, {**declared.outputs, "additionalProperties": True}, outputs)


def resolve(task: WorkTask, returned: Mapping[int, Returned]) -> dict[str, JsonValue]:
    """Return the values of a task's inputs; `returned` has the tasks they come from, by order.

    Raises `MissingOutput` when one is missing, hidden, too large, or not what the parameter takes.
    """
    values = {name: _value(task, name, returned) for name in task.inputs}
    if secret_refs.takes_secrets(task.takes):
        raise MissingOutput(f"task {task.order} has a place for a secret where an output should go")
    problem = _refused(task, task.takes, values)
    if problem:
        givers = ", ".join(f"{ref.output} of task {ref.task}" for ref in task.inputs.values())
        raise MissingOutput(f"task {task.order} cannot take {givers}: {problem}")
    return values


def _value(task: WorkTask, name: str, returned: Mapping[int, Returned]) -> JsonValue:
    ref = task.inputs[name]
    giver = returned.get(ref.task)
    needs = f"which task {task.order} needs as {name}"
    if giver is None or giver.status is not TaskStatus.SUCCEEDED:
        raise MissingOutput(f"task {ref.task} is {giver.status if giver else 'not there'}: no {ref.output}, {needs}")
    told = f"task {ref.task} ({giver.intent})"
    if giver.outputs is None or ref.output not in giver.outputs:
        raise MissingOutput(f"{told} returned no {ref.output}, {needs}")
    value = giver.outputs[ref.output]
    text = json.dumps(value, ensure_ascii=False)
    if MASKED.search(text):
        raise MissingOutput(
            f"the {ref.output} of {told}, {needs}, holds a secret, which never leaves an agent",
            hint="A secret is passed on by its name: secret:NAME.",
        )
    if secret_refs.holds_reference(value):
        raise MissingOutput(f"the {ref.output} of {told}, {needs}, has the form of a reference to a secret")
    if len(text) > MOST_CHARACTERS:
        raise MissingOutput(f"the {ref.output} of {told}, {needs}, has {len(text):,} of {MOST_CHARACTERS:,} characters")
    return value


def _refused(
    task: WorkTask | IntentSpec, schema: Mapping[str, JsonValue], values: Mapping[str, JsonValue]
) -> str | None:
    try:
        check_parameters(IntentSpec(intent=task.intent, work_type=task.work_type, parameters=dict(schema)), values)
    except (BadParameters, BadConfiguration) as error:
        return str(error)
    return None
