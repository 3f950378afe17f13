"""Every decision about a request, in the order it was taken, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from uuid import UUID

from chargehand.app.history import Retry
from chargehand.app.snapshot import Attempt, Decomposition, LlmCall, Plan, Routed, Task
from chargehand.app.trail import DecisionTrail
from chargehand.cli.show.inputs import references, taken_lines
from chargehand.cli.show.plan import may_run, parameters
from chargehand.cli.show.request import head
from chargehand.cli.terminal.lines import Line, clock, lasting, said, short
from chargehand.domain.plans import Subtask
from chargehand.domain.records import FOLLOWED
from chargehand.domain.states import ATTEMPT_OPEN, AttemptStatus

ASKS = {"run": "runs at once", "ask": "a person must agree", "ask_twice": "two people must agree"}
AFTERWARDS = {"again": "tried again", "fail": "not tried again", "review": "handed to a person"}


def why_lines(trail: DecisionTrail, *, only: UUID | None = None, full: bool = False) -> list[Line]:
    """Return the whole trail, or that of one task. `full` adds hashes, scores, thresholds and raw details."""
    lines = [*head(trail.request), *_differences(trail)]
    lines += [Line(f"trace {trail.request.trace_id}", "dim", 2)] if full else []
    if only is None:
        lines += [*_understood(trail, full), *_planned(trail, full), *_approved(trail, full)]
    for task in trail.tasks:
        if only in (None, task.task_id):
            lines += _task(task, trail, full)
    if only is None:
        lines += [*_reviews(trail), *_anomalies(trail, full), *_ended(trail)]
    return lines


def _differences(trail: DecisionTrail) -> Iterator[Line]:
    """What must not be believed of the rest: it comes from tables that say something else than the events."""
    if trail.differences:
        yield Line("The tables differ from the events; somebody may have changed them", "bad")
    yield from (Line(difference, "bad", 2) for difference in trail.differences)
    if trail.sealed and trail.sealed.problem:
        yield Line(f"The events are not as they were sealed: {trail.sealed.problem}", "bad")


def _understood(trail: DecisionTrail, full: bool) -> Iterator[Line]:
    yield Line("How it was understood", "title")
    for call in trail.llm_calls:
        yield from _call(call, full)
    for reading in trail.decompositions:
        yield from _decomposition(reading, full)


def _call(call: LlmCall, full: bool) -> Iterator[Line]:
    cost = f", {call.cost_usd:.4f} USD" if call.cost_usd else ""
    cached = f" ({call.tokens_cached} of them cached)" if call.tokens_cached else ""
    tokens = f", {call.tokens_in}{cached} + {call.tokens_out} tokens" if call.tokens_in else ""
    end = f"not used: {call.error}" if call.error else "used"
    what = " for the values" if call.purpose == "parameters" else ""
    text = f"asked {call.model} ({call.tier}){what}: {lasting(call.seconds)}{tokens}{cost}; {end}"
    yield Line(text, "warn" if call.error else "", 2)
    if full and call.choice:
        yield Line(f"why it: {call.choice}", "dim", 4)
        yield Line(f"then: {FOLLOWED[call.followed]}", "dim", 4)


def _decomposition(reading: Decomposition, full: bool) -> Iterator[Line]:
    value = reading.value
    yield Line(f"{reading.model} ({reading.tier}) read “{reading.wording}”:", "", 2)
    for subtask in value.subtasks:
        given = f" with {parameters(subtask.parameters)}" if subtask.parameters else ""
        words = f"“{subtask.words or subtask.name}”"
        yield Line(f"{words} -> {subtask.intent}{given}; confidence {subtask.confidence:.2f}", "", 4)
        if subtask.terms:
            yield Line(_weighed(subtask), "dim", 6)
        yield from (Line(f"flag: {flag}", "warn", 6) for flag in subtask.flags)
    yield from (Line(f"asked back: {question}", "warn", 4) for question in value.ambiguities)
    yield from (Line(f"no agent can do: “{wish}”", "warn", 4) for wish in value.out_of_scope)
    yield from (Line(f"assumed: {assumption}", "", 4) for assumption in value.assumptions)
    if full:
        yield Line(f"thresholds: {said(reading.thresholds)}", "dim", 4)
        yield Line(f"confidences by calibration {value.calibration or 'none'}", "dim", 4)


def _weighed(subtask: Subtask) -> str:
    terms = ", ".join(f"{name} {worth:+.2f}" for name, worth in subtask.terms.items())
    return f"{subtask.claimed_confidence or 0:.2f} was claimed; in log-odds: {terms}"


def _planned(trail: DecisionTrail, full: bool) -> Iterator[Line]:
    if trail.plans:
        yield Line("What was planned", "title")
    for stored in trail.plans:
        yield from _plan(stored, full)


def _plan(stored: Plan, full: bool) -> Iterator[Line]:
    plan, ruling = stored.plan, stored.ruling
    order = " -> ".join(f"{task.order} {task.intent}" for task in plan.tasks)
    yield Line(f"plan {stored.version} ({stored.status}, {plan.mode}, {plan.complexity_level}): {order}", "", 2)
    for task in plan.tasks:
        if task.depends_on:
            yield Line(f"{task.order} comes after {', '.join(map(str, task.depends_on))}", "", 4)
        yield from references(task, plan.tasks)
        if task.estimate:
            yield Line(f"{task.order} takes {task.estimate}", "dim", 4)
        if task.contested:
            yield Line(f"{task.order}: agents do not agree on what this is: {task.contested}", "warn", 4)
        if task.agents:
            yield Line(f"{task.order} comes from {task.source}{may_run(task)}", "dim", 4)
        if full:
            yield Line(f"{task.order} is bound to {task.content_hash}", "dim", 4)
    yield Line(f"rule “{ruling.rule}”: {ASKS[ruling.action]}, because {ruling.reason}", "", 4)
    yield Line(f"digest {stored.digest if full else short(stored.digest)}", "dim", 4)


def _approved(trail: DecisionTrail, full: bool) -> Iterator[Line]:
    if trail.approvals:
        yield Line("Who agreed", "title")
    for given in trail.approvals:
        digest = given.digest if full else short(given.digest)
        words = f": “{given.words}”" if given.words else ""
        at = clock(given.created_at)
        yield Line(f"{given.approver} {given.decision} plan {given.version}, {digest}, at {at}{words}", "", 2)


def _task(task: Task, trail: DecisionTrail, full: bool) -> Iterator[Line]:
    yield Line(f"Step {task.task_order}: {task.spec.name} ({short(task.task_id)})", "title")
    attempts = trail.attempts_of(task)
    for decision in trail.decisions:
        if decision.task_id == task.task_id:
            yield from _routing(decision, attempts, full)
    for event in trail.events:
        if event.task_id != task.task_id:
            continue
        if event.retry:
            yield _retry(event.retry)
        elif event.inputs:
            yield from taken_lines(event.inputs, 2)
        elif event.changed_places:
            yield Line(f"{clock(event.at)} {event.reason}", "", 2)
    yield Line(f"{task.status}: {task.status_reason or 'no reason given'}", "", 2)
    if task.returned.unfit_outputs is not None:
        yield Line(f"its outputs differ from its declaration: {task.returned.unfit_outputs}", "warn", 2)
    if full:
        yield from _attempt_details(attempts)


def _routing(decision: Routed, attempts: Mapping[UUID, Attempt], full: bool) -> Iterator[Line]:
    attempt = attempts.get(decision.attempt_id) if decision.attempt_id else None
    number = f"attempt {attempt.number}" if attempt else "no agent"
    yield Line(f"{number}: {decision.reason}", "" if attempt else "warn", 2)
    yield from _looked_at(decision, full)
    for candidate in decision.choice.candidates:
        if candidate.rejected_by:
            yield Line(f"not {candidate.name}: {candidate.reason} ({candidate.rejected_by})", "", 4)
        elif full:
            yield Line(f"{candidate.name}: {said(candidate.terms)} = {candidate.score}", "dim", 4)
    if attempt:
        yield _attempt(attempt)


def _looked_at(decision: Routed, full: bool) -> Iterator[Line]:
    """What else is kept of a choice: who was looked at in a large pool, and what was predicted."""
    choice = decision.choice
    if choice.draw is not None:
        text = f"looked at {len(choice.candidates)} of {choice.pool_size} agents, picked by draw {choice.draw}"
        yield Line(text, "dim", 4)
    if full and decision.predicted_success is not None:
        text = f"; {lasting(decision.predicted_ms / 1000)}" if decision.predicted_ms is not None else ""
        text += f" by {choice.prediction}" if choice.prediction else ""
        yield Line(f"policy {choice.policy} predicted success {decision.predicted_success:.2f}{text}", "dim", 4)


def _attempt(attempt: Attempt) -> Line:
    took = f" after {lasting(attempt.seconds)}" if attempt.seconds is not None else ""
    style = "" if attempt.status is AttemptStatus.SUCCEEDED else "warn"
    said_last = "" if attempt.status in ATTEMPT_OPEN else f": {_last_words(attempt)}"
    return Line(f"{attempt.agent}: {attempt.status}{took}{said_last}", style, 4)


def _last_words(attempt: Attempt) -> str:
    result = attempt.result
    failure = result.failure.message if result and result.failure else ""
    return failure or (result.summary if result else "") or "no word from the agent"


def _retry(followed: Retry) -> Line:
    wait = f" after {lasting(followed.wait_seconds)}" if followed.wait_seconds else ""
    return Line(f"{AFTERWARDS[followed.action]}{wait}: {followed.reason}", "", 2)


def _attempt_details(attempts: Mapping[UUID, Attempt]) -> Iterator[Line]:
    for attempt in attempts.values():
        yield Line(f"attempt {attempt.number} {attempt.attempt_id}, lease {attempt.lease_token}", "dim", 4)
        data = attempt.result.data if attempt.result else {}
        yield from (Line(f"{name}: {said(value)}", "dim", 6) for name, value in data.items() if name != "diff")


def _reviews(trail: DecisionTrail) -> Iterator[Line]:
    if trail.reviews:
        yield Line("What a person had to look at", "title")
    for review in trail.reviews:
        end = f"{review.resolution} by {review.resolved_by}" if review.resolution else "open"
        yield Line(f"{review.kind}: {review.reason} ({end})", "warn" if end == "open" else "", 2)


def _anomalies(trail: DecisionTrail, full: bool) -> Iterator[Line]:
    if trail.anomalies:
        yield Line("Unexpected messages; they changed nothing", "title")
    for one in trail.anomalies:
        detail = f": {said(one.detail)}" if full else ""
        yield Line(f"{clock(one.at)} {one.kind} from {short(one.agent_id or 'nobody known')}{detail}", "warn", 2)


def _ended(trail: DecisionTrail) -> Iterator[Line]:
    request, sealed = trail.request, trail.sealed
    if request.ended_at:
        yield Line(f"It ended {request.status} at {clock(request.ended_at)}: {request.status_reason}", "title")
    if sealed is None or sealed.problem:
        return
    if sealed.events == len(trail.events):
        yield Line(f"All {sealed.events} events are sealed, and as they were then.", "dim", 2)
    else:
        yield Line(
            f"{sealed.events} of {len(trail.events)} events are sealed so far; the others could be altered.", "dim", 2
        )
