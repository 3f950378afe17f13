"""What a round of agents' messages comes to, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.domain.envelopes import MessageType
from chargehand.domain.intents import Deadlines
from chargehand.domain.messages import Acceptance, Failure, Progress, WorkResult
from chargehand.domain.records import AttemptRecord, Compared, KnownAgent, Limits
from chargehand.domain.routing import Figures
from chargehand.domain.signed_messages import Message, split_into_rounds
from chargehand.domain.states import ATTEMPT, ATTEMPT_OPEN, TASK, AttemptStatus, RequestStatus, check_move
from chargehand.domain.value import Value
from chargehand.execution.limits import limits_of
from chargehand.execution.outcomes import Ending
from chargehand.execution.recording import (
    MOST_LINES,
    TABLE,
    Lease,
    LockedRows,
    Recorded,
    RecordingPolicy,
    decide,
    ended,
    results_again,
)
from chargehand.execution.retry import RetryPolicy
from tests.builders import make_attempt, make_id, make_request_record, make_task, make_task_record

M = MessageType
AGENT = KnownAgent(make_id("agent"), "infra-1", 1, "journal.life", None)
OTHER = KnownAgent(make_id("another agent"), "infra-2", 1, "journal.life", None)
POLICY = RecordingPolicy(RetryPolicy(), Limits(lease=60.0, start=120.0, run=600.0))
BROKEN = Failure(kind="retryable", message="host unreachable")

TASK_OF = {"leased": "dispatched", "accepted": "dispatched", "started": "running"}
"""The status of the task of an open attempt; that of any other is waiting for its next one."""

FORMS: dict[str, tuple[MessageType, type[Value], dict[str, Any]]] = {
    "accepts": (M.WORK_ACCEPTED, Acceptance, {"incarnation": "journal.life", "needs_grant": False}),
    "asks": (M.WORK_ACCEPTED, Acceptance, {"incarnation": "journal.life", "needs_grant": True}),
    "asks, reborn": (M.WORK_ACCEPTED, Acceptance, {"incarnation": "journal.next", "needs_grant": True}),
    "accepts, reborn": (M.WORK_ACCEPTED, Acceptance, {"incarnation": "journal.next", "needs_grant": False}),
    "begins": (M.WORK_PROGRESS, Progress, {"started": True}),
    "begins, tells": (M.WORK_PROGRESS, Progress, {"started": True, "message": "first words"}),
    "tells": (M.WORK_PROGRESS, Progress, {"message": "half way\nnearly there"}),
    "succeeds": (M.WORK_RESULT, WorkResult, {"ok": True, "summary": "done"}),
    "fails": (M.WORK_RESULT, WorkResult, {"ok": False, "failure": BROKEN}),
}


def make_message(form: str, attempt: AttemptRecord, agent: KnownAgent = AGENT, **fields: Any) -> Message:
    """What an agent says of an attempt, under its lease unless `fields` say otherwise."""
    kind, payload, defaults = FORMS[form]
    ids = {"attempt_id": attempt.attempt_id, "lease_token": attempt.lease_token}
    return Message(agent, kind, payload(**(ids | defaults | fields)), message_id=make_id(f"{form} {fields}"))


def make_rows(*attempts: tuple[str, str], safe: bool = False) -> LockedRows:
    """One task and attempt for each (status of the attempt, status of the request), all of different requests."""
    requests, tasks, found = [], [], []
    for place, (status, request_status) in enumerate(attempts, 1):
        request = make_request_record(f"request {place}", request_status)
        state = TASK_OF.get(status, "ready")
        task = make_task_record(make_task(place, retry_safe=safe), state, request_id=request.request_id)
        incarnation = AGENT.incarnation if status == "started" else ""
        has_result = status not in ("leased", "accepted", "started", "lost")
        requests.append(request)
        tasks.append(task)
        found.append(make_attempt(task, status, incarnation=incarnation, has_result=has_result))
    return LockedRows(
        {r.request_id: r for r in requests}, {t.task_id: t for t in tasks}, {a.attempt_id: a for a in found}
    )


def told(recorded: Recorded) -> str:
    """Say in one line all that is written: what a row of a table below is compared with."""
    parts = [f"attempt {move.new}" for move in recorded.attempts]
    parts += [f"task {move.new}" for move in recorded.tasks]
    parts += [event.kind for event in recorded.events]
    parts += ["renewed" for _ in recorded.renewed]
    parts += ["review" for _ in recorded.reviews]
    parts += ["settle" for _ in recorded.settle]
    parts += [anomaly.kind for anomaly in recorded.anomalies]
    parts += [control.kind for control in recorded.controls]
    parts += ["told" for _ in recorded.cancelled]
    return ", ".join(parts)


LOST = "attempt lost, task in_review, review, settle, cancel, told"
GRANTED = "attempt started, task running, renewed, start"
BEGUN = "attempt started, task running, renewed"
REFUSED = "cancel, told"

FOLLOWS = [
    # what its agent says   of an attempt  what is written
    ("accepts",             "leased",      "attempt accepted, renewed"),
    ("accepts",             "accepted",    "renewed"),
    ("accepts",             "started",     ""),  # its first progress overtook it
    ("accepts",             "succeeded",   ""),  # its result did
    ("accepts",             "failed",      ""),
    ("accepts",             "lost",        "late_work_accepted, cancel"),
    ("asks",                "leased",      GRANTED),
    ("asks",                "accepted",    GRANTED),
    ("asks",                "started",     "start"),  # the grant was lost
    ("asks",                "succeeded",   ""),
    ("asks",                "lost",        "late_work_accepted, cancel"),
    ("asks, reborn",        "leased",      GRANTED),  # nobody was granted it before
    ("asks, reborn",        "started",     LOST),  # the former life was
    ("accepts, reborn",     "leased",      "attempt accepted, renewed"),
    ("accepts, reborn",     "started",     LOST),
    ("begins",              "leased",      BEGUN),  # before its acceptance is heard
    ("begins",              "accepted",    BEGUN),
    ("begins",              "started",     "renewed"),
    ("begins",              "cancelled",   ""),
    ("begins",              "lost",        "late_work_progress, cancel"),
    ("begins, tells",       "accepted",    "attempt started, task running, task.progress, renewed"),
    ("tells",               "leased",      "task.progress, task.progress, renewed"),  # before it says that it began
    ("tells",               "started",     "task.progress, task.progress, renewed"),
    ("tells",               "unknown",     ""),
    ("succeeds",            "leased",      "attempt succeeded, task succeeded, settle, recorded"),
    ("succeeds",            "started",     "attempt succeeded, task succeeded, settle, recorded"),
    ("fails",               "accepted",    "attempt failed, task ready, settle, recorded"),
    ("fails",               "started",     "attempt failed, task in_review, review, settle, recorded"),
    ("succeeds",            "lost",        "late_work_result, recorded"),
    ("fails",               "lost",        "late_work_result, recorded"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "status", "follows"), FOLLOWS)
@pytest.mark.parametrize("request_status", ["running", "paused"])
def test_what_follows_from_what_the_holder_says(form: str, status: str, follows: str, request_status: str) -> None:
    rows = make_rows((status, request_status))
    (attempt,) = rows.attempts.values()
    assert told(decide([make_message(form, attempt)], rows, POLICY)) == follows


@pytest.mark.parametrize("form", ["accepts", "asks", "asks, reborn"])
@pytest.mark.parametrize("status", ["leased", "accepted", "started"])
@pytest.mark.parametrize("request_status", ["cancelling", "cancelled", "in_review", "failed"])
def test_nothing_begins_where_the_request_does_not_go_on(form: str, status: str, request_status: str) -> None:
    rows = make_rows((status, request_status))
    (attempt,) = rows.attempts.values()
    recorded = decide([make_message(form, attempt)], rows, POLICY)
    assert told(recorded) == REFUSED
    assert recorded.controls[0].payload["reason"] == f"the request is {request_status}"
    assert recorded.cancelled == [attempt.attempt_id]


def test_what_has_begun_is_still_heard_and_ended_where_the_request_is_being_cancelled() -> None:
    rows = make_rows(("started", "cancelling"), safe=True)
    (attempt,) = rows.attempts.values()
    assert told(decide([make_message("tells", attempt)], rows, POLICY)).startswith("task.progress")
    assert told(decide([make_message("fails", attempt)], rows, POLICY)).startswith("attempt failed, task cancelled")


@pytest.mark.parametrize(
    ("same_message", "same_result", "kind"),
    [
        (False, True, None),  # our acknowledgement was lost
        (True, True, "repeated_message"),  # delivered twice, or played back
        (True, False, "repeated_message"),
        (False, False, "second_work_result"),
    ],
)
def test_a_result_for_what_has_one_changes_nothing(same_message: bool, same_result: bool, kind: str | None) -> None:
    rows = make_rows(("succeeded", "completed"))
    (attempt,) = rows.attempts.values()
    message = make_message("fails", attempt)
    assert results_again([message, make_message("tells", attempt)], rows.attempts) == [message]
    compared = replace(rows, compared={attempt.attempt_id: Compared(same_message, same_result)})
    assert told(decide([message], compared, POLICY)) == (f"{kind}, recorded" if kind else "recorded")


def test_only_results_of_the_holder_of_what_has_one_are_compared() -> None:
    rows = make_rows(("started", "running"), ("lost", "running"), ("succeeded", "running"))
    messages = [make_message("succeeds", attempt) for attempt in rows.attempts.values()]
    foreign = [make_message("succeeds", attempt, OTHER) for attempt in rows.attempts.values()]
    assert results_again([*messages, *foreign], rows.attempts) == [messages[2]]
    assert results_again(messages, {}) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("forgery", ["another agent", "another lease", "no such attempt"])
def test_what_is_said_of_somebody_elses_lease_is_kept_and_changes_nothing(form: str, forgery: str) -> None:
    rows = make_rows(*((str(status), "running") for status in AttemptStatus))
    for attempt in rows.attempts.values():
        agent = OTHER if forgery == "another agent" else AGENT
        message = make_message(form, attempt, agent, **({"lease_token": 6} if forgery == "another lease" else {}))
        known = replace(rows, attempts={}) if forgery == "no such attempt" else rows
        recorded = decide([message], known, POLICY)
        answer = "recorded" if message.type is M.WORK_RESULT else "cancel"
        assert told(recorded) == f"foreign_{message.type}, {answer}"
        (anomaly,) = recorded.anomalies
        assert (anomaly.agent_id, anomaly.attempt_id) == (str(agent.agent_id), attempt.attempt_id)
        assert anomaly.request_id == (None if forgery == "no such attempt" else attempt.request_id)
        assert recorded.controls[0].agent == agent, "whoever sent it is answered, not the holder"


def test_a_grant_is_for_the_life_that_asked_and_says_how_long_the_lease_lives() -> None:
    rows = make_rows(("accepted", "running"))
    (attempt,), (task,) = rows.attempts.values(), rows.tasks.values()
    spec = task.spec.model_copy(update={"deadlines": Deadlines(heartbeat_seconds=5.0)})
    rows = replace(rows, tasks={task.task_id: replace(task, spec=spec)})
    recorded = decide([make_message("asks, reborn", attempt)], rows, POLICY)
    assert recorded.attempts[0].incarnation == "journal.next"
    (grant,) = recorded.controls
    assert grant.payload == {
        "attempt_id": str(attempt.attempt_id),
        "lease_token": attempt.lease_token,
        "lease_seconds": 5.0,
        "incarnation": "journal.next",
    }


def test_results_are_acknowledged_once_to_each_agent_whatever_they_come_to() -> None:
    rows = make_rows(("started", "running"), ("lost", "running"), ("leased", "running"))
    first, second, third = rows.attempts.values()
    messages = [
        make_message("succeeds", first),
        make_message("succeeds", second),
        make_message("succeeds", third, OTHER),
    ]
    recorded = decide(messages, rows, POLICY)
    assert [(c.kind, c.agent, c.payload["attempt_ids"]) for c in recorded.controls] == [
        (M.RECORDED, AGENT, [str(first.attempt_id), str(second.attempt_id)]),
        (M.RECORDED, OTHER, [str(third.attempt_id)]),
    ]


def test_of_many_lines_the_latest_are_kept_and_shown_as_plain_text() -> None:
    rows = make_rows(("started", "running"))
    (attempt,) = rows.attempts.values()
    lines = "\n".join(f"line\x1b {n}" for n in range(MOST_LINES + 5))
    recorded = decide([make_message("tells", attempt, message=lines, data={"percent": 40})], rows, POLICY)
    assert [event.data["message"] for event in recorded.events] == [f"line {n}" for n in range(5, MOST_LINES + 5)]
    assert recorded.events[0].data == {"message": "line 5", "agent": "infra-1", "percent": 40}


def test_attempts_end_together_and_each_request_goes_on() -> None:
    rows = make_rows(("leased", "running"), ("accepted", "running"))
    failure = Failure(kind="infrastructure", message="silent", details={"lost": True})
    endings = [
        Ending(
            rows.requests[a.request_id],
            rows.tasks[a.task_id],
            a,
            WorkResult(attempt_id=a.attempt_id, lease_token=7, ok=False, failure=failure),
            reported=False,
        )
        for a in rows.attempts.values()
    ]
    recorded = ended(endings, RetryPolicy())
    assert told(recorded) == "attempt lost, attempt lost, task ready, task ready, settle, settle"
    assert recorded.settle == list(rows.requests)
    assert told(ended([], RetryPolicy())) == ""


def test_every_type_has_a_rule_for_every_lease() -> None:
    assert {kind for kind, _, _ in FORMS.values()} == TABLE.keys()
    assert all(set(rules) == set(Lease) for rules in TABLE.values())


def test_limits_are_the_tasks_own_or_the_usual_ones_and_follow_how_long_it_takes() -> None:
    usual = Limits(lease=60.0, start=120.0, run=600.0)
    assert limits_of(make_task(), usual) == usual
    own = make_task(deadlines=Deadlines(heartbeat_seconds=5.0, start_seconds=7.0, run_seconds=30.0))
    assert limits_of(own, usual) == Limits(5.0, 7.0, 30.0)
    stretched = limits_of(own, usual, Figures(p90_ms=40_000.0))
    assert 40.0 < stretched.run < 600.0
    assert stretched.stretched == "declared 30 s; nine in ten take up to 40.0 s"
    assert limits_of(own, usual, Figures(p90_ms=1e7)).run == 600.0, "nothing runs longer than is usual at most"
    rare = limits_of(own, usual, Figures(runs=20, p90_ms=5_000.0, mean_ms=8_000.0, deviation_ms=20_000.0))
    assert (rare.run, rare.stretched) == (88.0, "declared 30 s; nine in ten take up to 5.0 s, give or take 20.0 s")


# --- For any round ----------------------------------------------------------------------------------------------------

ATTEMPTS = st.lists(
    st.tuples(
        st.sampled_from([str(status) for status in AttemptStatus]), st.sampled_from([str(s) for s in RequestStatus])
    ),
    min_size=1,
    max_size=5,
)
SENDERS = {"holder": {}, "another agent": {"agent": OTHER}, "another lease": {"lease_token": 6}}


def drawn_round(data: st.DataObject, rows: LockedRows, senders: Sequence[str]) -> list[Message]:
    """Draw at most one message per attempt, in any order."""
    attempts = data.draw(st.permutations(list(rows.attempts.values())))
    chosen = attempts[: data.draw(st.integers(1, len(attempts)))]
    return [
        make_message(data.draw(st.sampled_from(list(FORMS))), attempt, **SENDERS[data.draw(st.sampled_from(senders))])  # type: ignore[arg-type]
        for attempt in chosen
    ]


def with_comparisons(data: st.DataObject, rows: LockedRows, messages: Sequence[Message]) -> LockedRows:
    again = results_again(messages, rows.attempts)
    compared = st.builds(Compared, st.booleans(), st.booleans())
    return replace(rows, compared={m.attempt_id: data.draw(compared) for m in again if m.attempt_id})


def applied(rows: LockedRows, recorded: Recorded) -> LockedRows:
    """Move the rows as the store does, and as it does only from where they stand and along their tables."""
    attempts, tasks = dict(rows.attempts), dict(rows.tasks)
    for move in recorded.attempts:
        assert attempts[move.attempt_id].status is move.old
        check_move(ATTEMPT, move.old, move.new)
        record = attempts[move.attempt_id]
        attempts[move.attempt_id] = replace(
            record,
            status=move.new,
            incarnation=move.incarnation or record.incarnation,
            has_result=record.has_result or move.result is not None,
        )
    for change in recorded.tasks:
        assert tasks[change.task_id].status is change.old
        check_move(TASK, change.old, change.new)
        tasks[change.task_id] = replace(tasks[change.task_id], status=change.new)
    return LockedRows(rows.requests, tasks, attempts)


@settings(max_examples=60, deadline=None)
@given(st.data(), ATTEMPTS, st.booleans())
def test_whatever_comes_rows_move_along_their_tables_once_a_round(
    data: st.DataObject, attempts: list[tuple[str, str]], safe: bool
) -> None:
    rows = make_rows(*attempts, safe=safe)
    messages = drawn_round(data, rows, list(SENDERS))
    recorded = decide(messages, with_comparisons(data, rows, messages), POLICY)
    after = applied(rows, recorded)
    moved = [move.attempt_id for move in recorded.attempts]
    assert len(moved) == len(set(moved))
    over = {a.task_id for a in rows.attempts.values() if a.status in ATTEMPT_OPEN} - {
        a.task_id for a in after.attempts.values() if a.status in ATTEMPT_OPEN
    }
    assert {outcome.attempt_id for outcome in recorded.outcomes} == {
        a.attempt_id for a in rows.attempts.values() if a.task_id in over
    }, "an ended attempt frees its slot, and no other does"
    assert set(recorded.settle) == {rows.tasks[task_id].request_id for task_id in over}


@settings(max_examples=40, deadline=None)
@given(st.data(), ATTEMPTS)
def test_whatever_somebody_else_says_of_a_lease_changes_nothing(
    data: st.DataObject, attempts: list[tuple[str, str]]
) -> None:
    rows = make_rows(*attempts)
    messages = drawn_round(data, rows, ["another agent", "another lease"])
    recorded = decide(messages, rows, POLICY)
    assert replace(recorded, anomalies=[], controls=[]) == decide([], rows, POLICY)
    assert len(recorded.anomalies) == len(messages)
    assert not any(control.kind is M.START for control in recorded.controls)


@settings(max_examples=30, deadline=None)
@given(st.data(), ATTEMPTS)
def test_no_message_of_a_round_depends_on_another(data: st.DataObject, attempts: list[tuple[str, str]]) -> None:
    rows = make_rows(*attempts)
    messages = drawn_round(data, rows, list(SENDERS))
    rows = with_comparisons(data, rows, messages)
    together, alone = decide(messages, rows, POLICY), [decide([message], rows, POLICY) for message in messages]
    for name in ("attempts", "tasks", "events", "renewed", "reviews", "outcomes", "settle", "anomalies", "cancelled"):
        assert getattr(together, name) == [row for one in alone for row in getattr(one, name)]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_however_messages_come_an_attempt_is_granted_to_one_life_and_ends_once(data: st.DataObject, safe: bool) -> None:
    rows = make_rows(("leased", "running"), safe=safe)
    (attempt,) = rows.attempts.values()
    ends, granted = 0, set[object]()
    for form in data.draw(st.lists(st.sampled_from(list(FORMS)), max_size=12)):
        (of_round,) = split_into_rounds([make_message(form, attempt)])
        recorded = decide(of_round, with_comparisons(data, rows, of_round), POLICY)
        rows = applied(rows, recorded)
        ends += len(recorded.outcomes)
        granted |= {control.payload["incarnation"] for control in recorded.controls if control.kind is M.START}
    assert ends == (rows.attempts[attempt.attempt_id].status not in ATTEMPT_OPEN)
    assert len(granted) <= 1
