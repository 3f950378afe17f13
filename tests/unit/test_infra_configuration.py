"""Merging values into the text of a configuration file."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.agents.infra.configuration import merge, merged, same
from chargehand.domain.errors import TaskFailed

YAML_TEXT = """\
# The page.
title: "Our page"   # shown on top

portals:
  # first the wiki
  - name: wiki
    url: http://wiki.lan/
  - name: media
    url: http://media.lan/   # slow

limits: {timeout: 5}
"""


def yaml(text: str, **values: Any) -> str:
    return merged(text, values, "yaml", "page.yml")


def test_yaml_keeps_comments_order_and_layout() -> None:
    text = yaml(YAML_TEXT, portals=[{"name": "mail", "url": "http://mail.lan/"}], limits={"retries": 2})
    added = "# slow\n  - name: mail\n    url: http://mail.lan/\n"
    assert text == YAML_TEXT.replace("# slow\n", added).replace("{timeout: 5}", "{timeout: 5, retries: 2}")


def test_objects_in_lists_are_merged_by_name() -> None:
    text = yaml(YAML_TEXT, portals=[{"name": "media", "url": "http://new.lan/"}])
    assert "http://new.lan/" in text
    assert "http://media.lan/" not in text
    assert text.count("- name:") == 2


def test_what_is_there_already_leaves_the_very_same_text() -> None:
    odd = "a:   1\nb: [ 1,2 ]\n\n\n# end"
    assert yaml(odd, a=1, b=[2]) == odd
    assert merged('{"a":1 , "b": [1]}', {"b": [1]}, "json", "x") == '{"a":1 , "b": [1]}'


@pytest.mark.parametrize("indented", [True, False])
def test_a_list_keeps_its_indentation(indented: bool) -> None:
    dash = "  - " if indented else "- "
    assert yaml(f"list:\n{dash}one\n", list=["two"]) == f"list:\n{dash}one\n{dash}two\n"


def test_values_of_other_types_are_other_values() -> None:
    assert yaml("on: 1\n", on=True) == "on: true\n"
    assert not same(1, True)
    assert not same(1, 1.0)
    assert same({"a": [1]}, {"a": [1]})


def test_a_file_of_comments_keeps_them() -> None:
    assert yaml("# nothing yet", a={"b": [1]}) == "# nothing yet\na:\n  b:\n    - 1\n"


def test_windows_line_ends_and_byte_order_marks_survive() -> None:
    assert yaml("\ufeffa: 1\r\nb: 2\r\n", b=3) == "\ufeffa: 1\r\nb: 3\r\n"


def test_a_merge_that_would_change_what_was_not_asked_for_is_refused() -> None:
    shared = "base: &base\n  port: 1\none: *base\ntwo: *base\n"
    with pytest.raises(TaskFailed, match="anchor"):
        yaml(shared, one={"port": 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n  - 1  # one\n\n# about b\nb: 2\n", "a:\n  - 1  # one\n  - 9\n\n# about b\nb: 2\n"),
        ("a:\n  - 1\n\n# about b\nb: 2\n", "a:\n  - 1\n  - 9\n\n# about b\nb: 2\n"),
        ("a:\n  - {x: 1}\n# about b\nb: 2\n", "a:\n  - {x: 1}\n  - 9\n# about b\nb: 2\n"),
        ("a:\n  - x: |\n      text\n\nb: 2\n", None),
    ],
)
def test_what_stands_before_the_next_key_stays_before_it(text: str, expected: str | None) -> None:
    merged_text = yaml(text, a=[9])
    assert merged_text == (expected or merged_text)
    assert merged_text.index("- 9") < merged_text.index("b: 2")


def test_new_keys_come_before_what_follows_their_block() -> None:
    text = yaml("a:\n  x: 1\n\n# about b\nb: 2\n# end\n", a={"y": {"z": [1]}})
    assert text == "a:\n  x: 1\n  y:\n    z:\n      - 1\n\n# about b\nb: 2\n# end\n"


def test_a_file_nested_too_deeply_is_refused() -> None:
    with pytest.raises(TaskFailed, match="nested more than 64 levels deep"):
        merged('{"a":' * 100_000, {"b": 1}, "json", "x")


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("yaml", "a: 1\nb: [1\n", "line 3"),
        ("yaml", "a: 1\na: 2\n", "line 2"),
        ("yaml", "- a\n", "not a mapping"),
        ("yaml", "a: 1\n---\nb: 1\n", "line"),
        ("json", '{\n "a": 1,\n}', "line 3"),
        ("json", '{"a": 1, "a": 2}', "twice"),
        ("json", "[1]", "not a mapping"),
        ("ini", "[a]\nx = 1\nx = 2\n", "line 3"),
        ("ini", "x = 1\n", "line 1"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(form: str, text: str, words: str) -> None:
    with pytest.raises(TaskFailed, match=words) as caught:
        merged(text, {"s": {"k": 1}}, form, "the.file")
    assert "the.file" in str(caught.value)


def test_json_keeps_its_indentation_order_and_last_line() -> None:
    text = '{\n\t"z": 1,\n\t"a": {\n\t\t"name": "ä"\n\t}\n}'
    assert merged(text, {"a": {"b": 2}}, "json", "x") == text.replace('"ä"', '"ä",\n\t\t"b": 2')
    assert merged('{"a": 1}\n', {"b": 2}, "json", "x") == '{"a": 1, "b": 2}\n'
    assert json.loads(merged("", {"b": 2}, "json", "x")) == {"b": 2}


INI_TEXT = "; about\n[Main]\nKey = 1  \n# why\nother: x\n\n[empty]\n"


def test_ini_keeps_comments_and_the_case_of_keys() -> None:
    text = merged(INI_TEXT, {"Main": {"Key": 2, "On": True}, "new": {"a": "b"}}, "ini", "x.ini")
    assert "; about\n[Main]\nKey = 2" in text
    assert "# why\nother: x\n" in text
    assert "On = true\n" in text
    assert text.index("On =") < text.index("[empty]") < text.index("[new]\na = b\n")
    assert merged(text, {"Main": {"On": True}, "new": {"a": "b"}}, "ini", "x.ini") == text


@pytest.mark.parametrize(
    "values",
    [
        {"Main": 1},
        {"Main": {"a": [1]}},
        {"Main": {"a": "x\n[evil]\nadmin = 1"}},
        {"Main]\n[evil": {"a": 1}},
        {"Main": {"a\nb": 1}},
        {"Main": {"a=b": 1}},
        {"Main": {"#a": 1}},
    ],
)
def test_what_ini_cannot_hold_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(TaskFailed):
        merged(INI_TEXT, values, "ini", "x.ini")


words = st.sampled_from(["a", "b", "name", "id"])
leaves = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "yes", "#1", "a: b", "1"])
values_strategy = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(words, values_strategy, max_size=3)


@settings(max_examples=30, deadline=None)
@given(old=objects, new=objects)
def test_merging_twice_is_merging_once(old: dict[str, Any], new: dict[str, Any]) -> None:
    once = merge(json.loads(json.dumps(old)), new)
    assert same(merge(json.loads(json.dumps(once)), new), once)


@settings(max_examples=8, deadline=None)
@given(old=objects, new=objects, form=st.sampled_from(["yaml", "json"]))
def test_a_merged_text_means_the_merged_values(old: dict[str, Any], new: dict[str, Any], form: str) -> None:
    text = merged("", old, form, "x") if old else ""
    once = merged(text, new, form, "x")
    assert merged(once, new, form, "x") == once


OLD_WORDS = [
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "null",
    "~",
    "",
    "012",
    "0x1F",
    "1_000",
    "12:30",
    "1:2:3",
    "2001-01-01",
    "1e3",
    ".5",
    "=",
    "-.inf",
]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{last}'] * 9)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", OLD_WORDS)
@pytest.mark.parametrize("before", ["", "a: 1\n"])
def test_texts_stay_texts_for_readers_of_the_old_yaml(text: str, before: str) -> None:
    """PyYAML reads YAML 1.1, as do Ansible and most others."""
    old = pytest.importorskip("yaml")
    written = yaml(before, a=text, b=[text], on={"yes": text})
    assert old.safe_load(written) == {"a": text, "b": [text], "on": {"yes": text}}
    assert yaml(written, a=text, b=[text], on={"yes": text}) == written, "once is enough"


def test_numbers_and_words_are_written_bare() -> None:
    assert yaml("", a=1, b=True, c="web", d=None, e=1.5) == "a: 1\nb: true\nc: web\nd:\ne: 1.5\n"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("yaml", BOMB),
        ("yaml", "a: 2001-99-99\n"),
        ("yaml", "[" * 10_000),
        ("json", "[" * 100_000),
        ("json", '{"a": NaN}'),
        ("ini", "[a]\nb" + " " * 100_000 + "c\n"),
        ("ini", "[a]\nb\n c\n"),
    ],
)
def test_a_hostile_file_is_an_error_soon(form: str, text: str) -> None:
    started = time.process_time()
    with pytest.raises(TaskFailed):
        merged(text, {"z": {"k": "v"}}, form, "it")
    assert time.process_time() - started < 3.0


def test_long_lists_are_merged_in_time() -> None:
    numbers = [str(n) for n in range(20_000)]
    started = time.process_time()
    result = merged(json.dumps({"a": numbers}), {"a": [*reversed(numbers), "x"]}, "json", "it")
    assert json.loads(result)["a"] == [*numbers, "x"]
    assert time.process_time() - started < 3.0
