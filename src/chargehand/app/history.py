"""The events of a request, with what their data say in typed words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pydantic import BaseModel, JsonValue

from chargehand.app.snapshot import TakenInput
from chargehand.domain.intents import OutputRef
from chargehand.domain.records import Event
from chargehand.domain.states import TaskStatus
from chargehand.execution.retry import Action
from chargehand.execution.task_flow import GOES_BEFORE

Data = Mapping[str, JsonValue]

DETAILS = ("reason", "message", "text", "wording", "resolution", "approver", "digest", "kind")
"""What an event is about, first that is there."""


# Events are sealed and never migrated, so what is read of their documents is only what is told, whatever else is there.


class Retry(BaseModel):
    """What followed from a failed attempt."""

    action: Action
    wait_seconds: float = 0.0
    reason: str


class _Subtask(BaseModel):
    intent: str


class _Decomposed(BaseModel):
    model: str
    subtasks: tuple[_Subtask, ...]


class _Version(BaseModel):
    version: int


class _Reason(BaseModel):
    reason: str


class _Planned(BaseModel):
    plan: _Version
    ruling: _Reason


class HistoryEvent(Event):
    """One line of a request's history. What an event of its kind does not say is empty, or None."""

    __slots__ = ()

    @property
    def reason(self) -> str:
        """Why a status changed."""
        return str(self.data.get("reason", ""))

    @property
    def message(self) -> str:
        """What running work says of itself."""
        return str(self.data.get("message", ""))

    @property
    def hint(self) -> str:
        """What a refusal advises."""
        return str(self.data.get("hint") or "")

    @property
    def came_from(self) -> str:
        """The status before, where this event moved one."""
        return str(self.data.get("from", ""))

    @property
    def retry(self) -> Retry | None:
        """What followed from a failed attempt."""
        decision = self.data.get("decision")
        return None if decision is None else Retry.model_validate(decision)

    @property
    def inputs(self) -> dict[str, TakenInput]:
        """The values that a task was given of earlier ones when it was handed out."""
        return {name: _input(given) for name, given in self.data.get("inputs", {}).items()}

    @property
    def changed_places(self) -> bool:
        """Whether a task was put before or behind another one after the approval."""
        if self.kind == "task.pending":
            return self.came_from == TaskStatus.READY
        return self.kind == "task.ready" and self.reason.startswith(GOES_BEFORE)

    @property
    def detail(self) -> str:
        """What it is about, on one line."""
        if self.kind in TOLD:
            return TOLD[self.kind](self.data)
        return next((str(self.data[name]) for name in DETAILS if self.data.get(name)), "")


def read_events(events: Iterable[Event]) -> list[HistoryEvent]:
    """Return stored events with their typed words."""
    return [HistoryEvent(e.seq, e.kind, e.task_id, e.attempt_id, e.data, e.at) for e in events]


def _input(given: Data) -> TakenInput:
    ref = OutputRef.model_validate({"task": given["task"], "output": given["output"]})
    return TakenInput(ref=ref, known="value" in given, value=given.get("value"))


def _decomposed(data: Data) -> str:
    read = _Decomposed.model_validate(data)
    return f"{read.model}: {', '.join(s.intent for s in read.subtasks) or 'nothing that can be done'}"


def _planned(data: Data) -> str:
    read = _Planned.model_validate(data)
    return f"plan {read.plan.version}: {read.ruling.reason}"


TOLD: Mapping[str, Callable[[Data], str]] = {
    "request.decomposed": _decomposed,
    "plan.pending_approval": _planned,
}
"""Events whose data are a document, and what is told of it."""
