"""Which step may go before another one that cannot start: the one rule, for the plan and for the run.

    apart(one, other) -> whether their order can make no difference
    may_overtake(task, earlier) -> whether a task may go before all of these

Order is kept unless it is proven not to matter. Two steps are apart when both only look, or when what each touches is
known and is not the same. What a step touches are its exclusive keys and the hosts among its parameters. Keys are
compared within their kind (`host`, `service`, ...): `service:shop` and `database:shop` may well be one thing to a
person, so nothing is proven by their being different words.
"""

from __future__ import annotations

from collections.abc import Iterable

from chargehand.domain.plans import WorkTask
from chargehand.domain.risks import Risk

HOST_PARAMETERS = ("host", "hosts", "target_host")
"""Parameters that name machines, by the names that playbooks and our own intents use."""


def may_overtake(task: WorkTask, earlier: Iterable[WorkTask]) -> bool:
    """Whether a task may start before all of these, which were asked for earlier and have not ended."""
    return all(apart(task, other) and other.order not in task.depends_on for other in earlier)


def apart(one: WorkTask, other: WorkTask) -> bool:
    """Whether neither of two tasks changes what the other touches, as far as they say what they touch."""
    ours, theirs = touched(one), touched(other)
    if ours & theirs:
        return False
    if one.risk is Risk.READ and other.risk is Risk.READ:
        return True
    return not _kinds(ours).isdisjoint(_kinds(theirs))


def touched(task: WorkTask) -> frozenset[str]:
    """Return what a task is known to touch, as `kind:name`; empty where it does not say."""
    named = (task.parameters.get(name) for name in HOST_PARAMETERS)
    hosts = [host for value in named for host in (value if isinstance(value, list) else [value])]
    return frozenset({*task.exclusive_keys, *(f"host:{host}" for host in hosts if isinstance(host, str))})


def _kinds(keys: Iterable[str]) -> frozenset[str]:
    return frozenset(key.partition(":")[0] for key in keys)
