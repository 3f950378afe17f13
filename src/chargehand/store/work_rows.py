"""Rows of tasks, attempts and agents as the values that decisions are made over."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import asyncpg

from chargehand.domain.plans import WorkTask
from chargehand.domain.records import AttemptRecord, TaskRecord
from chargehand.domain.routing import AgentFacts, Figures
from chargehand.domain.states import AttemptStatus, TaskStatus

SPECIALIZATIONS = 1 + AgentFacts._fields.index("specializations")
FIGURES = 1 + AgentFacts._fields.index("of_intent")  # the last fact


def task_of(row: asyncpg.Record) -> TaskRecord:
    """Return a task as the path has it."""
    return TaskRecord(
        task_id=row["task_id"],
        request_id=row["request_id"],
        plan_id=row["plan_id"],
        order=row["task_order"],
        intent=row["intent"],
        work_type=row["work_type"],
        spec=spec_of(row["spec"]),
        status=TaskStatus(row["status"]),
        status_reason=row["status_reason"],
        attempts_made=row["attempts_made"],
        forgiven=row["forgiven"],
        tried=tuple(row["tried"]),
        waited=row["waited"],
        waits_for=row.get("waits_for"),
        chose=row.get("chose", False),
        stranded=row.get("stranded", 0.0),
        failures=row["failures"],
    )


@lru_cache(maxsize=4096)  # a task is read half a dozen times, and what it says never changes
def spec_of(text: str) -> WorkTask:
    """Return a task as it was approved."""
    return WorkTask.model_validate_json(text)


def attempt_of(row: asyncpg.Record) -> AttemptRecord:
    """Return an attempt."""
    values: dict[str, Any] = dict(row)
    return AttemptRecord(**{**values, "status": AttemptStatus(values["status"])})


def facts_of(row: asyncpg.Record) -> AgentFacts:
    """Return an agent as routing sees it.

    The row is the intent, then the facts in their order, the last of them figure by figure (`pool` in hot.sql).
    """
    values = list(row.values())
    values[SPECIALIZATIONS] = tuple(values[SPECIALIZATIONS])
    figures = Figures(*values[FIGURES:])
    values[FIGURES:] = [figures if figures.runs else None]
    return AgentFacts(*values[1:])
