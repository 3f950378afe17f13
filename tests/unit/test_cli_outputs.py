"""What people see of values that go from one step to another: in the plan, while it runs, afterwards, as JSON."""

from __future__ import annotations

from typing import Any

from chargehand.app import json_view
from chargehand.app.snapshot import Task
from chargehand.cli.flows.plan_editor import draft, parsed
from chargehand.cli.show.ending import ending_lines
from chargehand.cli.show.plan import plan_lines
from chargehand.domain.intents import OutputRef
from chargehand.domain.states import TaskStatus as T
from tests.builders import make_spec
from tests.unit.cli_rows import a_plan, a_request, a_result, a_snapshot, a_step, a_task

INPUTS = {"kuma_url": OutputRef(task=1, output="url")}


def a_taking_task(**fields: Any) -> Task:
    return a_task(2, spec=a_step(2, inputs=INPUTS), **fields)


def a_giving_task(outputs: dict[str, Any], unfit: str | None = None, **fields: Any) -> Task:
    return a_task(1, result=a_result(outputs=outputs, unfit_outputs=unfit), **fields)


def text(lines: Any) -> str:
    return "\n".join(line.text for line in lines)


def test_the_plan_says_what_comes_from_where() -> None:
    plan = a_plan(a_step(1), a_step(2, inputs=INPUTS))
    assert "kuma_url: from task 1 (do_1) output url" in text(plan_lines(a_request(), plan, None))


def test_the_end_shows_each_value_and_how_outputs_differ_from_what_was_declared() -> None:
    tasks = [a_giving_task({"url": "http://here"}), a_taking_task()]
    assert "kuma_url = http://here (output url of task 1)" in text(ending_lines(a_request(), tasks, [], 3.0))
    tasks[0] = a_giving_task({"url": "http://here"}, unfit="port is missing")
    told = text(ending_lines(a_request(), tasks, [], 3.0))
    assert "its outputs differ from its declaration: port is missing" in told


def test_as_json_a_value_is_there_as_soon_as_it_is_known() -> None:
    def inputs(giver: Task) -> Any:
        found = a_snapshot(giver, a_taking_task(status=T.PENDING, result=None))
        return json_view.request_value(found)["tasks"][1]["inputs"]

    where = {"task": 1, "output": "url", "intent": "do_1"}
    assert inputs(a_giving_task({"url": "http://here"})) == {"kuma_url": {**where, "value": "http://here"}}
    assert inputs(a_giving_task({"url": None})) == {"kuma_url": {**where, "value": None}}
    for giver in (
        a_giving_task({}),
        a_giving_task({"url": "http://here"}, status=T.RUNNING),
        a_task(1, T.RUNNING, result=None),
        a_task(1, result=a_result(ok=False, outputs={"url": "of a failure"})),  # somebody says that it is done
    ):
        assert inputs(giver) == {"kuma_url": where}


def test_who_writes_the_steps_is_told_what_there_is_to_take() -> None:
    silent = draft("deploy kuma", [], [make_spec("deploy_kuma", description="Deploy Kuma")])
    assert "->" not in silent
    outputs = {"properties": {"url": {}, "port": {}}}
    told = draft("deploy kuma", [], [make_spec("deploy_kuma", description="Deploy Kuma", outputs=outputs)])
    assert "#   deploy_kuma() -> url, port  Deploy Kuma" in told
    assert "inputs: {PARAMETER: {subtask: 1, output: NAME}}" in told
    assert parsed(told) == parsed(silent)
