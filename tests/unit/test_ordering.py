"""Ordering: dependency-safe, resource-aware, and as asked for where it is a tie."""

from __future__ import annotations

from random import Random
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.ordering import generated, is_feasible, with_best
from chargehand.domain.errors import BadDecomposition
from chargehand.planning.scheduling import ordering
from chargehand.planning.scheduling import schedule as schedules
from chargehand.planning.scheduling.lower_bounds import lower_bound, one_by_one
from chargehand.planning.scheduling.ordering import critical_path, order, schedule
from tests.builders import make_resources, make_task

MACHINE = make_resources(cpu=4, memory=8_000, gpu=8_000)


def job(number, seconds=60, *, after=(), keys=(), **resources):
    return make_task(
        number,
        depends_on=tuple(after),
        exclusive_keys=tuple(keys),
        resource_requirements=make_resources(seconds, **resources),
    )


def in_order(tasks, sequence):
    by_order = {task.order: task for task in tasks}
    return [by_order[number] for number in sequence]


def makespan(tasks, sequence):
    return schedule(in_order(tasks, sequence), MACHINE).makespan


def test_ties_keep_the_users_order():
    assert order([job(3), job(1), job(2)], MACHINE) == (3, 1, 2)
    assert order([], MACHINE) == ()


def test_a_dependency_listed_late_is_moved_up_and_nothing_else():
    assert order([job(1, after=(3,)), job(2), job(3)], MACHINE) == (2, 3, 1)


def test_what_can_start_goes_before_what_cannot():
    needs_gpu = job(1, gpu=16_000)
    assert order([needs_gpu, job(2), job(3)], MACHINE) == (2, 3, 1)
    assert order([job(1), job(2)], MACHINE, held=frozenset({1})) == (2, 1)


def test_waiting_for_a_resource_never_breaks_a_dependency():
    """The order of the list puts every blocked task last, also before the tasks that wait for it."""
    assert order([job(1, gpu=16_000), job(2, after=(1,)), job(3)], MACHINE) == (3, 1, 2)


def test_a_shorter_schedule_is_worth_another_order():
    tasks = [job(1, 30, cpu=2), job(2, 30, cpu=2), job(3, 60, cpu=2)]
    sequence = order(tasks, MACHINE)
    assert sequence == (1, 3, 2), "and 1 keeps its place: it starts as soon as 3"
    assert (makespan(tasks, (1, 2, 3)), makespan(tasks, sequence)) == (90, 60)


def test_tasks_with_a_common_exclusive_key_do_not_overlap():
    tasks = [job(1, 60, keys=["host:a"]), job(2, 30, keys=["host:a"]), job(3, 90)]
    laid_out = schedule(tasks, MACHINE)
    assert laid_out.starts == {1: 0, 2: 60, 3: 0}
    assert laid_out.makespan == 90


def test_a_gap_is_filled_by_a_later_task_that_fits():
    tasks = [job(1, 60, cpu=3), job(2, 60, cpu=4), job(3, 60, cpu=1)]
    assert schedule(tasks, MACHINE).starts == {1: 0, 2: 60, 3: 0}


def test_a_sequence_that_breaks_a_dependency_is_refused():
    with pytest.raises(BadDecomposition, match="before one that it depends on"):
        schedule([job(1, after=(2,)), job(2)], MACHINE)


def test_a_circle_is_named_and_what_only_hangs_on_it_is_not():
    tasks = [job(1, after=(2,)), job(2, after=(3,)), job(3, after=(2,)), job(4)]
    with pytest.raises(
        BadDecomposition, match=r"circle: deploy_service_a \(2\) -> deploy_service_a \(3\) -> .* \(2\)$"
    ):
        order(tasks, MACHINE)


def test_a_task_that_waits_for_itself_is_a_circle():
    with pytest.raises(BadDecomposition, match=r"deploy_service_a \(1\) -> deploy_service_a \(1\)$"):
        order([job(1, after=(1,))], MACHINE)


def test_the_critical_path_is_the_longest_chain():
    assert critical_path([job(1, 10), job(2, 20, after=(1,)), job(3, 25)]) == 30
    assert critical_path([]) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_a_small_plan_is_ordered_as_well_as_any_order_could(seed, size):
    instance = with_best(Random(seed), size)
    jobs = instance.jobs()
    ends = schedules.in_sequence(jobs, ordering.sequence(jobs))
    assert (max(ends), is_feasible(instance, ends)) == (instance.best, True)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(11, 24), st.integers(0, 3))
def test_sampled_orders_hold_every_limit_and_are_the_same_again(seed, size, sampling_seed):
    instance = generated(Random(seed), size)
    jobs = instance.jobs()
    found = ordering.sequence(jobs, sampling_seed)
    ends = schedules.in_sequence(jobs, found)
    assert is_feasible(instance, ends)
    assert lower_bound(jobs) <= max(ends) <= max(schedules.in_sequence(jobs, jobs.forward))
    assert ordering.sequence(instance.jobs(), sampling_seed) == found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_both_ways_of_laying_out_and_justifying_hold_every_limit(seed, size):
    instance = generated(Random(seed), size)
    jobs = instance.jobs()
    dense = schedules.by_rank(jobs, [-tail for tail in jobs.tails])
    twice = schedules.justified(jobs, schedules.justified(jobs, dense), backward=True)
    assert is_feasible(instance, dense)
    assert is_feasible(instance, twice)
    assert max(twice) <= max(dense)


def test_no_set_of_jobs_that_exclude_each_other_is_forgotten():
    tasks = [job(1, 60, keys=["host:a"]), job(2, 30, keys=["host:a"]), job(3, 20, after=(1,)), job(4, 50, cpu=4)]
    longest = one_by_one(ordering.jobs_of(tasks, MACHINE))
    assert longest[0b0011] == 90
    assert longest[0b0110] == 30, "2 and 3 fit side by side"
    assert longest[0b1111] == 140, "4 takes every core: it excludes all"


def test_three_hundred_tasks_take_less_than_200_ms():
    tasks = [
        job(
            n, 1 + n * 37 % 300, cpu=1 + n % 4, memory=n * 91 % 4_000, keys=[f"host:{n % 20}"], after=[n // 2][: n > 40]
        )
        for n in range(1, 301)
    ]
    before = process_time()
    sequence = order(tasks, MACHINE)
    assert process_time() - before < 0.2
    assert sorted(sequence) == list(range(1, 301))


@st.composite
def plans(draw, *, most_cpu=5, gpus=(0, 5_000, 9_000)):
    """Up to six tasks with any dependencies on earlier ones; by default some need more than the machine has."""
    size = draw(st.integers(1, 6))
    return [
        job(
            number,
            draw(st.integers(0, 9)),
            after=draw(st.sets(st.integers(1, number - 1), max_size=2)) if number > 1 else (),
            keys=draw(st.sets(st.sampled_from(["host:a", "host:b"]), max_size=1)),
            cpu=draw(st.integers(0, most_cpu)),
            gpu=draw(st.sampled_from(gpus)),
        )
        for number in range(1, size + 1)
    ]


@settings(max_examples=15)
@given(plans())
def test_no_order_breaks_a_dependency(tasks):
    sequence = order(tasks, MACHINE)
    assert sorted(sequence) == [task.order for task in tasks]
    place = {number: n for n, number in enumerate(sequence)}
    assert all(place[other] < place[task.order] for task in tasks for other in task.depends_on)


@settings(max_examples=15)
@given(plans())
def test_no_schedule_breaks_a_capacity_a_key_or_a_dependency(tasks):
    starts = schedule(tasks, MACHINE).starts
    seconds = {task.order: task.resource_requirements.estimated_duration_seconds for task in tasks}
    for task in tasks:
        assert all(starts[other] + seconds[other] <= starts[task.order] for other in task.depends_on)
        running = [t for t in tasks if starts[t.order] <= starts[task.order] < starts[t.order] + seconds[t.order]]
        assert sum(min(t.resource_requirements.cpu_cores, 4) for t in running) <= 4
        assert sum(min(t.resource_requirements.gpu_vram_mb, 8_000) for t in running) <= 8_000
        keys = [key for t in running for key in t.exclusive_keys]
        assert len(keys) == len(set(keys))


@settings(max_examples=15)
@given(plans(most_cpu=4, gpus=(0, 5_000)))
def test_another_order_than_the_users_is_shorter(tasks):
    asked_for = tuple(task.order for task in tasks)
    found = order(tasks, MACHINE)
    assert found == asked_for or makespan(tasks, found) < makespan(tasks, asked_for)
