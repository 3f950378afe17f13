"""Rows to lines: what each command shows. Pure, so that tests can read it without a database or a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Rows = Sequence[Row]
