"""No output of a task can name a secret, however deep it is hidden."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from chargehand.catalog.outputs import resolve
from chargehand.domain import secret_refs
from chargehand.domain.errors import MissingOutput
from tests.unit.test_task_outputs import done, taking

NAMES = st.from_regex(secret_refs.NAME, fullmatch=True).filter(lambda name: not name.endswith("\n"))
PLACES = st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(NAMES, PLACES, st.booleans())
def test_no_output_can_name_a_secret(name: str, other: Any, deep: bool) -> None:
    reference: dict[str, JsonValue] = {"secret": name}
    value: JsonValue = [other, {"password": [reference]}] if deep else reference
    with pytest.raises(MissingOutput, match="has the form of a reference to a secret"):
        resolve(taking({}), done({"url": value}))
