"""What work can do to the machines it touches: one table, a row for each risk.

Nothing else lists risks. What people read, what a dry run and the router go by, and the approval rule that a risk
brings with it all stand in its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, NamedTuple


class Risk(StrEnum):
    """What a task can do to the machines it touches. Its row in `RISKS` says what follows from it."""

    READ = "read"
    CHANGE = "change"
    UNKNOWN = "unknown"
    DESTROY = "destroy"


class OwnRule(NamedTuple):
    """An approval rule that a risk brings with it: no setting lets a plan of that risk run unasked."""

    name: str
    action: Literal["ask", "ask_twice"]
    reason: str  # why, as people are shown it


class Traits(NamedTuple):
    """What a risk means."""

    shown: str  # what people read beside a step
    changes: bool  # False: may be repeated, and done in a dry run
    final: bool  # cannot be undone: it stands out, and no new agent is tried out on it
    own_rule: OwnRule | None  # None: the rules for all plans decide


RISKS: Mapping[Risk, Traits] = {  # from harmless to worst
    Risk.READ: Traits("only looks", changes=False, final=False, own_rule=None),
    Risk.CHANGE: Traits("changes things", changes=True, final=False, own_rule=None),
    Risk.UNKNOWN: Traits(  # it may be the worst, so it is treated as such
        "may do anything: nobody has said what",
        changes=True,
        final=True,
        own_rule=OwnRule("unknown risk", "ask", "nobody has said what it can do"),
    ),
    Risk.DESTROY: Traits(
        "DESTROYS something", changes=True, final=True, own_rule=OwnRule("destroys", "ask", "it destroys something")
    ),
}
if missing := set(Risk) - set(RISKS):  # no command starts, rather than one failing when it shows such a plan
    raise TypeError(f"RISKS has no row for {', '.join(sorted(missing))}")


def one_of_risks() -> str:
    """Return every risk's name for a sentence: `read`, `change` or `destroy`."""
    *others, last = (f"`{risk}`" for risk in RISKS)
    return f"{', '.join(others)} or {last}"
