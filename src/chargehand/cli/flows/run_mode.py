"""How far a command leads a request. By itself, so that bad words are refused before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunMode:
    """How far to go: agree without asking, only to the plan, only to the plan with that digest, not into the work.

    `words` say why somebody agrees.
    """

    yes: bool = False
    only_plan: bool = False
    digest: str | None = None
    wait: bool = True
    words: str = ""
