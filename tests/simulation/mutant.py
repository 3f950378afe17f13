"""Bugs planted on purpose, to see whether the simulation finds them.

A mutant is a change of the product's source, made while its modules are imported, in a process of its own; a text that
is no longer there, or there twice, is an error, so that no mutant goes stale unseen.

    python -m tests.simulation.mutant NAME [SCHEDULES [FIRST]]
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Mutant:
    """A planted bug. `breaks`: the promises by any of which it may be found."""

    what: str
    edits: tuple[tuple[str, str, str], ...]  # module, old text, new text
    breaks: frozenset[str]


def _mutant(what: str, breaks: str, *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(what, edits, frozenset(breaks.split()))


PUBLISH = """\
            waiting = await tx.take_outbox(self.settings.batch_size * 2)
            if not waiting:
                return 0
            outcomes = await self.broker.publish([(m.queue, m.body) for _, m in waiting])
"""
MARKED_FIRST = """\
            waiting = await tx.take_outbox(self.settings.batch_size * 2)
            await tx.drop_outbox([number for number, _ in waiting])
        async with self.store.transaction() as tx:
            if not waiting:
                return 0
            outcomes = await self.broker.publish([(m.queue, m.body) for _, m in waiting])
"""

ENDED = "return Lease.REPORTED if attempt.has_result else Lease.LOST"
TAKEN_FOR_OPEN = "return Lease.LEASED"

MUTANTS = {
    # The three that the simulation was built to find.
    "fencing_removed": _mutant(
        "messages about a lease are believed whoever holds it now",
        "no_mistake applied_once history once_per_lease",
        ("chargehand.execution.recording", "if not _is_holder(message, attempt):", "if False:"),
        ("chargehand.execution.recording", ENDED, TAKEN_FOR_OPEN),
    ),
    "marked_before_published": _mutant(
        "messages are forgotten, and then published", "published", ("chargehand.engine.engine", PUBLISH, MARKED_FIRST)
    ),
    "no_sweep": _mutant(
        "nothing looks for what is late",
        "comes_to_rest",
        ("chargehand.engine.loops", '("sweep", self._sweep.sweep),', ""),
    ),
    # Others, to judge how much it sees.
    "applied_twice": _mutant(
        "an ended attempt is taken for an open one, and moves are not guarded by the old status",
        "applied_once history slots",
        ("chargehand.execution.recording", ENDED, TAKEN_FOR_OPEN),
        ("bench.model.statements",
         'found = _to_move(tx, "attempts", ids, old)', 'found = {key: row_of(tx, "attempts", key) for key in ids}'),
        ("bench.model.statements", """row = found.get(key)  # of attempts
        if row is None or row["status"] != before:""", """row = found.get(key)
        if row is None:"""),
        ("chargehand.store.status_moves", "check_move(ATTEMPT, move.old, move.new)", "pass"),
        ("chargehand.store.status_moves", "check_move(TASK, move.old, move.new)", "pass"),
    ),
    "grant_without_asking": _mutant(
        "work that is not safe to repeat starts without leave",
        "no_blind_repeat once_per_lease approved one_holder one_per_key_held fair_weather",
        ("chargehand.agent.runtime.attempt", "            if not self.order.retry_safe:\n                await self._leave_to_start()\n", ""),
    ),
    "granted_to_anybody": _mutant(
        "a second life of an agent is granted what the first was",
        "no_blind_repeat once_per_lease",
        ("chargehand.execution.recording", "if said.incarnation != case.attempt.incarnation:", "if False:"),
    ),
    "lease_not_renewed": _mutant(
        "heartbeats renew no lease", "fair_weather one_holder one_per_key_held",
        ("chargehand.engine.recorder", "await tx.renew([(attempt, agent.agent_id) for agent, beat in beats for attempt in beat.running])", "pass"),
    ),
    "lease_not_watched": _mutant(
        "an agent works on when its lease is lost", "one_holder one_per_key_held",
        ("chargehand.agent.runtime.attempt", '        if left <= 0:\n            self.end("lease")\n', "        if left <= 0:\n            pass\n"),
    ),
    "no_grace": _mutant(
        "a lease is taken away as soon as it is due", "one_holder one_per_key_held",
        ("chargehand.agent.runtime.lease", "return self.renewed_at + self.seconds - self.margin", "return self.renewed_at + 1.3 * self.seconds"),
    ),
    "slots_not_counted": _mutant(
        "a slot is taken though none is free", "slots",
        ("chargehand.store.transaction", "        if done != len(taken):\n", "        if done != len(taken) and False:\n"),
    ),
    "acknowledged_too_early": _mutant(
        "an agent acknowledges an order before it is in its journal, and forgets it when it dies",
        "comes_to_rest fair_weather no_mistake",
        ("chargehand.agent.runtime.runtime", "        try:\n            await self._attempts.take(", "        await delivery.ack()\n        try:\n            await self._attempts.take("),
        ("chargehand.agent.runtime.runtime", "            return\n        await delivery.ack()\n\n    async def _leave_alone", "            return\n\n    async def _leave_alone"),
    ),
    "started_unwritten": _mutant(
        "an agent begins before its journal says so", "once_per_lease no_blind_repeat",
        ("chargehand.agent.runtime.attempt", "            await self._around.journal.write(\n                Started(", "            self._around.journal.note(\n                Started("),
    ),
    "blind_repeat": _mutant(
        "a lost agent's work is repeated, safe or not", "no_blind_repeat",
        ("chargehand.execution.outcomes", "    return task.spec.retry_safe or request.dry_run", "    return True"),
        ("chargehand.execution.retry", '("again",  "review",    "review", "it was started', '("again",  "again",    "again", "it was started'),
    ),
    "key_not_checked": _mutant(
        "two requests may write one key", "no_mistake",
        ("chargehand.store.planning_statements", '        known = (await self.fetch("request_by_key", key))[0]\n        if known["body_digest"] != body_digest:', '        known = {"body_digest": body_digest, "request_id": request.request_id}\n        if known["body_digest"] != body_digest:'),
    ),
    "unapproved": _mutant(
        "every plan runs at once", "approved",
        ("chargehand.engine.engine", 'if ruling.action == "run"}', 'if ruling.action != "never"}'),
        ("chargehand.planning.approval", '{"run": 0, "ask": 1,', '{"run": 0, "ask": 0,'),
    ),
    "silent_move": _mutant(
        "a status changes without an event", "history",
        ("chargehand.store.status_moves", '            self.note(move.request_id, f"attempt.{move.new}", data, task_id=move.task_id, attempt_id=move.attempt_id)\n', ""),
    ),
}  # fmt: skip


class _Planter(importlib.abc.MetaPathFinder):
    """Finds the modules that are to be changed, and changes what they are made of."""

    def __init__(self, mutant: Mutant) -> None:
        self._edits: dict[str, list[tuple[str, str]]] = {}
        for module, old, new in mutant.edits:
            self._edits.setdefault(module, []).append((old, new))

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._edits:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        return importlib.util.spec_from_loader(name, _Loader(name, spec.origin, self._edits.pop(name)))


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, edits: list[tuple[str, str]]) -> None:
        super().__init__(name, path)
        self._edits = edits

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        """Compile the changed source, past the cache of compiled files."""
        text = self.get_data(self.path).decode()
        for old, new in self._edits:
            if text.count(old) != 1:
                raise SystemExit(f"{fullname} has this {text.count(old)} times, not once:\n{old}")
            text = text.replace(old, new)
        return compile(text, self.path, "exec", dont_inherit=True)


def main() -> None:
    """Plant a bug and look for it; print what found it as JSON."""
    mutant, given = MUTANTS[sys.argv[1]], [int(number) for number in sys.argv[2:]]
    most, first = given[0] if given else 2000, given[1] if len(given) > 1 else 0
    sys.meta_path.insert(0, _Planter(mutant))
    from bench.model.world import simulate

    simulate(0)
    gc.freeze()
    gc.disable()
    for seed in range(first, first + most):
        if seed % 50 == 0:
            gc.collect()
        verdict = simulate(seed)
        if verdict.broken:
            print(json.dumps({"schedules": seed + 1 - first, "broken": verdict.broken, "detail": verdict.detail}))
            return
    print(json.dumps({"schedules": most, "broken": None, "detail": ""}))


if __name__ == "__main__":
    main()
