"""What all values that travel or are kept have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value; unknown fields are a mistake, not a surprise for later."""

    model_config = ConfigDict(frozen=True, extra="forbid")
