"""SQL kept in .sql files, each statement under a `-- name:` line, so that it can be read, and explained, as SQL."""

from __future__ import annotations

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load(*files: str) -> dict[str, str]:
    """Return name -> statement of the given files of this folder. A name that occurs twice is a mistake: ValueError."""
    statements: dict[str, str] = {}
    for file in files:
        text = (resources.files(__package__) / "sql" / file).read_text()
        parts = _NAME.split(text)[1:]
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise ValueError(f"two statements are named {name}")
            statements[name] = body.strip()
    return statements
