"""What people are shown of plans, progress, endings and decisions."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chargehand.app import json_view
from chargehand.cli.show.ending import MAX_DIFF, WORDS, ending_lines
from chargehand.cli.show.lists import agent_list, catalog_lines, review_list
from chargehand.cli.show.plan import plan_lines
from chargehand.cli.show.progress import FOLLOWED, MARKS, board, event_line, log_line
from chargehand.cli.show.request import WAITING, overview, standing
from chargehand.cli.show.why import Story, why_lines
from chargehand.cli.terminal.lines import Line
from chargehand.domain.records import Event
from chargehand.domain.states import REQUEST_ENDED, RequestStatus, TaskStatus
from tests.unit.cli_rows import (
    NOW,
    REQUEST_ID,
    a_decision,
    a_decomposition,
    a_plan,
    a_request,
    a_step,
    a_task,
    an_attempt,
    task_id,
)


def text(lines: Iterable[Line]) -> str:
    return "\n".join(line.text for line in lines)


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_says_all_that_an_approval_should_look_at() -> None:
    first = a_step(1, parameters={"port": 8420, "names": ["a", "b"]})
    second = a_step(2, risk="destroy", retry_safe=False, depends_on=[1], resource_requirements={
        "cpu_cores": 2, "memory_mb": 0, "gpu_vram_mb": 8000, "estimated_duration_seconds": 90})  # fmt: skip
    notice = a_decomposition()["value"]["notice"]
    plan = a_plan(first, second, notes=[notice, "step 1 (Step 1): confidence 0.50"], out_of_scope=["make coffee"])
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


def test_what_is_doubtful_stands_out() -> None:
    lines = plan_lines(a_request(), a_plan(notes=["step 1: odd"], out_of_scope=["x"]), a_decomposition())
    assert {line.style for line in lines if "odd" in line.text or "“x”" in line.text} == {"warn"}


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("task.running", {"reason": "on infra-1"}, "2 started on infra-1"),
        ("task.progress", {"message": "Write it: changed"}, "2   Write it: changed"),
        ("task.succeeded", {"reason": "ok 3"}, "2 done: ok 3"),
        ("task.failed", {"reason": "no room"}, "2 failed: no room"),
        ("task.ready", {"from": "running", "reason": "lost (another agent)"}, "2 again: lost (another agent)"),
        ("task.ready", {"from": "pending", "reason": "its turn"}, None),
        ("attempt.leased", {"reason": "x"}, None),
    ],
)
def test_a_follower_sees_a_line_per_event_that_matters(kind: str, data: dict[str, str], shown: str | None) -> None:
    line = event_line(kind, data, 2)
    assert (line.text if line else None) == shown


def test_followed_events_are_events_that_exist() -> None:
    kinds = {f"task.{s}" for s in TaskStatus} | {f"request.{s}" for s in RequestStatus} | {"task.progress"}
    assert set(FOLLOWED) <= kinds


def test_the_log_shows_every_event() -> None:
    event = Event(3, "attempt.leased", task_id(1), None, {"reason": "the only one"}, NOW)
    assert log_line(event, 1).text.endswith("1  attempt.leased             the only one")


def test_the_board_has_a_line_per_step_and_what_a_running_one_said() -> None:
    tasks = [a_task(1), a_task(2, "running", status_reason="on infra-1"), a_task(3, "pending", status_reason="")]
    lines = board(tasks, {task_id(2): "Count ..."}, {task_id(1): 2.0, task_id(2): 75.0}, 0)
    assert [line.text for line in lines] == [
        "✓ 1. Step 1  2 s  ok 3, changed 1, failed 0",
        "⠋ 2. Step 2  1 min 15 s",
        "Count ...",
        "· 3. Step 3",
    ]


def test_every_status_of_a_task_can_be_shown() -> None:
    assert set(WORDS) == {str(s) for s in TaskStatus}
    assert set(MARKS) | {"running"} == {str(s) for s in TaskStatus}
    assert set(WAITING) == {str(s) for s in set(RequestStatus) - REQUEST_ENDED}


# --- endings and standings --------------------------------------------------------------------------------------------


def test_an_ending_says_what_changed_and_where() -> None:
    outputs = {"service_url": "http://127.0.0.1:8420", "summary": "in the reason already"}
    tasks = [a_task(1, result={"changed": True, "outputs": outputs}), a_task(2, result={"changed": False})]
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
    tasks = [a_task(n, result={"changed": value}) for n, value in enumerate(changed, 1)]
    first = ending_lines(a_request(), tasks, [], None)[0].text
    assert first == f"Done: {said}" or (True in changed and first.startswith(f"Done: {said}"))


def test_a_failure_says_why_and_what_to_do_next() -> None:
    request = a_request(status="failed", status_reason="1 failed")
    tasks = [a_task(1, "failed", status_reason="port 8421 is taken", result=None)]
    shown = text(ending_lines(request, tasks, [an_attempt(1, n, status="failed") for n in (1, 2)], 3))
    assert "1. Step 1: failed (2.3 s on infra-1, attempt 2)" in shown
    assert "port 8421 is taken" in shown
    assert "chargehand retry 4f5c0001" in shown


def test_a_dry_run_says_what_would_change_and_shows_the_difference() -> None:
    diff = "--- before\n+++ after\n+hello" + "\n x" * MAX_DIFF
    tasks = [a_task(1, result={"changed": True, "data": {"diff": diff}})]
    shown = text(ending_lines(a_request(dry_run=True), tasks, [], 1))
    assert "1 step tried, 1 would change something; nothing was changed" in shown
    assert "done, would change" in shown
    assert "+hello" in shown
    assert "... and 3 more lines" in shown


def test_the_overview_names_what_waits_for_whom() -> None:
    waiting = a_request(status="awaiting_approval", status_reason="a person agrees", ended_at=None)
    asking = a_request(status="asking", status_reason="which service?", ended_at=None)
    shown = text(overview([waiting, asking, a_request(status="running", ended_at=None)], [], NOW))
    assert "chargehand approve 4f5c0001   a person agrees" in shown
    assert 'chargehand answer 4f5c0001 "..."   which service?' in shown
    assert text(overview([], [], NOW)).startswith("Nothing waits and nothing runs.")


def test_a_request_that_asks_shows_its_questions() -> None:
    request = a_request(status="asking", wording="restart", ended_at=None)
    shown = text(standing(request, (), (), (), ("Which service?",)))
    assert "Which service?" in shown
    assert "said again as “restart”" in shown


@pytest.mark.parametrize("kind", ["no_plan", "unknown_outcome", "mishap"])
def test_every_review_has_a_way_out(kind: str) -> None:
    context = {"tried": [{"tier": "local", "model": "m", "error": "no answer"}], "failure": {"message": "it was cut"},
               "task": a_step(2)}  # fmt: skip
    row = {"review_id": 3, "request_id": REQUEST_ID, "kind": kind, "reason": "nobody knows", "context": context}
    shown = text(review_list([row]))
    assert "local (m): no answer" in shown
    assert "it was cut" in shown
    assert "chargehand retry 4f5c0001" in shown


# --- why --------------------------------------------------------------------------------------------------------------


def a_story(**fields: Any) -> Story:
    call = {"tier": "local", "model": "qwen", "seconds": 2.0, "tokens_in": 0, "tokens_out": 0, "cost_usd": 0}
    call |= {"choice": "first choice: the local model", "followed": "leave"}
    retry = {"action": "again", "reason": "it may pass", "wait_seconds": 1.0}
    parts: dict[str, Any] = {
        "request": a_request(),
        "decompositions": [a_decomposition(out_of_scope=["make coffee"])],
        "llm_calls": [{**call, "error": "no such intent"}, {**call, "model": "catalogue match", "error": None}],
        "plans": [a_plan(a_step(1), a_step(2, depends_on=[1]))],
        "approvals": [{"approver": "bob", "decision": "approved", "digest": "ab12" * 16, "words": "", "version": 1,
                       "created_at": NOW}],
        "tasks": [a_task(1), a_task(2)],
        "decisions": [a_decision(1), a_decision(2)],
        "attempts": [an_attempt(1), an_attempt(2)],
        "reviews": [],
        "anomalies": [{"kind": "late_work_result", "agent_id": str(UUID(int=5)), "detail": {"x": 1}, "at": NOW}],
        "events": (Event(9, "task.ready", task_id(1), None, {"decision": retry}, NOW - timedelta(seconds=5)),),
    }  # fmt: skip
    return Story(**(parts | fields))


def test_why_tells_every_decision_in_order() -> None:
    shown = text(why_lines(a_story()))
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
    shown = text(why_lines(a_story(), only=task_id(2)))
    assert "Step 2: Step 2" in shown
    assert "Step 1" not in shown
    assert "How it was understood" not in shown


def test_full_adds_what_is_bound_and_how_it_was_scored() -> None:
    full, brief = text(why_lines(a_story(), full=True)), text(why_lines(a_story()))
    assert ("why it: first choice" in full, "first choice" in brief) == (True, False)
    assert "then: the next tier was asked, or a person" in full
    for detail in ("ab12" * 16, "c" * 64, '{"chance": 0.9}', '{"flag": 0.6}', "lease 4", '{"x": 1}'):
        assert detail in full
        assert detail not in brief


# --- lists and JSON ---------------------------------------------------------------------------------------------------


def an_agent(**fields: Any) -> dict[str, Any]:
    return {
        "name": "infra-1", "status": "online", "silent_seconds": 3, "in_flight": 1, "slots": 2, "successes": 3,
        "failures": 1, "total_ms": 8000, "capabilities": ["run_playbook"],
    } | fields  # fmt: skip


def test_agents_are_shown_with_what_they_have_done() -> None:
    lines = agent_list([an_agent(), an_agent(name="infra-2", silent_seconds=31), an_agent(silent_seconds=None)], 30)
    assert " ".join(lines[1].text.split()) == "infra-1 online 3 s ago 1 of 2 4 75 % 2 s run_playbook"
    assert [line.text.split()[1] for line in lines[2:]] == ["offline", "offline"]
    assert "No agent has registered" in text(agent_list([], 30))


def test_the_catalog_says_how_to_ask_and_what_cannot_be_done() -> None:
    schema = {"properties": {"port": {"type": "integer", "default": 80}, "host": {"enum": ["a", "b"]}},
              "required": ["host"]}  # fmt: skip
    spec = {"intent": "b_it", "description": "Do it", "examples": ["do it", "do", "d", "not shown"], "risk": "read",
            "parameters": schema, "resources": a_step()["resource_requirements"], "source": "x.yml",
            "outputs": {"properties": {"url": {"type": "string"}}},
            "unavailable": None, "work_type": "run_playbook"}  # fmt: skip
    broken = {**spec, "intent": "a_broken", "unavailable": "broken YAML at line 2"}
    shown = text(catalog_lines([spec, broken], [{"wish": "make coffee", "times": 7}]))
    assert "b_it: Do it" in shown
    assert "“do it”" in shown
    assert "not shown" not in shown
    assert "port: integer; 80 unless told otherwise" in shown
    assert "host (needed): any value; one of a, b" in shown
    assert "returns url: string" in shown
    assert "a_broken: broken YAML at line 2" in shown
    assert "7 times: make coffee" in shown


def test_a_request_as_json_names_what_scripts_need() -> None:
    value = json_view.request_value(a_request(), a_plan(), [a_task(1)], [an_attempt(1)], ("Which?",))
    assert value["request_id"] == str(REQUEST_ID)
    assert (value["status"], value["questions"]) == ("completed", ["Which?"])
    assert value["plan"]["digest"] == "ab12" * 16
    assert value["tasks"][0] | {"outputs": {}} == value["tasks"][0]
    assert value["tasks"][0]["agent"] == "infra-1"
    assert json_view.request_value(a_request(), None, [], [])["plan"] is None


def test_why_tells_what_was_predicted_and_who_was_looked_at_in_a_large_pool() -> None:
    decision = a_decision(1, predicted_success=0.9, predicted_ms=2_000)
    decision["decision"] |= {"draw": 7, "pool_size": 300, "policy": "learned"}
    brief, full = (
        [line.text for line in why_lines(a_story(decisions=[decision]), only=task_id(1), full=full)]
        for full in (False, True)
    )
    assert "looked at 2 of 300 agents, picked by draw 7" in brief
    assert "policy learned predicted success 0.90; 2 s" in full
    assert not [line for line in brief if "predicted" in line]


def test_why_shows_what_was_claimed_and_each_term_of_a_confidence() -> None:
    subtask = a_decomposition()["value"]["subtasks"][0]
    weighed = {**subtask, "confidence": 0.41, "claimed_confidence": 0.95, "terms": {"tier": 1.1, "catalogue match": -3}}
    row = a_decomposition()
    row = {**row, "value": {**row["value"], "subtasks": [weighed], "calibration": "1+57:ab"}}
    told = "\n".join(line.text for line in why_lines(a_story(decompositions=[row]), full=True))
    assert "0.95 was claimed; in log-odds: tier +1.10, catalogue match -3.00" in told
    assert "confidences by calibration 1+57:ab" in told
