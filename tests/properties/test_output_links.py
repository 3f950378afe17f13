"""However a plan is listed, what it passes on is the same, and so is its digest."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.intents import OutputRef
from chargehand.domain.plans import WorkPlan, WorkTask
from chargehand.planning.digest import digest
from tests.builders import make_catalog, make_spec, make_task
from tests.unit.test_output_links import build_plan, plan_of, read, returning, taking

CHAIN = [
    make_spec(
        f"step_{n}",
        parameters={"properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
        outputs=returning(x={"type": "string"}, y={"type": "string"}),
    )
    for n in range(4)
]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_a_model_numbers_and_lists_its_subtasks_the_same_plan_is_approved(data: st.DataObject) -> None:
    """Four subtasks, each with up to two values from subtasks before it, under any numbers in any order."""
    refs = [
        {
            name: (data.draw(st.integers(0, n - 1)), data.draw(st.sampled_from("xy")))
            for name in (data.draw(st.sets(st.sampled_from("ab"))) if n else ())
        }
        for n in range(4)
    ]

    def plan(numbers: list[int], listing: list[int]) -> WorkPlan:
        subtasks = [
            {
                "order": numbers[n],
                "intent": f"step_{n}",
                "parameters": {name: "words" for name in "ab" if name not in refs[n]},
                "inputs": {name: {"subtask": numbers[g], "output": out} for name, (g, out) in refs[n].items()},
            }
            for n in listing
        ]
        return plan_of(read(*subtasks, catalog=make_catalog(*CHAIN)), make_catalog(*CHAIN))

    plain = plan([1, 2, 3, 4], [0, 1, 2, 3])
    numbers = data.draw(st.lists(st.integers(1, 100), min_size=4, max_size=4, unique=True))
    other = plan(numbers, data.draw(st.permutations(range(4))))
    assert other.digest == plain.digest
    for task in other.tasks:
        giver = {each.order: each.intent for each in other.tasks}
        own = refs[int(task.intent[-1])]
        assert {name: (giver[ref.task], ref.output) for name, ref in task.inputs.items()} == {
            name: (f"step_{g}", out) for name, (g, out) in own.items()
        }
        assert {ref.task for ref in task.inputs.values()} <= set(task.depends_on)


def relisted(tasks: list[WorkTask], listing: tuple[int, ...]) -> list[WorkTask]:
    place = {tasks[index].order: n for n, index in enumerate(listing, start=1)}
    return [
        tasks[index].model_copy(
            update={
                "order": place[tasks[index].order],
                "depends_on": tuple(place[order] for order in tasks[index].depends_on),
                "inputs": {
                    name: OutputRef(task=place[ref.task], output=ref.output)
                    for name, ref in tasks[index].inputs.items()
                },
            }
        )
        for index in listing
    ]


@st.composite
def linked_tasks(draw: st.DrawFn) -> list[WorkTask]:
    """Up to five tasks of two kinds that take things from earlier ones: many equal, told apart by what they pass on."""
    tasks = [make_task(1, draw(st.sampled_from(["a_task", "b_task"])))]
    for n in range(2, draw(st.integers(2, 5)) + 1):
        names = draw(st.lists(st.sampled_from(["url", "name"]), max_size=2, unique=True))
        refs = [(name, draw(st.integers(1, n - 1)), draw(st.sampled_from(["x", "y"]))) for name in names]
        tasks.append(taking(n, *refs, intent=draw(st.sampled_from(["a_task", "b_task"]))))
    return tasks


@settings(max_examples=60, deadline=None)
@given(linked_tasks())
def test_listing_a_plan_otherwise_keeps_its_digest(tasks: list[WorkTask]) -> None:
    listings = permutations(range(len(tasks)))
    assert len({digest(build_plan(*relisted(tasks, listing))) for listing in listings}) == 1


def shape(tasks: list[WorkTask]) -> list[Any]:
    return [
        (task.intent, sorted(task.depends_on), sorted((n, r.task, r.output) for n, r in task.inputs.items()))
        for task in tasks
    ]


@settings(max_examples=60, deadline=None)
@given(linked_tasks(), linked_tasks())
def test_plans_with_one_digest_pass_the_same_things_on(one: list[WorkTask], other: list[WorkTask]) -> None:
    if digest(build_plan(*one)) == digest(build_plan(*other)):
        assert len(one) == len(other)
        assert any(shape(relisted(one, listing)) == shape(other) for listing in permutations(range(len(one))))
