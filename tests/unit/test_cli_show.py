"""What people are shown of plans, progress, endings and decisions."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import pytest
from pydantic import ValidationError

from chargehand.app import json_view
from chargehand.app.audit import Sealed
from chargehand.app.snapshot import Attempt, Request, ReviewContext, ReviewKind, Task, TriedTier, read
from chargehand.cli.show.ending import HEADS, MAX_DIFF, NEXT, WORDS, ending_lines, output_lines, task_lines
from chargehand.cli.show.lists import agent_list, catalog_lines, review_list
from chargehand.cli.show.plan import RISKS, plan_lines
from chargehand.cli.show.progress import FOLLOWED, MARKS, board, event_line, log_line
from chargehand.cli.show.request import WAITING, WAYS_OUT, head, overview, standing
from chargehand.cli.show.waiting import Around, waiting_lines
from chargehand.cli.show.why import why_lines
from chargehand.cli.terminal.lines import Line, clock
from chargehand.domain.intents import Resources, Risk
from chargehand.domain.messages import Failure
from chargehand.domain.plans import WAITS
from chargehand.domain.states import REQUEST_ENDED, AttemptStatus, RequestStatus, TaskStatus
from tests.builders import NOW
from tests.unit.cli_rows import (
    REQUEST_ID,
    a_decision,
    a_decomposition,
    a_plan,
    a_request,
    a_result,
    a_review,
    a_snapshot,
    a_step,
    a_subtask,
    a_task,
    a_trail,
    a_wish,
    an_agent,
    an_attempt,
    an_entry,
    an_event,
    task_id,
)

R, T = RequestStatus, TaskStatus

TWO_EVENTS = (an_event("task.ready", {}), an_event("task.succeeded", {}))


def text(lines: Iterable[Line]) -> str:
    return "\n".join(line.text for line in lines)


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_says_all_that_an_approval_should_look_at() -> None:
    first = a_step(1, parameters={"port": 8420, "names": ["a", "b"]})
    needs = Resources(cpu_cores=2, memory_mb=0, gpu_vram_mb=8000, estimated_duration_seconds=90)
    second = a_step(2, risk=Risk.DESTROY, retry_safe=False, depends_on=(1,), resource_requirements=needs)
    notice = a_decomposition().value.notice
    plan = a_plan(first, second, notes=(notice, "step 1 (Step 1): confidence 0.50"), out_of_scope=("make coffee",))
    shown = text(plan_lines(a_request(), plan, a_decomposition()))
    assert "Plan for “write the greeting”" in shown
    assert "changes things; 1 core, 64 MB, about 6 s" in shown
    assert "with port = 8420, names = a, b" in shown
    assert "DESTROYS something; 2 cores, 8000 MB of GPU memory, about 1 min 30 s; after 1; not safe to repeat" in shown
    assert "do_2 from /playbooks/2.yml" in shown
    assert "no agent here can do “make coffee”" in shown
    assert "Read by: catalogue match (embedded)" in shown
    assert shown.count(notice) == 1
    assert "2 steps, one after the other; about 6 s; plan 1, ab12ab12" in shown


def test_a_start_that_was_asked_for_is_shown_wherever_the_request_is() -> None:
    request = a_request(not_before=NOW + timedelta(hours=3))
    start = clock(NOW + timedelta(hours=3))
    assert f"Starts at {start}, or later" in text(plan_lines(request, a_plan(a_step()), None))
    assert f"starts at {start}, or later" in text(head(request))
    assert "or later" not in text(plan_lines(a_request(), a_plan(a_step()), None)) + text(head(a_request()))
    assert json_view.request_line(request)["not_before"] == request.not_before


def test_what_is_doubtful_stands_out() -> None:
    lines = plan_lines(a_request(), a_plan(notes=("step 1: odd",), out_of_scope=("x",)), a_decomposition())
    assert {line.style for line in lines if "odd" in line.text or "“x”" in line.text} == {"warn"}


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("task.running", {"reason": "on infra-1"}, "2 started on infra-1"),
        ("task.progress", {"message": "Write it: changed"}, "2   Write it: changed"),
        ("task.succeeded", {"reason": "ok 3"}, "2 done: ok 3"),
        ("task.succeeded", {"reason": "ok 3", "in_part": "x"}, "2 done in part: ok 3"),
        ("task.failed", {"reason": "no room"}, "2 failed: no room"),
        ("task.ready", {"from": "running", "reason": "lost (another agent)"}, "2 again: lost (another agent)"),
        ("task.ready", {"from": "pending", "reason": "its turn"}, None),
        ("attempt.leased", {"reason": "x"}, None),
    ],
)
def test_a_follower_sees_a_line_per_event_that_matters(kind: str, data: dict[str, str], shown: str | None) -> None:
    line = event_line(an_event(kind, data), 2)
    assert (line.text if line else None) == shown


def test_followed_events_are_events_that_exist() -> None:
    kinds = {f"task.{s}" for s in TaskStatus} | {f"request.{s}" for s in RequestStatus} | {"task.progress"}
    assert set(FOLLOWED) <= kinds


def test_the_log_shows_every_event() -> None:
    event = an_event("attempt.leased", {"reason": "the only one"})
    assert log_line(event, 1).text.endswith("1  attempt.leased             the only one")


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("request.decomposed", {"model": "qwen", "subtasks": [{"intent": "a"}, {"intent": "b"}]}, "qwen: a, b"),
        ("request.decomposed", {"model": "qwen", "subtasks": []}, "qwen: nothing that can be done"),
        ("plan.pending_approval", {"plan": {"version": 2}, "ruling": {"reason": "it asks"}}, "plan 2: it asks"),
        ("request.reworded", {"by": "ann", "wording": "say it so"}, "say it so"),
    ],
)
def test_the_log_says_what_each_event_is_about(kind: str, data: dict[str, Any], shown: str) -> None:
    assert log_line(an_event(kind, data, order=None), None).text.endswith(f" {shown}")


def test_the_board_has_a_line_per_step_and_what_a_running_one_said() -> None:
    tasks = [a_task(1), a_task(2, T.RUNNING, status_reason="on infra-1"), a_task(3, T.PENDING, status_reason="")]
    lines = board(tasks, {task_id(2): "Count ..."}, {task_id(1): 2.0, task_id(2): 75.0}, 0)
    assert [line.text for line in lines] == [
        "✓ 1. Step 1  2 s  ok 3, changed 1, failed 0",
        "⠋ 2. Step 2  1 min 15 s",
        "Count ...",
        "· 3. Step 3",
    ]


UPTIMES = [{"task": "Show", "host": f"web{n}", "text": f"up {n} days", "told": True} for n in (1, 2)]
PRINTED = {"task": "Ask", "host": "web1", "text": "\n".join(f"line {n}" for n in range(100)), "told": False}


def test_a_step_that_was_done_in_part_says_so_wherever_it_is_shown() -> None:
    part = a_task(result=a_result(in_part="could not be reached: web2"), status_reason="could not be reached: web2")
    ended = text(ending_lines(a_request(), [part], [], 2.0))
    assert ended.startswith("Done in part in 2 s: 1 step, 1 changed something; 1 done in part")
    assert "1. Step 1: done in part, changed" in ended
    assert "could not be reached: web2" in ended
    assert text(board([part], {}, {}, 0)) == "✓ 1. Step 1  done in part: could not be reached: web2"
    failed = a_task(1, T.FAILED, result=a_result(in_part="x"))
    assert "failed, because it was done in part" in text(list(task_lines(failed, [failed], [])))
    again = a_task(1, T.READY, result=a_result(in_part="x"))
    assert "waits for an agent" in text(list(task_lines(again, [again], []))), "of an earlier attempt"
    value = json_view.request_value(a_snapshot(part))
    assert (value["in_part"], value["tasks"][0]["in_part"]) == ([1], "could not be reached: web2")


def test_what_tasks_said_is_shown_and_all_of_it_when_asked_for() -> None:
    told = a_task(result=a_result(data={"said": [*UPTIMES, PRINTED]}))
    shown = text(list(task_lines(told, [told], [])))
    assert "web1: up 1 days\nweb2: up 2 days" in shown
    assert "line 1" not in shown, "a task that is there to say something comes before what programs print"
    assert "line 99" in text(list(output_lines([told])))
    printed = a_task(result=a_result(data={"said": [PRINTED], "unsaid": 3}))
    assert "... and 70 more lines: chargehand logs 4f5c0001 --output" in text(list(task_lines(printed, [printed], [])))
    assert "3 of its tasks said more than is kept" in text(list(output_lines([printed])))
    odd = a_task(result=a_result(data={"said": ["x", {"text": 5, "told": "yes"}]}))
    assert [part.model_dump() for part in odd.said] == [{"task": "", "host": "", "text": "5", "told": False}]
    assert json_view.output_value(a_snapshot(printed))["output"][0]["said"][0]["host"] == "web1"
    assert "it said nothing" in text(list(output_lines([a_task()])))


SOON, LATER = NOW + timedelta(seconds=2), NOW + timedelta(hours=1)


def waiting(task: Task, request: Request | None = None, *attempts: Attempt, now: datetime = NOW) -> str:
    return text(waiting_lines([task], Around(request or a_request(status=R.RUNNING), attempts, now, 300.0)))


def test_whatever_waits_says_for_what_and_until_when() -> None:
    ready = {"status_reason": "0/1 agents can run it: 1 offline", "wants_capacity": True, "ready_since": NOW}
    ends = clock(NOW + timedelta(seconds=300))
    assert waiting(a_task(1, T.READY, **ready)) == (
        f"1 waits until {ends}, then it fails: 0/1 agents can run it: 1 offline"
    )
    at = a_request(status=R.RUNNING, not_before=LATER)
    assert f"until {clock(LATER + timedelta(seconds=300))}, then it fails" in waiting(a_task(1, T.READY, **ready), at)
    agreed = a_task(1, T.READY, **ready, spec=a_step(alternatives=(WAITS,)))
    assert "for as long as it takes, as was agreed to (`--otherwise wait`)" in waiting(agreed)
    chose = a_task(1, T.READY, **ready, waits_for=UUID(int=5), chose_until=LATER)
    assert f"until {clock(LATER)}, then it takes whoever is free" in waiting(chose)
    assert f"1 waits until {clock(LATER)}" in waiting(a_task(1, T.READY, due_at=LATER))
    assert "chargehand resume 4f5c0001" in waiting(a_task(1, T.PENDING), a_request(status=R.PAUSED))


def test_an_agent_that_does_not_begin_is_waited_for_until_its_deadline() -> None:
    task, tried = a_task(1, T.DISPATCHED), an_attempt(created_at=NOW, start_by=LATER)
    assert waiting(task, None, tried, now=NOW + timedelta(minutes=1)) == (
        f"1 waits for infra-1 to begin, until {clock(LATER)}"
    )
    assert waiting(task, None, tried) == "", "what was just handed out goes on at once"
    assert waiting(task) == ""


@pytest.mark.parametrize("status", T)
def test_what_runs_or_has_ended_or_goes_on_in_a_moment_waits_for_nothing(status: T) -> None:
    assert waiting(a_task(1, status, due_at=SOON)) == ""


def test_every_status_kind_and_risk_can_be_shown() -> None:
    assert set(WORDS) == set(T)
    assert set(MARKS) | {T.RUNNING} == set(T)
    assert set(WAITING) == set(R) - REQUEST_ENDED
    assert set(HEADS) == set(NEXT) == REQUEST_ENDED
    assert set(WAYS_OUT) == set(get_args(ReviewKind))
    assert set(RISKS) == set(Risk)


@pytest.mark.parametrize("wrong", [{"status": "dreaming"}, {"mode": "sideways"}, {"another_column": 1}])
def test_a_row_that_nobody_knows_is_an_error(wrong: dict[str, Any]) -> None:
    row = dict(a_request())
    assert read(Request, row) == a_request()
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        read(Request, {**row, **wrong})


# --- endings and standings --------------------------------------------------------------------------------------------


def test_an_ending_says_what_changed_and_where() -> None:
    outputs = {"service_url": "http://127.0.0.1:8420", "summary": "in the reason already"}
    tasks = [a_task(1, result=a_result(outputs=outputs)), a_task(2, result=a_result(changed=False))]
    shown = text(ending_lines(a_request(), tasks, [an_attempt(1)], 8.2))
    assert shown.startswith("Done in 8.2 s: 2 steps, 1 changed something")
    assert "1. Step 1: done, changed (2.3 s on infra-1)" in shown
    assert "service_url: http://127.0.0.1:8420" in shown
    assert "2. Step 2: done, nothing to change" in shown
    assert "in the reason already" not in shown


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ((False, False), "2 steps, nothing had to be changed"),
        ((False, None), "2 steps"),
        ((None, True), "2 steps, 1 ch"),
    ],
)
def test_nothing_changed_is_said_only_where_it_is_known(changed: tuple[bool | None, ...], said: str) -> None:
    tasks = [a_task(n, result=a_result(changed=value)) for n, value in enumerate(changed, 1)]
    first = ending_lines(a_request(), tasks, [], None)[0].text
    assert first == f"Done: {said}" or (True in changed and first.startswith(f"Done: {said}"))


def test_a_failure_says_why_and_what_to_do_next() -> None:
    request = a_request(status=R.FAILED, status_reason="1 failed")
    tasks = [a_task(1, T.FAILED, status_reason="port 8421 is taken", result=None)]
    shown = text(ending_lines(request, tasks, [an_attempt(1, n, status=AttemptStatus.FAILED) for n in (1, 2)], 3))
    assert "1. Step 1: failed (2.3 s on infra-1, attempt 2)" in shown
    assert "port 8421 is taken" in shown
    assert "chargehand retry 4f5c0001" in shown


def test_a_dry_run_says_what_would_change_and_shows_the_difference() -> None:
    diff = "--- before\n+++ after\n+hello" + "\n x" * MAX_DIFF
    tasks = [a_task(1, result=a_result(data={"diff": diff}))]
    shown = text(ending_lines(a_request(dry_run=True), tasks, [], 1))
    assert "1 step tried, 1 would change something; nothing was changed" in shown
    assert "done, would change" in shown
    assert "+hello" in shown
    assert "... and 3 more lines" in shown


def test_the_overview_names_what_waits_for_whom() -> None:
    waiting = a_request(status=R.AWAITING_APPROVAL, status_reason="a person agrees", ended_at=None)
    asking = a_request(status=R.ASKING, status_reason="which service?", ended_at=None)
    shown = text(overview([waiting, asking, a_request(status=R.RUNNING, ended_at=None)], [], NOW))
    assert "chargehand approve 4f5c0001   a person agrees" in shown
    assert 'chargehand answer 4f5c0001 "..."   which service?' in shown
    assert text(overview([], [], NOW)).startswith("Nothing waits and nothing runs.")


def test_a_request_that_asks_shows_its_questions() -> None:
    request = a_request(status=R.ASKING, wording="restart", ended_at=None)
    shown = text(standing(request, (), (), (), ("Which service?",)))
    assert "Which service?" in shown
    assert "said again as “restart”" in shown


@pytest.mark.parametrize("kind", get_args(ReviewKind))
def test_every_review_has_a_way_out(kind: ReviewKind) -> None:
    tried = (TriedTier(tier="local", model="m", error="no answer"),)
    failure = Failure(kind="unknown", message="it was cut")
    review = a_review(kind=kind, context=ReviewContext(tried=tried, failure=failure, task=a_step(2)))
    shown = text(review_list([review]))
    assert "local (m): no answer" in shown
    assert "it was cut" in shown
    assert "step 2, Step 2" in shown
    assert "chargehand retry 4f5c0001" in shown


# --- why --------------------------------------------------------------------------------------------------------------


def test_why_tells_every_decision_in_order() -> None:
    shown = text(why_lines(a_trail()))
    in_order = [
        "asked qwen (local): 2 s; not used: no such intent",
        "“write it” -> do_1; confidence 0.97",
        "no agent can do: “make coffee”",
        "plan 1 (approved, sequential, simple): 1 do_1 -> 2 do_2",
        "2 comes after 1",
        "rule “default”: a person must agree, because a person agrees to every plan",
        "bob approved plan 1, ab12ab12",
        "attempt 1: infra-1: chance 0.90 (46 runs); no other candidate",
        "not infra-2: offline for 40 s (online)",
        "infra-1: succeeded after 2.3 s: ok 3, changed 1, failed 0",
        "tried again after 1 s: it may pass",
        "late_work_result",
        "It ended completed",
    ]
    places = [shown.find(piece) for piece in in_order]
    assert -1 not in places, in_order[places.index(-1)]
    assert places == sorted(places)


def test_why_of_one_task_is_only_about_it() -> None:
    shown = text(why_lines(a_trail(), only=task_id(2)))
    assert "Step 2: Step 2" in shown
    assert "Step 1" not in shown
    assert "How it was understood" not in shown


def test_full_adds_what_is_bound_and_how_it_was_scored() -> None:
    full, brief = text(why_lines(a_trail(), full=True)), text(why_lines(a_trail()))
    assert ("why it: first choice" in full, "first choice" in brief) == (True, False)
    assert "then: the next tier was asked, or a person" in full
    for detail in ("ab12" * 16, "c" * 64, '{"chance": 0.9}', '{"flag": 0.6}', "lease 4", '{"x": 1}'):
        assert detail in full
        assert detail not in brief


# --- lists and JSON ---------------------------------------------------------------------------------------------------


def test_agents_are_shown_with_what_they_have_done() -> None:
    lines = agent_list(
        [an_agent(), an_agent(name="infra-2", silent_seconds=Decimal(31)), an_agent(silent_seconds=None)], 30
    )
    assert " ".join(lines[1].text.split()) == "infra-1 online 3 s ago 1 of 2 4 75 % 2 s run_playbook"
    assert [line.text.split()[1] for line in lines[2:]] == ["offline", "offline"]
    assert "No agent has registered" in text(agent_list([], 30))


def test_the_catalog_says_how_to_ask_and_what_cannot_be_done() -> None:
    schema = {"properties": {"port": {"type": "integer", "default": 80}, "host": {"enum": ["a", "b"]}},
              "required": ["host"]}  # fmt: skip
    able = an_entry("b_it", description="Do it", examples=("do it", "do", "d", "not shown"), parameters=schema,
                    outputs={"properties": {"url": {"type": "string"}}})  # fmt: skip
    broken = an_entry("a_broken", unavailable="broken YAML at line 2")
    shown = text(catalog_lines([able, broken], [a_wish("make coffee", 7)]))
    assert "b_it: Do it" in shown
    assert "“do it”" in shown
    assert "not shown" not in shown
    assert "port: integer; 80 unless told otherwise" in shown
    assert "host (needed): any value; one of a, b" in shown
    assert "returns url: string" in shown
    assert "a_broken: broken YAML at line 2" in shown
    assert "7 times: make coffee" in shown


def test_a_request_as_json_names_what_scripts_need() -> None:
    value = json_view.request_value(a_snapshot(a_task(1), attempts=(an_attempt(1),), questions=("Which?",)))
    assert value["request_id"] == str(REQUEST_ID)
    assert (value["status"], value["questions"]) == ("completed", ["Which?"])
    assert value["plan"]["digest"] == "ab12" * 16
    assert value["tasks"][0] | {"outputs": {}} == value["tasks"][0]
    assert value["tasks"][0]["agent"] == "infra-1"
    assert json_view.request_value(a_snapshot(plan=None))["plan"] is None


def test_what_a_task_returned_is_as_json_what_it_was() -> None:
    (task,) = json_view.rows([a_task(1, result=a_result(data={"hosts": 2}))])
    assert task["result"] == {"ok": True, "changed": True, "outputs": {}, "data": {"hosts": 2}}
    (review,) = json_view.rows([a_review(context=ReviewContext.model_validate({"wording": "w", "more": [1]}))])
    assert review["context"] == {"wording": "w", "more": [1]}


def test_why_tells_what_was_predicted_and_who_was_looked_at_in_a_large_pool() -> None:
    stored = {"draw": 7, "pool_size": 300, "policy": "learned"}
    decision = a_decision(1, stored, predicted_success=0.9, predicted_ms=2_000)
    brief, full = (
        [line.text for line in why_lines(a_trail(decisions=(decision,)), only=task_id(1), full=full)]
        for full in (False, True)
    )
    assert "looked at 2 of 300 agents, picked by draw 7" in brief
    assert "policy learned predicted success 0.90; 2 s" in full
    assert not [line for line in brief if "predicted" in line]


def test_why_shows_what_was_claimed_and_each_term_of_a_confidence() -> None:
    weighed = a_subtask(confidence=0.41, claimed_confidence=0.95, terms={"tier": 1.1, "catalogue match": -3})
    read_so = a_decomposition(subtasks=(weighed,), calibration="1+57:ab")
    told = "\n".join(line.text for line in why_lines(a_trail(decompositions=(read_so,)), full=True))
    assert "0.95 was claimed; in log-odds: tier +1.10, catalogue match -3.00" in told
    assert "confidences by calibration 1+57:ab" in told


def test_why_names_what_differs_before_anything_else_and_says_what_is_sealed() -> None:
    sound = why_lines(a_trail(sealed=Sealed(1, None)))
    assert sound[-1].text == "All 1 events are sealed, and as they were then."
    assert "1 of 2 events are sealed so far" in why_lines(a_trail(sealed=Sealed(1, None), events=TWO_EVENTS))[-1].text
    forged = why_lines(a_trail(differences=("“approved by mallory” is in the table",), sealed=Sealed(1, "altered")))
    texts = [line.text for line in forged]
    told = texts.index("“approved by mallory” is in the table")
    assert told < texts.index("How it was understood")
    assert "The events are not as they were sealed: altered" in texts
    assert not any("are sealed" in text for text in texts)


def test_the_json_of_a_request_says_how_its_agents_were_chosen_and_names_its_trace() -> None:
    other = {"agent_id": "2", "name": "infra-2", "rejected_by": "online", "reason": "offline"}
    stored = {"selected": "1", "candidates": [{"agent_id": "1", "name": "infra-1", "score": 0.5}, other]}
    decision = a_decision(1, decision=stored, predicted_ms=2000, reason="infra-1: chance 0.5")
    value = json_view.request_value(replace(a_snapshot(a_task(1)), decisions=(decision,)))
    (routed,) = value["tasks"][0]["routing"]
    assert (routed["agent"], routed["reason"], routed["predicted_ms"]) == ("infra-1", "infra-1: chance 0.5", 2000)
    assert routed["candidates"] == [
        {"agent": "infra-1", "score": 0.5, "rejected": None},
        {"agent": "infra-2", "score": None, "rejected": "offline"},
    ]
    assert value["trace_id"] == str(UUID(int=8))
