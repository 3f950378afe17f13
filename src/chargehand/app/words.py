"""What people type: made clean before anything is started, so that words that cannot be a request cost nothing."""

from __future__ import annotations

import os
from typing import Any

from chargehand.domain.errors import BadDecomposition, UnreadableText
from chargehand.planning.start_times import start_time
from chargehand.understanding import nlu

__all__ = ["clean", "start_time", "written_yaml"]


def clean(typed: str) -> str:
    """Return what was typed on one line; bytes that are no text are refused by name. Raises `BadRequest`."""
    return nlu.clean(os.fsencode(typed))


def written_yaml(text: str) -> dict[str, Any]:
    """Return what a person wrote in an editor as the value it stands for. Raises `BadDecomposition`."""
    from chargehand.agents import bounded_yaml  # slow to import

    try:
        value = bounded_yaml.load(text)
    except UnreadableText as error:
        where = f" at line {error.line}" if error.line else ""
        raise BadDecomposition(f"this is not YAML{where}: {error}") from error
    if not isinstance(value, dict):
        raise BadDecomposition("this holds no subtasks", hint="Write `subtasks:` and a list below it.")
    if problem := bounded_yaml.unlike_json(value):
        raise BadDecomposition(problem)
    return value
