"""What people type: made clean before anything is started, so that words that cannot be a request cost nothing."""

from __future__ import annotations

import os

from chargehand.understanding import nlu


def clean(typed: str) -> str:
    """Return what was typed on one line; bytes that are no text are refused by name. Raises `BadRequest`."""
    return nlu.clean(os.fsencode(typed))
