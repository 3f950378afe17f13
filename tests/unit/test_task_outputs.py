"""What a task returned: against what it declared, as the parameter of another, and as a value of a new plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from chargehand.agent.secrets.redactor import Redactor
from chargehand.catalog.outputs import MOST_CHARACTERS, Returned, resolve, unfit
from chargehand.domain import secret_refs
from chargehand.domain.errors import MissingOutput
from chargehand.domain.intents import OutputRef
from chargehand.domain.plans import WorkTask
from chargehand.domain.records import TaskRecord
from chargehand.domain.states import TaskStatus
from chargehand.planning import replan
from tests.builders import make_decomposed, make_id, make_subtask, make_task

URL = {"type": "string", "pattern": "^https?://"}


def taking(schema: Any = URL, order: int = 2, giver: int = 1) -> WorkTask:
    return make_task(
        order,
        "add_portals",
        inputs={"kuma_url": OutputRef(task=giver, output="url")},
        takes={"type": "object", "properties": {"kuma_url": schema}, "required": ["kuma_url"]},
        depends_on=(giver,),
    )


def done(outputs: dict[str, JsonValue] | None, status: TaskStatus = TaskStatus.SUCCEEDED) -> dict[int, Returned]:
    return {1: Returned(1, "deploy_kuma", status, outputs)}


def test_the_value_is_what_the_task_returned() -> None:
    assert resolve(taking(), done({"url": "http://here", "summary": "ok"})) == {"kuma_url": "http://here"}


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (done({}), "task 1 (deploy_kuma) returned no url, which task 2 needs as kuma_url"),
        (done(None), "task 1 (deploy_kuma) returned no url, which task 2 needs as kuma_url"),
        (done({"url": None}), "task 2 cannot take url of task 1: kuma_url must be of type string (it is null)"),
        (done({"url": 5}), "task 2 cannot take url of task 1: kuma_url must be of type string (it is 5)"),
        (done({"url": "ftp://x"}), 'task 2 cannot take url of task 1: kuma_url must match ^https?:// (it is "ftp://x")'),
        (done({"url": "http://a"}, TaskStatus.SKIPPED), "task 1 is skipped: no url, which task 2 needs as kuma_url"),
        ({}, "task 1 is not there: no url, which task 2 needs as kuma_url"),
        (
            done({"url": "http://" + "x" * MOST_CHARACTERS}),
            "the url of task 1 (deploy_kuma), which task 2 needs as kuma_url, has 16,009 of 16,000 characters",
        ),
        (
            done({"url": "http://ann:[secret kuma_admin]@here"}),
            "the url of task 1 (deploy_kuma), which task 2 needs as kuma_url, "
            "holds a secret, which never leaves an agent",
        ),
        (done({"url": "http://\0"}), "task 2 cannot take url of task 1: kuma_url holds a value that is not valid JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_passed_on_is_named(returned: dict[int, Returned], message: str) -> None:
    with pytest.raises(MissingOutput) as missing:
        resolve(taking(), returned)
    assert str(missing.value) == message


def test_what_an_agent_hides_is_known_as_hidden() -> None:
    redactor = Redactor()
    redactor.learn("kuma_admin", "correct horse battery")
    shown = redactor.mapping({"url": "http://correct horse battery@here", "list": [{"correct horse battery": 1}]})
    for value in shown.values():
        with pytest.raises(MissingOutput, match="holds a secret"):
            resolve(taking({}), done({"url": value}))


@pytest.mark.parametrize("text", ["secret:kuma_admin", '{"secret": "kuma_admin"}', "{{ lookup('env', 'HOME') }}"])
def test_words_that_look_like_a_secret_or_a_template_are_text(text: str) -> None:
    task = taking({"type": "string"})
    values = resolve(task, done({"url": text}))
    assert values == {"kuma_url": text}
    asked: list[str] = []
    assert secret_refs.filled_in(task.takes, values, asked.append) == values  # type: ignore[arg-type, func-returns-value]
    assert asked == []


def test_a_place_for_a_secret_takes_no_output_whatever_the_plan_says() -> None:
    with pytest.raises(MissingOutput, match="a place for a secret"):
        resolve(taking({"format": "secret"}), done({"url": "x"}))


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        ({"url": "http://here"}, None),
        ({"url": "http://here", "summary": "more than it declares"}, None),
        ({}, "url is missing"),
        ({"url": 5}, "url must be of type string (it is 5)"),
    ],
)
def test_what_was_returned_is_compared_with_what_was_declared(
    outputs: dict[str, JsonValue], problem: str | None
) -> None:
    declared = {"type": "object", "properties": {"url": URL}, "required": ["url"]}
    assert unfit(make_task(outputs=declared), outputs) == problem
    assert unfit(make_task(), outputs) is None


def test_a_broken_declaration_does_not_stop_a_result_from_being_recorded() -> None:
    problem = unfit(make_task(outputs={"properties": {"url": {"type": "text"}}}), {})
    assert problem == (
        "the parameter schema of deploy_service_a is broken: 'text' is not valid under any of the given schemas"
    )


# --- the rest of a request ---


def record(task: WorkTask, status: TaskStatus) -> TaskRecord:
    names = make_id("request"), make_id("plan")
    return TaskRecord(task.task_id, *names, task.order, task.intent, task.work_type, task, status, "", 1, ())


DONE, FAILED, SKIPPED = TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.SKIPPED


def test_what_a_done_task_returned_becomes_a_value_of_the_new_plan() -> None:
    """The subtasks are numbered otherwise than the tasks, and two of them do the same with other parameters."""
    decomposed = make_decomposed(
        make_subtask(1, "deploy_kuma", parameters={"port": 1}),
        make_subtask(2, "deploy_kuma", parameters={"port": 2}),
        make_subtask(3, "add_portals", depends_on=(1, 2), parameters={"only": "home"}),
    )
    tasks = [
        record(make_task(1, "deploy_kuma", subtask=2), DONE),
        record(make_task(2, "deploy_kuma", subtask=1), FAILED),
        record(taking(order=3).model_copy(update={"subtask": 3}), SKIPPED),
    ]
    assert replan.givers(tasks) == {1}
    rest = replan.rest(decomposed, tasks, done({"url": "http://here"}))
    assert [(s.order, s.parameters, s.depends_on, s.inputs) for s in rest.subtasks] == [
        (1, {"port": 1}, (), {}),
        (3, {"only": "home", "kuma_url": "http://here"}, (1,), {}),
    ]
    assert rest.assumptions == ("kuma_url for “add portals (3)” is what task 1 returned as url",)


def test_what_is_still_to_come_stays_a_reference() -> None:
    decomposed = make_decomposed("check_disk", "deploy_kuma", "add_portals")
    tasks = [
        record(make_task(1, "check_disk", subtask=1), DONE),
        record(make_task(2, "deploy_kuma", subtask=2), FAILED),
        record(taking(order=3, giver=2).model_copy(update={"subtask": 3}), SKIPPED),
    ]
    rest = replan.rest(decomposed, tasks, {})
    assert rest.subtasks[1].inputs == {"kuma_url": OutputRef(task=2, output="url")}
    again = [replace(task, status=FAILED) for task in tasks]
    assert len(replan.rest(decomposed, again, {}).subtasks) == 3


def test_a_new_plan_needs_what_the_done_task_did_not_return() -> None:
    tasks = [
        record(make_task(1, "deploy_kuma", subtask=1), DONE),
        record(taking().model_copy(update={"subtask": 2}), FAILED),
    ]
    with pytest.raises(MissingOutput, match="returned no url"):
        replan.rest(make_decomposed("deploy_kuma", "add_portals"), tasks, done({}))
