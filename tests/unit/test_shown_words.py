"""Whatever can be one of a few things and is shown to people has its words: no KeyError, no raw name by accident.

`SHOWN` has a rendering for each such enumeration, and every member goes through it. A search of the sources keeps it
complete: a new `StrEnum` or `Literal` of texts belongs into `SHOWN`, or into `INTERNAL` when nobody reads it.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args
from uuid import UUID

import pytest

from chargehand.agent.runtime.results import ENDINGS, Ending
from chargehand.agents.infra.partly import Left, in_part
from chargehand.app.doctor import Check, State
from chargehand.app.fleet import AgentStatus, Concern, concerns
from chargehand.app.trail import DecisionTrail
from chargehand.cli.commands.run import Level, Mode, Other
from chargehand.cli.flows.conversation import STEPS
from chargehand.cli.flows.follow import AT_WORK
from chargehand.cli.show.checks import check_lines
from chargehand.cli.show.ending import ending_lines
from chargehand.cli.show.lists import agent_list, catalog_lines, concern_lines, review_list
from chargehand.cli.show.plan import plan_lines
from chargehand.cli.show.progress import board
from chargehand.cli.show.request import overview, standing
from chargehand.cli.show.why import why_lines
from chargehand.cli.terminal.exit_codes import OF_REQUEST, WAITS, exit_of
from chargehand.cli.terminal.lines import Line
from chargehand.domain import envelopes
from chargehand.domain.envelopes import Envelope, MessageType
from chargehand.domain.errors import BadEnvelope
from chargehand.domain.intents import Otherwise
from chargehand.domain.messages import Failure
from chargehand.domain.plans import Ruling, WorkPlan
from chargehand.domain.priorities import HEAD_STARTS, PRIORITIES, Priority
from chargehand.domain.records import Followed, ReviewKind
from chargehand.domain.risks import RISKS, Risk
from chargehand.domain.states import REQUEST_ENDED, AttemptStatus, PlanStatus, RequestStatus, TaskStatus
from chargehand.execution import retry
from chargehand.routing.filters import FILTERS
from chargehand.understanding.calibration import AGREEING
from chargehand.understanding.cross_check import Agreement
from chargehand.understanding.judgements import WEIGHTS, How
from tests.builders import NOW
from tests.unit.cli_rows import (
    a_call,
    a_decision,
    a_plan,
    a_request,
    a_review,
    a_step,
    a_task,
    a_trail,
    an_agent,
    an_attempt,
    an_entry,
    an_event,
    an_offer,
)

OPEN = tuple(status for status in RequestStatus if status not in REQUEST_ENDED)
ENDED = tuple(status for status in RequestStatus if status in REQUEST_ENDED)
SOURCES = Path(__file__).parents[2] / "src" / "chargehand"


class Shown(NamedTuple):
    """An enumeration, how one of its members is shown, and whether that is by the member's own name."""

    members: tuple[str, ...]
    render: Callable[[str], str]
    by_name: bool = False


def options(kind: Any) -> tuple[str, ...]:
    return get_args(kind) or tuple(kind)


def text(lines: list[Line]) -> str:
    return "\n".join(line.text for line in lines)


# --- how each is shown: only the part that differs from member to member ----------------------------------------------


def why(**parts: Any) -> str:
    """Return what `why` tells of a request with these parts."""
    nothing: dict[str, Any] = dict.fromkeys(DecisionTrail.__dataclass_fields__, ()) | {"sealed": None}
    return text(why_lines(a_trail(**(nothing | {"request": a_request()} | parts)), full=True))


def of_risk(risk: str) -> str:
    plan = text(plan_lines(a_request(), a_plan(a_step(risk=risk, retry_safe=True)), None))
    catalog = text(catalog_lines([an_entry(risk=risk)], []))
    shown = RISKS[Risk(risk)].shown
    assert shown in plan
    assert shown in catalog
    return shown


def of_open_request(status: str) -> str:
    row = a_request(status=status, ended_at=None)
    shown = text(standing(row, (), (), (), ()) + overview([row], [], NOW))
    assert "chargehand " in shown, "what can be done about it"
    return shown


def of_task(status: str) -> str:
    tasks = [a_task(1, TaskStatus(status))]
    assert text(board(tasks, {}, {}, 0))
    return text(ending_lines(a_request(), tasks, [], 1.0)[1:2]).partition(": ")[2]


def of_attempt(status: str) -> str:
    decision = a_decision(1, {"candidates": []}, reason="")
    return why(tasks=(a_task(),), decisions=(decision,), attempts=(an_attempt(status=status),))


def of_ruling(action: str) -> str:
    ruling = Ruling.model_validate({"rule": "default", "action": action, "reason": "so"})
    shown = why(plans=(a_plan().model_copy(update={"ruling": ruling}),))
    return shown.partition("rule “default”: ")[2].partition(", because")[0]


def of_retry(action: str) -> str:
    decision = {"action": action, "reason": "so", "wait_seconds": 0.0}
    return why(tasks=(a_task(),), events=(an_event("task.ready", {"decision": decision}),))


def of_followed(followed: str) -> str:
    return why(llm_calls=(a_call(followed=followed),)).partition("then: ")[2].partition("\n")[0]


def of_review(kind: str) -> str:
    return text(review_list([a_review(kind=kind)])[1:])


def of_failure(kind: str) -> str:
    failure = Failure.model_validate({"kind": kind, "message": ""})
    return retry.decide(failure, attempts_made=1, retry_safe=True, started=True).reason


def of_message(kind: str) -> str:
    envelope = Envelope(message_id=UUID(int=1), from_agent="a", to_agent="b", type=MessageType(kind), timestamp=NOW,
                        trace_id=UUID(int=2), payload={"x": "y" * envelopes.MAX_BYTES})  # fmt: skip
    with pytest.raises(BadEnvelope) as refusal:
        envelopes.encode(envelope, b"key")
    return str(refusal.value)


def of_mode(mode: str) -> str:
    assert Mode(mode)
    return text(plan_lines(a_request(), a_plan(mode=mode), None)[-1:]).partition(", ")[2].partition(";")[0]


def of_concern(kind: str) -> str:
    granted = an_offer(spec={"risk": "destroy"})
    changed = an_offer("infra-2", granted=False, granted_terms=granted.spec.terms)
    thief = an_agent(rival="thief.1", rival_silent_seconds=Decimal(5))
    found = concerns([thief], [granted, changed, an_offer("infra-3")])
    assert [concern.kind for concern in found] == list(options(Concern.model_fields["kind"].annotation))
    return text(concern_lines([concern for concern in found if concern.kind == kind]))


SHOWN: dict[str, Shown] = {
    "concerns": Shown(options(Concern.model_fields["kind"].annotation), of_concern),
    "risks": Shown(options(Risk), of_risk),
    "open requests": Shown(OPEN, of_open_request, by_name=True),
    "ended requests": Shown(ENDED, lambda s: text(ending_lines(a_request(status=s), [], [], 1.0))),
    "statuses of plans": Shown(
        options(PlanStatus), lambda s: why(plans=(a_plan().model_copy(update={"status": PlanStatus(s)}),)), by_name=True
    ),
    "statuses of tasks": Shown(options(TaskStatus), of_task),
    "statuses of attempts": Shown(options(AttemptStatus), of_attempt, by_name=True),
    "rulings": Shown(options(Ruling.model_fields["action"].annotation), of_ruling),
    "what follows a failure": Shown(options(retry.RetryDecision.model_fields["action"].annotation), of_retry),
    "what follows a call": Shown(options(Followed), of_followed),
    "kinds of review": Shown(options(ReviewKind), of_review),
    "statuses of agents": Shown(
        options(AgentStatus), lambda s: text(agent_list([an_agent(status=s)], 60)), by_name=True
    ),
    "kinds of failure": Shown(options(Failure.model_fields["kind"].annotation), of_failure),
    "checks": Shown(options(State), lambda s: text(check_lines([Check("x", s, "", "")])), by_name=True),  # type: ignore[arg-type]
    "messages": Shown(options(MessageType), of_message, by_name=True),
    "modes": Shown(options(Mode), of_mode),
    "priorities": Shown(PRIORITIES, lambda p: Level(p).value, by_name=True),
    "otherwise": Shown(options(Otherwise), lambda o: Other(o).value, by_name=True),
    "complexity": Shown(
        options(WorkPlan.model_fields["complexity_level"].annotation),
        lambda c: why(plans=(a_plan(complexity_level=c),)),
        by_name=True,
    ),
    "why work was ended": Shown(options(Ending), lambda e: ENDINGS[e][2]),  # type: ignore[index]
    "what is left undone": Shown(options(Left), lambda left: in_part({left: ["x"]})),  # type: ignore[dict-item]
    "how a plan was judged": Shown(options(How), lambda how: how if how in WEIGHTS else "", by_name=True),
}

INTERNAL: tuple[tuple[set[str], str], ...] = (
    (set(options(Agreement)), "a weight (AGREEING); people see a flag in words"),
    ({"never", "down", "busy"}, "FILTERS say it in words of their own"),
    ({"available", "unavailable", "infeasible"}, "the health of a pool is shown by its reason"),
    ({"use", "doubt", "leave"}, "`use` changes nothing, the others are what follows a call"),
    ({"straightforward", "tricky", "failed"}, "kept of an attempt for the statistics of agents"),
    ({"waiting", "asking", "running", "ended"}, "where an attempt is inside its agent"),
    ({"string", "integer", "number", "boolean"}, "types of JSON schema, as the operator wrote them"),
    ({"playbook", "script"}, "said in the messages that begin with the file's name"),
    ({"order", "report"}, "part of a signature"),
    ({"leased", "accepted", "started", "reported", "lost", "foreign"}, "columns of a table; its cells are shown"),
    (
        {"unreachable", "busy", "full", "configuration", "unstorable"},
        "a column of the table of SQLSTATEs; its texts are shown",
    ),
    ({"open", "resolved"}, "only open reviews are listed; `why` tells how the others were resolved"),
    ({"intent", "vague", "doubtful", "out_of_scope", "background"}, "inside the catalogue match; it asks in sentences"),
    ({"place", "only", "exception", "quantity"}, "what a request says; it is asked about in sentences"),
    ({"smart", "fast", "immediate"}, "modes of pg_ctl"),
    ({"again", "elsewhere", "fail", "review"}, "cells of the table of retries; what is decided is shown"),
    ({"accepted", "ended", "pruned"}, "kinds of seals: said in sentences by `audit verify`"),
    ({"always", "unsure", "never"}, "values of a setting, as the operator wrote them"),
    ({"skeleton", "parameters"}, "a column of the calls of models; `why` shows what was asked by what came of it"),
    ({"text", "json"}, "values of a setting, as the operator wrote them"),
    ({"accept", "fail"}, "values of a setting, as the operator wrote them"),
    ({"http", "litellm"}, "values of a setting, as the operator wrote them"),
    ({"whole", "hang", "drip", "cut"}, "a scripted server for tests"),
    ({"stop", "length", "refusal"}, "a scripted server for tests"),
)

MEMBERS = [(name, member) for name, shown in SHOWN.items() for member in shown.members]


@pytest.mark.parametrize(("name", "member"), MEMBERS, ids=[f"{name}: {member}" for name, member in MEMBERS])
def test_every_member_has_its_words(name: str, member: str) -> None:
    shown = SHOWN[name]
    words = shown.render(str(member))
    assert words.strip()
    if shown.by_name:
        assert str(member) in words
    elif "_" in member:
        assert str(member) not in words, "its name is shown instead of words"


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_no_two_members_look_the_same(name: str) -> None:
    words = [SHOWN[name].render(str(member)) for member in SHOWN[name].members]
    assert len(set(words)) == len(words)


def test_every_enumeration_is_shown_or_internal() -> None:
    known = [set(map(str, shown.members)) for shown in SHOWN.values()] + [names for names, _ in INTERNAL]
    known.append({*OPEN, *ENDED})
    missing = {where: names for where, names in enumerations() if not any(names <= each for each in known)}
    assert not missing, "add it to SHOWN with how it is rendered, or to INTERNAL with the reason"


def test_what_is_internal_is_still_there() -> None:
    found = [names for _, names in enumerations()]
    assert [reason for names, reason in INTERNAL if names not in found] == []


@cache
def enumerations() -> tuple[tuple[str, set[str]], ...]:
    """Return where each enumeration stands, and its members: every StrEnum and every Literal of several texts."""
    texts = {path: path.read_text() for path in sorted(SOURCES.rglob("*.py"))}
    likely = {path: text for path, text in texts.items() if "Literal[" in text or "StrEnum)" in text}
    return tuple(found for path, text in likely.items() for found in _enumerations(path, ast.parse(text)))


def _enumerations(path: Path, tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    for node in ast.walk(tree):
        where = f"{path.relative_to(SOURCES)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and _is(node.value, "Literal"):
            values = [each.value for each in node.slice.elts if isinstance(each, ast.Constant)]
            yield where, {value for value in values if isinstance(value, str)}
        elif isinstance(node, ast.ClassDef) and any(_is(base, "StrEnum") for base in node.bases):
            yield where, _members(path, node.name)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _members(path: Path, name: str) -> set[str]:
    module = ".".join(("chargehand", *path.relative_to(SOURCES).with_suffix("").parts))
    kind: type[StrEnum] = getattr(importlib.import_module(module), name)
    return {str(member) for member in kind}


# --- tables that decide rather than show ------------------------------------------------------------------------------


def test_every_request_can_be_led_on_and_left_with_a_code() -> None:
    assert {*STEPS, *AT_WORK, *REQUEST_ENDED} == set(RequestStatus)
    assert set(OF_REQUEST) == REQUEST_ENDED
    assert {exit_of(status) for status in set(RequestStatus) - REQUEST_ENDED} == {WAITS}


def test_the_options_of_commands_are_those_of_the_engine() -> None:
    assert tuple(Level) == PRIORITIES
    assert set(HEAD_STARTS) == set(options(Priority))
    assert set(Other) == set(options(Otherwise))
    assert set(Mode) == set(options(WorkPlan.model_fields["mode"].annotation))


def test_tables_have_a_row_for_every_member() -> None:
    assert set(AGREEING) == set(options(Agreement))
    assert set(RISKS) == set(Risk)
    assert list(RISKS) == list(Risk), "one order, from harmless to worst"
    assert all(filter_.one and filter_.many for filter_ in FILTERS)
