"""How a decomposition compares with what a case expects; shared by the tests and whoever measures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from chargehand.catalog.catalog import Catalog, merge
from chargehand.domain.intents import IntentSpec
from chargehand.domain.plans import DecomposedRequest
from chargehand.domain.ports import LLM
from chargehand.understanding import nlu, questions

HERE = Path(__file__).parent
REQUEST_ID = UUID(int=1)


def load_catalog(path: Path) -> Catalog:
    """Read a catalog file; what it leaves out is filled in with what matters to nobody here."""
    return merge(IntentSpec(**({"work_type": "custom_work"} | entry)) for entry in json.loads(path.read_text()))


def load_cases(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


@dataclass(frozen=True)
class Outcome:
    """One case and what became of it."""

    case: dict[str, Any]
    got: DecomposedRequest
    seconds: float

    @property
    def intents(self) -> list[str]:
        return [task.intent for task in self.got.subtasks]

    @property
    def asked(self) -> bool:
        return bool(self.got.ambiguities)

    @property
    def exact(self) -> bool:
        """The right intents in the right order, nothing asked; or a question or refusal where one is due."""
        if self.case["ambiguous"] and not self.case["intents"]:
            return self.asked or (self.case["out_of_scope"] and not self.intents)
        if self.case["ambiguous"]:
            return self.asked or bool(self.got.out_of_scope)
        return not self.asked and self._right and bool(self.got.out_of_scope) == self.case["out_of_scope"]

    @property
    def wrong_and_unflagged(self) -> bool:
        """Work would be planned that nobody asked for, and nothing would make a person look twice."""
        if self.asked or not self.intents or any(task.flags for task in self.got.subtasks):
            return False
        return (self.case["ambiguous"] and not self.got.out_of_scope) or not self._right

    @property
    def _right(self) -> bool:
        accepted = [self.case["intents"], *self.case.get("accept", [])]
        return self.intents in accepted and self._right_parameters

    @property
    def _right_parameters(self) -> bool:
        wanted = self.case.get("parameters")
        return wanted is None or [task.parameters for task in self.got.subtasks] == wanted


async def run(llm: LLM, catalog: Catalog, cases: Sequence[dict[str, Any]]) -> list[Outcome]:
    """Ask for each case, through the same check of the answer as in the product."""
    outcomes = []
    for case in cases:
        ask = questions.build_ask(REQUEST_ID, nlu.clean(case["request"]), catalog)
        reply = await llm.structured(ask)
        outcomes.append(Outcome(case, nlu.read_reply(reply, ask, nlu.Thresholds()), reply.seconds))
    return outcomes


def share(flags: Iterable[bool]) -> float:
    """Percent of the flags that are set."""
    counted = list(flags)
    return 100 * sum(counted) / len(counted)
