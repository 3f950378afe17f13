"""YAML of strangers: limits on aliases, depth, size and numbers, and one kind of error for all else."""

import time
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from chargehand.agents.bounded_yaml import compose, compose_all, load, load_with_comments, unlike_json
from chargehand.domain.errors import UnreadableText


def bomb(open_: str = "[", close: str = "]", before: str = "") -> str:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]" if not before else "a: &a {k: 1}"]
    for name, last in zip("bcdefghij", "abcdefghi", strict=True):
        lines.append(f"{name}: &{name} {before}{open_}{','.join([f'*{last}'] * 9)}{close}{'}' if before else ''}")
    return "\n".join(lines)


HOSTILE = {
    "aliases": bomb(),
    "merged keys": bomb(before="{<<: "),
    "itself": "a: &a [*a]",
    "itself by a mapping": "&a {b: *a}",
    "brackets": "[" * 20_000,
    "braces": "{" * 20_000,
    "dashes": "- " * 5_000,
    "keys": "? " * 5_000,
    "keys in keys": "page:\n  port: 2\nlist:\n  - " + "? " * 40 + "name: a\n",
    "digits": "a: " + "9" * 5_000,
    "hexadecimal digits": "a: 0x" + "f" * 100_000,
    "a wrong number": "a: !!int x",
    "no number": "!!float {}",
    "an object": "!!python/object:os.system x",
    "a version": "%YAML 9.9\n---\na",
    "a control character": "a: \x01",
    "half a character": "a: \ud800",
    "size": "a" * 1_000_001,
    "parts": "- 1\n" * 30_000,
}


def test_a_key_that_is_marked_as_one_is_read() -> None:
    assert load("? a long key\n: 1\n? b\n: {? c : 2}\n") == {"a long key": 1, "b": {"c": 2}}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_soon(name: str) -> None:
    started = time.process_time()
    readers = (load, lambda text: load_with_comments(text, YAML(typ="rt")))
    for read in readers[: 1 if name == "parts" else 2]:  # both count parts in one place, and it takes seconds
        if (name, read) != ("an object", load):
            with pytest.raises(UnreadableText):
                refused_by(read(HOSTILE[name]), name)
    assert time.process_time() - started < 10.0  # the largest honest text takes as long


def refused_by(loaded: object, name: str) -> None:
    """An unknown tag is kept by what keeps comments, and never made an object."""
    if name == "an object":
        raise UnreadableText(type(loaded).__name__)


@pytest.mark.parametrize("name", ["aliases", "itself", "brackets"])
def test_nodes_are_read_within_the_same_limits(name: str) -> None:
    for read in (compose, compose_all):
        with pytest.raises(UnreadableText):
            read(HOSTILE[name])


def test_what_people_write_is_read() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: [*a, 2001-99-99]}\n"
    assert load(text) == {"a": {"x": 1}, "b": {"x": 1, "y": [{"x": 1}, "2001-99-99"]}}
    kept, out = YAML(typ="rt"), StringIO()
    kept.dump(load_with_comments("a: 1  # one\n", kept), out)
    assert out.getvalue() == "a: 1  # one\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: .nan", "a is not a finite"),
        ("{1: x}", "the key '1'"),
        ("a: [!!binary aGk=]", "a[0] is a bytes"),
        ("a: 1", None),
    ],
)
def test_what_json_does_not_have_is_named(text: str, told: str | None) -> None:
    problem = unlike_json(load(text))
    assert problem is None if told is None else told in str(problem)


@given(st.text(alphabet="ab:-?[]{}&*!|>'\"#%@ \n\t012.", max_size=60))
def test_nothing_else_is_raised(text: str) -> None:
    try:
        load(text)
        compose_all(text)
    except UnreadableText:
        return
