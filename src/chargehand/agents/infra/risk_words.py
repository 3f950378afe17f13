"""What a name says of the risk of work whose author does not say it. Pure.

A name can only make it worse: nobody has looked, so nothing is taken to be harmless for how it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from chargehand.domain.risks import Risk

_VERBS = "reset destroy wipe delete teardown purge erase"
DESTROYING = frozenset(form for verb in _VERBS.split() for form in (verb, f"{verb}s"))
_TWO = re.compile(r"\btears? ?down\b")  # the one that is written in two words


def risk_of_names(names: Iterable[str], otherwise: Risk) -> Risk:
    """Return `destroy` where any name has a word for it, else what it is otherwise."""
    return Risk.DESTROY if any(map(_destroys, names)) else otherwise


def _destroys(name: str) -> bool:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^a-zA-Z]+", " ", name).lower()  # WipeDisk, wipe_disk
    return not DESTROYING.isdisjoint(words.split()) or _TWO.search(words) is not None
