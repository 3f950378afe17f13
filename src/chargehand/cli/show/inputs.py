"""Where the parameters of a step come from that earlier steps give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chargehand.cli.show import Row, Rows
from chargehand.cli.terminal.lines import Line, cut, said

MAX_VALUE = 200  # characters of one value; `status --json` has it all


def references(task: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    """Yield what a planned task takes from others: `kuma_url: from task 1 (deploy_kuma) output url`."""
    intents = {other["order"]: other["intent"] for other in tasks}
    for name, ref in task.get("inputs", {}).items():
        yield Line(f"{name}: from task {ref['task']} ({intents[ref['task']]}) output {ref['output']}", "", 5)


def taken(task: Row, tasks: Rows) -> dict[str, dict[str, Any]]:
    """Return what a step takes, by parameter: from which task and output, and the value where there is one."""
    plan = {other["task_order"]: other for other in tasks if other["plan_id"] == task["plan_id"]}
    found = {}
    for name, ref in task["spec"].get("inputs", {}).items():
        giver = plan[ref["task"]]
        outputs = _outputs(giver)
        value = {"value": outputs[ref["output"]]} if ref["output"] in outputs else {}
        found[name] = {**ref, "intent": giver["intent"], **value}
    return found


def taken_lines(inputs: Mapping[str, Mapping[str, Any]], indent: int) -> Iterator[Line]:
    """Yield what a step was given of earlier ones: `kuma_url = http://here (output url of task 1)`."""
    for name, ref in inputs.items():
        if "value" in ref:
            value = cut(said(ref["value"]), MAX_VALUE)
            yield Line(f"{name} = {value} (output {ref['output']} of task {ref['task']})", "", indent)


def _outputs(task: Row) -> Mapping[str, Any]:
    result = task["result"] or {}
    return result.get("outputs") or {} if task["status"] == "succeeded" and result.get("ok") else {}
