"""Which parameter of a task an earlier task gives: checked where somebody says so, found by a rule where nobody does.

A reference is made only here and in `nlu`, from a field that exists for it; no value is ever looked through for one.
What may be referred to is narrow: an output that its intent declares, of a task that comes first, whose declaration
leaves nothing open that the parameter refuses; never a place for a secret, and never a parameter that an exclusive key
is made of, because what a task locks must be known when it is approved. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import JsonValue

from chargehand.catalog import json_schema
from chargehand.catalog.catalog import SLOT, Catalog
from chargehand.catalog.schema_subset import NotPlain, mismatch, written_out
from chargehand.domain import secret_refs
from chargehand.domain.intents import IntentSpec, OutputRef
from chargehand.domain.plans import Subtask


class Linked(NamedTuple):
    """Subtasks with the references that the rule has found, and what is told of them.

    `several` says where else a needed parameter could come from, by subtask and parameter: a person must choose.
    """

    subtasks: list[Subtask]
    assumptions: list[str]
    several: dict[tuple[int, str], str]


def declared(spec: IntentSpec) -> dict[str, JsonValue]:
    """Return the outputs an intent declares, each with its schema."""
    properties = spec.outputs.get("properties")
    return dict(properties) if isinstance(properties, dict) else {}


def taken(spec: IntentSpec, inputs: Mapping[str, OutputRef]) -> dict[str, JsonValue]:
    """Return the schema of the values that these inputs will bring, with nothing left in it that refers elsewhere."""
    if not inputs:
        return {}
    properties = {name: written_out(schema, spec.parameters) for name, schema in _parameters(spec) if name in inputs}
    return {"type": "object", "properties": properties, "required": [*sorted(inputs)]}


def problems(task: Subtask, subtasks: Sequence[Subtask], catalog: Catalog) -> list[str]:
    """Return what is wrong with the references of one subtask, in words that a model can repair it by."""
    if not task.inputs:
        return []
    by_order = {each.order: each for each in subtasks}
    spec = catalog.get(task.intent)
    found = []
    for name, ref in task.inputs.items():
        giver = by_order.get(ref.task)
        source = catalog.get(giver.intent) if giver else None
        problem = _problem(spec, task, name, source, ref.output) if spec and source else "there is no such subtask"
        if problem:
            found.append(f"{_plain(name)} cannot be {_plain(ref.output)} of subtask {ref.task}: {problem}")
    return found


def link(subtasks: Sequence[Subtask], catalog: Catalog) -> Linked:
    """Let parameters that nobody gave come from the one earlier subtask that declares an output of that name.

    The name is the parameter's, or the parameter's less the service: `url` of the intent about the service `kuma` is
    what `kuma_url` means. Where several declare one, a required parameter becomes a question and another stays open.
    """
    if not any(spec.outputs for task in subtasks if (spec := catalog.get(task.intent))):
        return Linked(list(subtasks), [], {})
    linked = Linked([], [], {})
    waits = _waits(subtasks, catalog)
    for task in sorted(subtasks, key=lambda each: each.order):
        spec = catalog.get(task.intent)
        earlier = [each for each in linked.subtasks if task.order not in _all_before(each.order, waits)]
        inputs = _found(spec, task, earlier, catalog, linked) if spec else {}
        depends_on = tuple(sorted({*task.depends_on, *(ref.task for ref in inputs.values())}))
        changes = {"inputs": {**task.inputs, **inputs}, "depends_on": depends_on}
        linked.subtasks.append(task.model_copy(update=changes) if inputs else task)
        waits[task.order] |= {ref.task for ref in inputs.values()}
    return linked


def _found(
    spec: IntentSpec, task: Subtask, earlier: Sequence[Subtask], catalog: Catalog, linked: Linked
) -> dict[str, OutputRef]:
    """Return the references that the rule finds for one subtask; what is to be told goes into `linked`."""
    inputs = {}
    for name, required in _open(spec, task):
        givers = [found for each in earlier for found in _matches(spec, task, name, each, catalog)]
        those = ", or ".join(f"what {_said(giver)} returns as {output}" for giver, output in givers)
        if len(givers) == 1:
            giver, output = givers[0]
            inputs[name] = OutputRef(task=giver.order, output=output)
            linked.assumptions.append(f"{name} for {_said(task)} is {those}")
        elif givers and required:
            linked.several[task.order, name] = f" It may be {those}."
        elif givers:
            linked.assumptions.append(f"{name} for {_said(task)} is left open: it may be {those}")
    return inputs


def _problem(spec: IntentSpec, task: Subtask, parameter: str, source: IntentSpec, output: str) -> str | None:
    """Return why this output cannot be what the parameter takes."""
    outputs = declared(source)
    if output not in outputs:
        return f"{source.intent} declares {', '.join(outputs) or 'no outputs'}"
    if parameter not in dict(_parameters(spec)):
        return f"{spec.intent} takes no parameter of that name"
    if parameter in task.parameters:
        return "a value is given, too: leave one of the two out"
    if fixed := _fixed(spec, parameter):
        return fixed
    if secret_refs.may_hold(spec.parameters, parameter):
        return "it may hold a secret, which must be named in the plan"
    unlike = _unlike(json.dumps([source.outputs, outputs[output], spec.parameters, dict(_parameters(spec))[parameter]]))
    return f"what is returned may not fit: {unlike}" if unlike else None


def _fixed(spec: IntentSpec, parameter: str) -> str | None:
    """Return why the value of a parameter must be known when a plan is made."""
    if any(parameter in SLOT.findall(key) for key in spec.exclusive_keys):
        return f"{spec.intent} locks what it names, which must be known beforehand"
    if spec.targets and parameter in spec.targets.by:
        return f"it says which hosts {spec.intent} is for, which must be known beforehand"
    return None


@lru_cache(maxsize=1000)  # schemas are checked and compared again for every request, and seldom change
def _unlike(both: str) -> str | None:
    of_output, output, of_parameter, parameter = json.loads(both)
    try:
        for schema in (of_output, of_parameter):
            json_schema.check_schema(schema)
        one, other = written_out(output, of_output), written_out(parameter, of_parameter)
        return "it is declared as a secret" if secret_refs.takes_secrets(one) else mismatch(one, other)
    except json_schema.BadSchema:
        return "its schema is broken"
    except NotPlain as error:
        return f"its schema cannot be read: {error}"


def _matches(
    spec: IntentSpec, task: Subtask, parameter: str, giver: Subtask, catalog: Catalog
) -> Iterator[tuple[Subtask, str]]:
    """Yield what an earlier subtask surely returns under the parameter's name."""
    source = catalog.get(giver.intent)
    if source is None:
        return
    promised = source.outputs.get("required")
    service = re.sub(r"\W+", "_", source.service or "").strip("_").lower()
    for output in promised if isinstance(promised, list) else ():
        if parameter in (output, f"{service}_{output}") and not _problem(spec, task, parameter, source, str(output)):
            yield giver, str(output)


def _open(spec: IntentSpec, task: Subtask) -> Iterator[tuple[str, bool]]:
    """Yield the parameters that have no value, and whether one is needed."""
    required = spec.parameters.get("required")
    needed = required if isinstance(required, list) else []
    for name, schema in _parameters(spec):
        if name not in task.parameters and name not in task.inputs and "default" not in schema:
            yield name, name in needed


def _parameters(spec: IntentSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    properties = spec.parameters.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        yield name, schema if isinstance(schema, dict) else {}


def _waits(subtasks: Sequence[Subtask], catalog: Catalog) -> dict[int, set[int]]:
    """Return, per subtask, what it comes after: as it says, and by its intent's nature (see `planner`)."""
    waits = {}
    for task in subtasks:
        spec = catalog.get(task.intent)
        first = set(spec.after) - {spec.intent} if spec else set()
        waits[task.order] = {*task.depends_on, *(each.order for each in subtasks if each.intent in first)}
    return waits


def _all_before(order: int, waits: Mapping[int, set[int]]) -> set[int]:
    before: set[int] = set()
    left = [order]
    while left:
        new = waits.get(left.pop(), set()) - before
        before |= new
        left += new
    return before


def _said(task: Subtask) -> str:
    return f"“{task.words or task.name}”"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
