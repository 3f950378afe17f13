"""Whether a run that ended did everything: one table, a row for each thing that may be left undone. Pure.

Ansible calls a run good in which a play matched nobody, a host was away, or a task failed and was ignored or rescued.
Whoever reads the result must not have to guess, so each of them is counted, named, and makes the step done in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Left = Literal["no_hosts", "unreachable", "failed", "ignored", "rescued"]

LEFT: Mapping[Left, str] = {
    "no_hosts": "no host matched",
    "unreachable": "could not be reached",
    "failed": "failed, and the playbook went on",
    "ignored": "failed and was ignored",
    "rescued": "failed and was rescued",
}
"""What may be left undone, and the words for it."""

NAMED = 5  # of each; the rest is counted, and `data` has more


def in_part(left: Mapping[Left, Sequence[str]]) -> str:
    """Return what was left undone, in words; empty where everything was done. `left` names it, by kind."""
    if unknown := set(left) - set(LEFT):
        raise KeyError(f"LEFT has no row for {', '.join(sorted(unknown))}")
    return "; ".join(f"{words}: {_some(left[kind])}" for kind, words in LEFT.items() if left.get(kind))


def _some(names: Sequence[str]) -> str:
    more = f" (and {len(names) - NAMED:,} more)" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
