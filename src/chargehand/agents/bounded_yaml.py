"""YAML of strangers, read within limits: of bytes, parts, depth, aliases and time.

An alias costs three characters and stands for everything its anchor holds, so nine lines can stand for a billion parts,
and whoever walks through them never comes back. Parts are therefore counted as they would be written out, while the
text is being parsed: what is over a limit is given up before anything is built of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import Node
from ruamel.yaml.parser import Parser, RoundTripParser
from ruamel.yaml.scanner import RoundTripScanner, Scanner

from chargehand.domain.errors import UnreadableText

MOST_CHARACTERS = 1_000_000
"""Of one text: a playbook and a configuration file are written by people."""
MOST_PARTS = 20_000
"""Scalars, lists and mappings, aliases written out: a playbook of 200 KB. They take some seconds to read."""
DEEPEST = 64
"""Levels: blocks in blocks in roles have some twenty."""
MOST_SECONDS = 10.0
"""For one text. The limits above keep it below; this one is for what nobody has thought of, and for slow machines."""
MOST_BITS = 1_024
"""Of a whole number: as large as the largest fraction. Python writes none of more than 4,300 digits."""

T = TypeVar("T")
Clock = Callable[[], float]


class _Counting:
    """A parser that counts what it hands out. Written out: an alias counts as much as what it stands for."""

    def __init__(self, loader: Any) -> None:
        super().__init__(loader)  # type: ignore[call-arg] # the other base is one of ruamel's parsers
        self._until = time.monotonic() + MOST_SECONDS
        self._parts = 0
        self._open: list[tuple[str | None, int]] = []  # the anchor of each open block, and the parts before it
        self._sizes: dict[str, int] = {}

    def get_event(self) -> Any:
        event = super().get_event()  # type: ignore[misc]
        if event is not None:
            self._count(event)
        return event

    def _count(self, event: Event) -> None:
        if isinstance(event, DocumentStartEvent):
            self._sizes.clear()
        elif isinstance(event, SequenceEndEvent | MappingEndEvent):
            anchor, before = self._open.pop()
            if anchor is not None:
                self._sizes[anchor] = self._parts - before
        elif isinstance(event, NodeEvent):
            self._count_node(event)
        if time.monotonic() > self._until:
            raise _over(event, f"it takes more than {MOST_SECONDS:g} s to read")

    def _count_node(self, event: NodeEvent) -> None:
        if isinstance(event, AliasEvent):
            if event.anchor not in self._sizes and any(anchor == event.anchor for anchor, _ in self._open):
                raise _over(event, f"*{event.anchor} stands inside of what it stands for")
            self._parts += self._sizes.get(event.anchor, 1)
        else:
            if isinstance(event, SequenceStartEvent | MappingStartEvent):
                self._open.append((event.anchor, self._parts))
            elif event.anchor is not None:
                self._sizes[event.anchor] = 1
            self._parts += 1
        if self._parts > MOST_PARTS:
            raise _over(event, f"it has more than {MOST_PARTS:,} parts, aliases written out")
        if len(self._open) > DEEPEST:
            raise _over(event, f"it is nested more than {DEEPEST} levels deep")


class _SafeParser(_Counting, Parser):
    pass


class _KeepingParser(_Counting, RoundTripParser):
    pass


class _Shallow:
    """A scanner that stops at brackets in brackets: it looks ahead, and each token of it at every level."""

    def fetch_flow_collection_start(self, *arguments: Any, **more: Any) -> None:
        if len(self.flow_context) > DEEPEST:  # type: ignore[attr-defined] # of the other base
            line = self.reader.line + 1  # type: ignore[attr-defined]
            raise UnreadableText(f"it is nested more than {DEEPEST} levels deep", line=line)
        super().fetch_flow_collection_start(*arguments, **more)  # type: ignore[misc]

    def fetch_key(self) -> None:
        """Refuse `? ?`: a key that is a mapping by itself. Nobody writes one, and each level costs all those above."""
        number = self.tokens_taken + len(self.tokens)  # type: ignore[attr-defined]
        if number and number == getattr(self, "_after_key", 0):
            line = self.reader.line + 1  # type: ignore[attr-defined]
            raise UnreadableText("a key stands within a key", line=line)
        super().fetch_key()  # type: ignore[misc]
        self._after_key = self.tokens_taken + len(self.tokens)  # type: ignore[attr-defined]


class _SafeScanner(_Shallow, Scanner):
    pass


class _KeepingScanner(_Shallow, RoundTripScanner):
    pass


class _PlainConstructor(SafeConstructor):
    """Makes what JSON has, too: a date is the text that was written, also one that is in no calendar."""


_PlainConstructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def load(text: str) -> Any:
    """Return the value of the one document in a text; dates are texts. Raises `UnreadableText` with the line."""
    return _read(text, lambda: _writable(_plain_yaml().load(text)))


def compose(text: str) -> Node | None:
    """Return the nodes of the one document in a text. Raises `UnreadableText` with the line."""
    return _read(text, lambda: _plain_yaml().compose(text))  # type: ignore[no-any-return]


def compose_all(text: str) -> list[Node]:
    """Return the nodes of each document in a text. Raises `UnreadableText` with the line."""
    return _read(text, lambda: [node for node in _plain_yaml().compose_all(text) if node is not None])


def load_with_comments(text: str, yaml: YAML) -> Any:
    """Return the document as `yaml`, which keeps comments, reads it. Raises `UnreadableText` with the line."""
    yaml.Parser, yaml.Scanner = _KeepingParser, _KeepingScanner
    yaml.composer.warn_double_anchors = False  # a stranger's text must not fill anybody's terminal
    return _read(text, lambda: _writable(yaml.load(text)))


def unlike_json(value: Any, where: str = "") -> str | None:
    """Return what in a loaded value JSON does not have, in words; None where all is well."""
    if isinstance(value, list):
        found = (unlike_json(item, f"{where}[{place}]") for place, item in enumerate(value))
        return next(filter(None, found), None)
    if isinstance(value, Mapping):
        found = (_unlike_entry(key, item, where) for key, item in value.items())
        return next(filter(None, found), None)
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return f"{where or 'it'} is not a finite number"
    if value is None or isinstance(value, str | bool | int | float):
        return None
    return f"{where or 'it'} is a {type(value).__name__}: put it in quotes"


def _unlike_entry(key: object, item: Any, where: str) -> str | None:
    if not isinstance(key, str):
        return f"{where or 'it'} has the key {str(key)[:80]!r}, which is not a text: put it in quotes"
    return unlike_json(item, f"{where}.{key}" if where else key)


def _plain_yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Parser, yaml.Scanner = _SafeParser, _SafeScanner
    yaml.Constructor = _PlainConstructor
    yaml.composer.warn_double_anchors = False  # a stranger's text must not fill anybody's terminal
    return yaml


def _read(text: str, read: Callable[[], T]) -> T:
    if len(text) > MOST_CHARACTERS:
        raise UnreadableText(f"it has more than {MOST_CHARACTERS:,} characters")
    try:
        return read()
    except UnreadableText:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "it is not YAML"
        raise UnreadableText(str(said)[:300], line=mark.line + 1 if mark else None) from error
    except RecursionError as error:
        raise UnreadableText("it is nested too deeply") from error
    except Exception as error:  # ruamel lets whatever its constructors raise pass: for !!int x, 2001-99-99, %YAML 9
        said = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
        raise UnreadableText(f"it is not YAML that can be read: {said[:300]}") from error


def _writable(value: T) -> T:
    """Return a loaded value as it is. Raises `UnreadableText` when a number in it is too large to be written again."""
    left: list[Any] = [value]
    while left:
        each = left.pop()
        if isinstance(each, int) and each.bit_length() > MOST_BITS:
            raise UnreadableText("it holds a number of more than 300 digits")
        if isinstance(each, Mapping):
            left += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set):
            left += each
    return value


def _over(event: Event, message: str) -> UnreadableText:
    mark = getattr(event, "start_mark", None)
    return UnreadableText(message, line=mark.line + 1 if mark else None)
