"""YAML text in and out for `configuration`: comments, quotes, order and indentation stay. Pure.

ruamel keeps the comments and blank lines that follow a block at the block's last leaf. When a merge adds after that
leaf, they must move to the new last leaf, or what stands before the next key would end up in the middle of the block.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.scalarstring import SingleQuotedScalarString
from ruamel.yaml.tokens import CommentToken

from chargehand.agents.bounded_yaml import load_with_comments
from chargehand.agents.infra.broken import broken
from chargehand.domain.errors import UnreadableText
from chargehand.domain.patterns import found_in

# How lists may be indented: (mapping, sequence, offset of the dash). The one that reproduces the file best is used.
LAYOUTS = ((2, 4, 2), (2, 2, 0), (4, 4, 2), (4, 4, 0), (4, 6, 4), (2, 3, 1), (3, 3, 0), (8, 8, 0))
LAYOUT_OF_NEW = LAYOUTS[0]
WIDTH = 100_000  # never fold a line that was not folded

_OLD = (
    "y|n|yes|no|true|false|on|off|null|~|=|<<|[-+]?[.]inf|[.]nan",
    r"[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?0x[0-9a-f_]+|[-+]?0o[0-7]+",
    r"[-+]?[0-9][0-9_]*(:[0-9_]+)*(\.[0-9_]*)?(e[-+]?[0-9]+)?|[-+]?\.[0-9_]+(e[-+]?[0-9]+)?",
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?",
)
OLD_WORDS = f"(?i)^(?:{'|'.join(_OLD)}|)$"
"""Texts that readers of YAML 1.1 (most there are: PyYAML, Ansible) take for a truth value, a number, a date or nothing;
here they are texts, because the new YAML has fewer of these words. They are written in quotes."""

Merge = Callable[[Any, Any], Any]
Block = CommentedMap | CommentedSeq
Leaf = tuple[Block, Any]  # the innermost block and its last key or index


def load(text: str, name: str) -> Any:
    """Return the document with its comments. Raises `TaskFailed` naming the line when there is not exactly one."""
    try:
        loaded = load_with_comments(text, _yaml(LAYOUT_OF_NEW))
    except UnreadableText as error:
        raise broken(name, error.line or 1, error) from error
    return {} if loaded is None else loaded


def write(text: str, values: Mapping[str, JsonValue], name: str, merge: Merge) -> str:
    """Return the text with the values merged in by `merge`."""
    loaded = load(text, name)
    if not loaded:  # empty, or nothing but comments, which only the text itself keeps
        return text + ("" if not text or text.endswith("\n") else "\n") + _dump(_commented(values), "", LAYOUT_OF_NEW)
    layout = _layout_of(text, name)
    before = [(block, _last_leaf(block)) for block in _blocks(loaded)]
    merge(loaded, _commented(values))
    for block, leaf in before:
        _move_tail(leaf, _last_leaf(block))
    return _dump(loaded, text, layout)


def _layout_of(text: str, name: str) -> tuple[int, int, int]:
    """Return the layout that reproduces the text best; reading and writing it is dear, so the first perfect one."""
    touched: dict[tuple[int, int, int], int] = {}
    for layout in LAYOUTS:
        touched[layout] = _lines_touched(text, _dump(load(text, name), text, layout))
        if touched[layout] == 0:
            return layout
    return min(LAYOUTS, key=touched.__getitem__)


def _yaml(layout: tuple[int, int, int]) -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    yaml.indent(mapping=layout[0], sequence=layout[1], offset=layout[2])
    return yaml


def _dump(loaded: Any, text: str, layout: tuple[int, int, int]) -> str:
    yaml = _yaml(layout)
    yaml.explicit_start = any(line.rstrip() == "---" for line in text.splitlines())
    out = io.StringIO()
    yaml.dump(loaded, out)
    return out.getvalue()


def _lines_touched(before: str, after: str) -> int:
    old, new = before.splitlines(), after.splitlines()
    return sum(one != other for one, other in zip(old, new, strict=False)) + abs(len(old) - len(new))


def _commented(value: Any) -> Any:
    """Return plain values as ruamel's own, which can carry comments."""
    if isinstance(value, Mapping):
        return CommentedMap({_key(key): _commented(item) for key, item in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str):
        return CommentedSeq(_commented(item) for item in value)
    return SingleQuotedScalarString(value) if isinstance(value, str) and found_in(OLD_WORDS, value) else value


def _key(key: str) -> str:
    """A key of one letter stays bare: `y` beside `x` is a key to everybody, whatever the old YAML says."""
    return key if len(key) == 1 else _commented(key)


def _is_block(value: Any) -> bool:
    return isinstance(value, Block) and len(value) > 0 and not value.fa.flow_style()


def _blocks(value: Any) -> Iterator[Block]:
    """Yield the blocks of a document, outer ones first."""
    if _is_block(value):
        yield value
        for item in value.values() if isinstance(value, CommentedMap) else value:
            yield from _blocks(item)


def _last_leaf(block: Block) -> Leaf:
    key = next(reversed(block)) if isinstance(block, CommentedMap) else len(block) - 1
    return _last_leaf(block[key]) if _is_block(block[key]) else (block, key)


def _move_tail(old: Leaf, new: Leaf) -> None:
    """Move the lines that follow the old last leaf, but for the comment on its own line, behind the new one."""
    if old[0] is new[0] and old[1] == new[1]:
        return
    slots, place = _slots(old)
    token = slots[place] if slots else None
    if token is None:
        return
    own, _, following = token.value.partition("\n")
    if following:
        token.value = own + "\n"
        if not own.strip():
            slots[place] = None
        new_slots = new[0].ca.items.setdefault(new[1], [None, None, None, None])
        new_slots[_slots(new)[1]] = CommentToken("\n" + following, CommentMark(0), None)


def _slots(leaf: Leaf) -> tuple[list[Any], int]:
    """Return where ruamel keeps the comments of a leaf, and the place of the one that follows it."""
    return leaf[0].ca.items.get(leaf[1]) or [], 2 if isinstance(leaf[0], CommentedMap) else 0
