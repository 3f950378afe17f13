"""Every promise of the threat model names a test, and that test is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_pages import section

ROOT = Path(__file__).parents[2]
PROMISE = re.compile(
    r"^\| (?P<promise>[A-Z`].+\.) \| `(?P<file>tests/\w+/test_\w+\.py)`: `(?P<test>test_\w+)` \|$", re.MULTILINE
)


def test_every_promise_names_a_test_that_is_there() -> None:
    told = section("security.md", "What is promised, and which test keeps it")
    promises = list(PROMISE.finditer(told))
    assert len(promises) == told.count("\n| ") - 2, "each row names a test, besides the head and the line below it"
    assert len(promises) > 20
    for each in promises:
        assert f"def {each['test']}(" in (ROOT / each["file"]).read_text(), each["promise"]
