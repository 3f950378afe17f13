"""Where the parameters of a step come from that earlier steps give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from chargehand.app.snapshot import TakenInput
from chargehand.cli.terminal.lines import Line, cut, said
from chargehand.domain.plans import WorkTask

MAX_VALUE = 200  # characters of one value; `status --json` has it all


def references(task: WorkTask, tasks: Sequence[WorkTask]) -> Iterator[Line]:
    """Yield what a planned task takes from others: `kuma_url: from task 1 (deploy_kuma) output url`."""
    intents = {other.order: other.intent for other in tasks}
    for name, ref in task.inputs.items():
        yield Line(f"{name}: from task {ref.task} ({intents[ref.task]}) output {ref.output}", "", 5)


def taken_lines(inputs: Mapping[str, TakenInput], indent: int) -> Iterator[Line]:
    """Yield what a step was given of earlier ones: `kuma_url = http://here (output url of task 1)`."""
    for name, given in inputs.items():
        if given.known:
            value = cut(said(given.value), MAX_VALUE)
            yield Line(f"{name} = {value} (output {given.ref.output} of task {given.ref.task})", "", indent)
