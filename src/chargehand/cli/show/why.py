"""Every decision about a request, in the order it was taken, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chargehand.cli.show.inputs import references, taken_lines
from chargehand.cli.show.plan import parameters
from chargehand.cli.show.request import head
from chargehand.cli.terminal.lines import Line, clock, lasting, said, short
from chargehand.domain.records import FOLLOWED, Event
from chargehand.execution import task_flow
from chargehand.store.queries import Row, Rows


@dataclass(frozen=True)
class Story:
    """All that is stored about how one request was decided."""

    request: Row
    decompositions: Rows
    llm_calls: Rows
    plans: Rows
    approvals: Rows
    tasks: Rows
    decisions: Rows
    attempts: Rows
    reviews: Rows
    anomalies: Rows
    events: tuple[Event, ...]


def why_lines(story: Story, *, only: UUID | None = None, full: bool = False) -> list[Line]:
    """Return the whole story, or that of one task. `full` adds hashes, scores, thresholds and raw details."""
    lines = head(story.request)
    if only is None:
        lines += [*_understood(story, full), *_planned(story, full), *_approved(story, full)]
    for task in story.tasks:
        if only in (None, task["task_id"]):
            lines += _task(task, story, full)
    if only is None:
        lines += [*_reviews(story), *_anomalies(story, full), *_ended(story)]
    return lines


def _understood(story: Story, full: bool) -> Iterator[Line]:
    yield Line("How it was understood", "title")
    for call in story.llm_calls:
        cost = f", {call['cost_usd']:.4f} USD" if call["cost_usd"] else ""
        tokens = f", {call['tokens_in']} + {call['tokens_out']} tokens" if call["tokens_in"] else ""
        end = f"not used: {call['error']}" if call["error"] else "used"
        text = f"asked {call['model']} ({call['tier']}): {lasting(call['seconds'])}{tokens}{cost}; {end}"
        yield Line(text, "warn" if call["error"] else "", 2)
        if full and call["choice"]:
            yield Line(f"why it: {call['choice']}", "dim", 4)
            yield Line(f"then: {FOLLOWED[call['followed']]}", "dim", 4)
    for row in story.decompositions:
        yield from _decomposition(row, full)


def _decomposition(row: Row, full: bool) -> Iterator[Line]:
    value = row["value"]
    yield Line(f"{row['model']} ({row['tier']}) read “{row['wording']}”:", "", 2)
    for subtask in value["subtasks"]:
        given = f" with {parameters(subtask['parameters'])}" if subtask["parameters"] else ""
        words = f"“{subtask['words'] or subtask['name']}”"
        yield Line(f"{words} -> {subtask['intent']}{given}; confidence {subtask['confidence']:.2f}", "", 4)
        if subtask.get("terms"):
            yield Line(_weighed(subtask), "dim", 6)
        yield from (Line(f"flag: {flag}", "warn", 6) for flag in subtask["flags"])
    yield from (Line(f"asked back: {question}", "warn", 4) for question in value["ambiguities"])
    yield from (Line(f"no agent can do: “{wish}”", "warn", 4) for wish in value["out_of_scope"])
    yield from (Line(f"assumed: {assumption}", "", 4) for assumption in value["assumptions"])
    if full:
        yield Line(f"thresholds: {said(row['thresholds'])}", "dim", 4)
        yield Line(f"confidences by calibration {value.get('calibration') or 'none'}", "dim", 4)


def _weighed(subtask: Mapping[str, Any]) -> str:
    terms = ", ".join(f"{name} {worth:+.2f}" for name, worth in subtask["terms"].items())
    return f"{subtask['claimed_confidence']:.2f} was claimed; in log-odds: {terms}"


def _planned(story: Story, full: bool) -> Iterator[Line]:
    if story.plans:
        yield Line("What was planned", "title")
    for stored in story.plans:
        plan, ruling = stored["plan"], stored["ruling"]
        order = " -> ".join(f"{t['order']} {t['intent']}" for t in plan["tasks"])
        text = f"plan {stored['version']} ({stored['status']}, {plan['mode']}, {plan['complexity_level']}): {order}"
        yield Line(text, "", 2)
        for task in plan["tasks"]:
            if task["depends_on"]:
                yield Line(f"{task['order']} comes after {', '.join(map(str, task['depends_on']))}", "", 4)
            yield from references(task, plan["tasks"])
            if full:
                yield Line(f"{task['order']} is bound to {task['source']}, {task['content_hash']}", "dim", 4)
        asks = {"run": "runs at once", "ask": "a person must agree", "ask_twice": "two people must agree"}
        yield Line(f"rule “{ruling['rule']}”: {asks[ruling['action']]}, because {ruling['reason']}", "", 4)
        yield Line(f"digest {stored['digest'] if full else short(stored['digest'])}", "dim", 4)


def _approved(story: Story, full: bool) -> Iterator[Line]:
    if story.approvals:
        yield Line("Who agreed", "title")
    for row in story.approvals:
        digest = row["digest"] if full else short(row["digest"])
        words = f": “{row['words']}”" if row["words"] else ""
        at = clock(row["created_at"])
        yield Line(f"{row['approver']} {row['decision']} plan {row['version']}, {digest}, at {at}{words}", "", 2)


def _task(task: Row, story: Story, full: bool) -> Iterator[Line]:
    yield Line(f"Step {task['task_order']}: {task['spec']['name']} ({short(task['task_id'])})", "title")
    attempts = {a["attempt_id"]: a for a in story.attempts if a["task_id"] == task["task_id"]}
    for decision in story.decisions:
        if decision["task_id"] == task["task_id"]:
            yield from _routing(decision, attempts, full)
    for event in story.events:
        if event.task_id == task["task_id"] and "decision" in event.data:
            yield _retry(event.data["decision"])
        elif event.task_id == task["task_id"] and "inputs" in event.data:
            yield from taken_lines(event.data["inputs"], 2)
        elif event.task_id == task["task_id"] and _changed_places(event):
            yield Line(f"{clock(event.at)} {event.data['reason']}", "", 2)
    yield Line(f"{task['status']}: {task['status_reason'] or 'no reason given'}", "", 2)
    if "unfit_outputs" in (task["result"] or {}):
        yield Line(f"its outputs differ from its declaration: {task['result']['unfit_outputs']}", "warn", 2)
    if full:
        yield from _attempt_details(attempts)


def _changed_places(event: Event) -> bool:
    """Whether a task was put before or behind another one after the approval."""
    if event.kind == "task.pending":
        return bool(event.data["from"] == "ready")
    return event.kind == "task.ready" and str(event.data["reason"]).startswith(task_flow.GOES_BEFORE)


def _routing(row: Row, attempts: Mapping[Any, Row], full: bool) -> Iterator[Line]:
    attempt = attempts.get(row["attempt_id"])
    number = f"attempt {attempt['number']}" if attempt else "no agent"
    yield Line(f"{number}: {row['reason']}", "" if attempt else "warn", 2)
    yield from _looked_at(row, full)
    for candidate in row["decision"]["candidates"]:
        if candidate["rejected_by"]:
            yield Line(f"not {candidate['name']}: {candidate['reason']} ({candidate['rejected_by']})", "", 4)
        elif full:
            yield Line(f"{candidate['name']}: {said(candidate['terms'])} = {candidate['score']}", "dim", 4)
    if attempt:
        yield _attempt(attempt)


def _looked_at(row: Row, full: bool) -> Iterator[Line]:
    """What else is kept of a choice: who was looked at in a large pool, and what was predicted."""
    value = row["decision"]
    if value.get("draw") is not None:
        text = f"looked at {len(value['candidates'])} of {value['pool_size']} agents, picked by draw {value['draw']}"
        yield Line(text, "dim", 4)
    if full and row.get("predicted_success") is not None:
        seconds = row.get("predicted_ms")
        text = f"; {lasting(seconds / 1000)}" if seconds is not None else ""
        yield Line(f"policy {value['policy']} predicted success {row['predicted_success']:.2f}{text}", "dim", 4)


def _attempt(attempt: Row) -> Line:
    took = f" after {lasting(attempt['duration_ms'] / 1000)}" if attempt["duration_ms"] is not None else ""
    result = attempt["result"] or {}
    failure = (result.get("failure") or {}).get("message", "")
    text = failure or result.get("summary") or "no word from the agent"
    style = "" if attempt["status"] == "succeeded" else "warn"
    open_ = attempt["status"] in ("leased", "accepted", "started")
    return Line(f"{attempt['agent']}: {attempt['status']}{took}{'' if open_ else f': {text}'}", style, 4)


def _retry(decision: Mapping[str, Any]) -> Line:
    words = {"again": "tried again", "fail": "not tried again", "review": "handed to a person"}[decision["action"]]
    wait = f" after {lasting(decision['wait_seconds'])}" if decision["wait_seconds"] else ""
    return Line(f"{words}{wait}: {decision['reason']}", "", 2)


def _attempt_details(attempts: Mapping[Any, Row]) -> Iterator[Line]:
    for attempt in attempts.values():
        yield Line(f"attempt {attempt['number']} {attempt['attempt_id']}, lease {attempt['lease_token']}", "dim", 4)
        data = (attempt["result"] or {}).get("data") or {}
        yield from (Line(f"{name}: {said(value)}", "dim", 6) for name, value in data.items() if name != "diff")


def _reviews(story: Story) -> Iterator[Line]:
    if story.reviews:
        yield Line("What a person had to look at", "title")
    for row in story.reviews:
        end = f"{row['resolution']} by {row['resolved_by']}" if row["resolution"] else "open"
        yield Line(f"{row['kind']}: {row['reason']} ({end})", "warn" if end == "open" else "", 2)


def _anomalies(story: Story, full: bool) -> Iterator[Line]:
    if story.anomalies:
        yield Line("Unexpected messages; they changed nothing", "title")
    for row in story.anomalies:
        detail = f": {said(row['detail'])}" if full else ""
        yield Line(
            f"{clock(row['at'])} {row['kind']} from {short(row['agent_id'] or 'nobody known')}{detail}", "warn", 2
        )


def _ended(story: Story) -> Iterator[Line]:
    request = story.request
    if request["ended_at"]:
        yield Line(f"It ended {request['status']} at {clock(request['ended_at'])}: {request['status_reason']}", "title")
        yield Line(f"{request['event_count']} events are sealed; `chargehand audit verify` checks them.", "dim", 2)
