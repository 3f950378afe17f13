"""What follows from where a request's tasks stand: which may start, which cannot any more, and whether it has ended.

Pure. The engine calls this in every transaction that ends a task, so nothing has to be polled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chargehand.domain.records import Standing, TaskMove, TaskRecord
from chargehand.domain.states import TASK_ENDED, RequestStatus, TaskStatus
from chargehand.routing.overtaking import may_overtake

T = TaskStatus
Task = TaskRecord | Standing
ACTIVE = frozenset({T.READY, T.DISPATCHED, T.RUNNING})
GOES_BEFORE = "goes before"  # how the reason begins with which a task overtakes another one
BROKEN = frozenset({T.FAILED, T.SKIPPED, T.CANCELLED})


def next_moves(tasks: Sequence[Task], mode: str) -> list[TaskMove]:
    """Return the moves of pending tasks that follow from the others.

    In parallel mode a task starts when what it depends on has ended well, and is skipped (as what depends on it, in
    turn) when that failed; of two that share an exclusive key, the earlier one goes first. In sequential mode one task
    is under way at a time, the first that is left, and a failure skips all that have not been started.
    """
    ordered = sorted(tasks, key=lambda task: task.order)
    return _side_by_side(ordered) if mode == "parallel" else _one_by_one(ordered)


def overtakers(tasks: Sequence[TaskRecord], waiting: TaskRecord) -> list[TaskRecord]:
    """Return what may go before a task that is ready and finds nobody to do it, in order. For sequential requests.

    A task goes before all earlier ones that have not ended, so it must be apart from each of them (`overtaking.apart`),
    and all that it depends on must be done.
    """
    status = {task.order: task.status for task in tasks}
    left = [task for task in sorted(tasks, key=lambda task: task.order) if task.status not in TASK_ENDED]
    return [
        task
        for place, task in enumerate(left)
        if task.status is T.PENDING
        and task.order != waiting.order
        and all(status[n] is T.SUCCEEDED for n in task.spec.depends_on)
        and may_overtake(task.spec, (other.spec for other in left[:place]))
    ]


def outcome(tasks: Iterable[Task], request: RequestStatus) -> tuple[RequestStatus, str] | None:
    """Return the status a running or cancelling request goes to now, and why; None while work is left."""
    counts: dict[TaskStatus, int] = {}
    for task in tasks:
        counts[task.status] = counts.get(task.status, 0) + 1
    told = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    if not ACTIVE.isdisjoint(counts):
        return None
    if T.IN_REVIEW in counts:
        return RequestStatus.IN_REVIEW, f"a person must look: {told}"
    if T.PENDING in counts or T.PAUSED in counts:
        return None
    if request is RequestStatus.CANCELLING:
        return RequestStatus.CANCELLED, told
    done = set(counts) == {T.SUCCEEDED}
    return (RequestStatus.COMPLETED if done else RequestStatus.FAILED), told


def _side_by_side(tasks: Sequence[Task]) -> list[TaskMove]:
    status = {task.order: task.status for task in tasks}
    moves = []
    for task in tasks:
        if task.status is not T.PENDING:
            continue
        broken = [n for n in task.spec.depends_on if status[n] in BROKEN]
        if broken:
            status[task.order] = T.SKIPPED
            moves.append(_move(task, T.SKIPPED, f"task {broken[0]} {status[broken[0]]}"))
        elif all(status[n] is T.SUCCEEDED for n in task.spec.depends_on) and not _earlier_with_its_key(task, tasks):
            moves.append(_move(task, T.READY, "everything before it is done"))
    return moves


def _one_by_one(tasks: Sequence[Task]) -> list[TaskMove]:
    waiting = [task for task in tasks if task.status in (T.PENDING, T.PAUSED)]
    broken = next((task for task in tasks if task.status in BROKEN), None)
    if broken is not None:
        reason = f"task {broken.order} {broken.status}"
        return [_move(task, T.SKIPPED, reason) for task in waiting if task.status is T.PENDING]
    under_way = any(task.status in ACTIVE or task.status is T.IN_REVIEW for task in tasks)
    if not waiting or under_way or waiting[0].status is T.PAUSED:
        return []
    return [_move(waiting[0], T.READY, "everything before it is done")]


def _earlier_with_its_key(task: Task, tasks: Sequence[Task]) -> bool:
    """Whether an earlier task that has not ended needs an exclusive key that this one needs, too."""
    keys = set(task.spec.exclusive_keys)
    return any(
        other.order < task.order and other.status not in TASK_ENDED and not keys.isdisjoint(other.spec.exclusive_keys)
        for other in tasks
    )


def _move(task: Task, new: TaskStatus, reason: str) -> TaskMove:
    return TaskMove(task.task_id, task.request_id, task.status, new, reason)
