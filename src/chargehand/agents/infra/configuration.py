"""Merges values into the text of a YAML, JSON or INI file and keeps comments, order and layout. Pure.

The rules: a mapping is merged key by key; a list of objects is merged by `name` or `id` when every object in both
lists has its own; other lists get what they lack at their end; everything else is replaced. Nothing is ever removed.
Merging the same values again changes nothing. What is written is read back and compared with the plain merge, so that
an anchor or a duplicate that would make the text mean something else is an error and not a surprise.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from contextlib import contextmanager
from typing import Any

from configupdater import ConfigUpdater, DuplicateOptionError, DuplicateSectionError, ParsingError, Section
from configupdater import MissingSectionHeaderError as NoSection
from pydantic import JsonValue

from chargehand.agents.infra import yaml_text
from chargehand.agents.infra.broken import broken
from chargehand.domain import bounded_json
from chargehand.domain.errors import TaskFailed, UnreadableText

FORMATS: Mapping[str, str] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".ini": "ini",
    ".cfg": "ini",
    ".conf": "ini",
}
LIST_KEYS = ("name", "id")

Values = Mapping[str, JsonValue]


def merged(text: str, values: Values, form: str, name: str) -> str:
    """Return the text with the values merged in; the very same text when they are in it already.

    `form` is yaml, json or ini. Raises `TaskFailed` naming `name` and the line when the text is broken, or saying why
    the values do not fit into it.
    """
    start, ending = "\ufeff" * text.startswith("\ufeff"), "\r\n" if "\r\n" in text else "\n"
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        result = _merged(plain, values, form, name)
    except RecursionError as error:
        raise TaskFailed(f"{name}: it is nested too deeply, or refers to itself") from error
    return text if result == plain else start + result.replace("\n", ending)


def _merged(text: str, values: Values, form: str, name: str) -> str:
    read, write = _FORMS[form]
    before = _checked(read(text, name), name)
    wanted = merge(_plain(before), _as_read(values, form))
    if same(before, wanted):
        return text
    result = write(text, values, name)
    if not same(read(result, name), wanted):
        raise TaskFailed(
            f"{name}: the values cannot be merged without changing something else (an anchor, a duplicate, odd text)",
            hint="Edit this file by hand, or write the anchors out.",
        )
    return result


def merge(old: Any, new: Any) -> Any:
    """Return `old` with `new` merged in, changed in place where it is a mapping or a list."""
    if isinstance(old, MutableMapping) and isinstance(new, Mapping):
        for key, value in new.items():
            old[key] = merge(old[key], value) if key in old else copy.deepcopy(value)
        return old
    if isinstance(old, MutableSequence) and isinstance(new, Sequence) and not isinstance(new, str):
        return _merge_lists(old, new)
    return old if same(old, new) else copy.deepcopy(new)


def _plain(value: Any) -> Any:
    """Return a copy in which nothing is shared, so that an anchor's other places are seen to change."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value


def same(one: Any, other: Any) -> bool:
    """Return whether two values mean the same; unlike `==`, 1, 1.0 and true are three values."""
    return bool(_comparable(one) == _comparable(other))


def _merge_lists(old: MutableSequence[Any], new: Sequence[Any]) -> MutableSequence[Any]:
    key = next((key for key in LIST_KEYS if _identifies(key, old) and _identifies(key, new)), None)
    places = {_identity(known, key): at for at, known in reversed(list(enumerate(old)))}
    for item in new:
        place = places.setdefault(_identity(item, key), len(old))
        if place == len(old):
            old.append(copy.deepcopy(item))
        else:
            old[place] = merge(old[place], item)
    return old


def _identifies(key: str, items: Sequence[Any]) -> bool:
    """Return whether every item is an object with its own plain value of `key`."""
    if not all(isinstance(item, Mapping) and isinstance(item.get(key), str | int) for item in items):
        return False
    return len({_comparable(item[key]) for item in items}) == len(items)


def _identity(item: Any, key: str | None) -> Any:
    return _comparable(item if key is None else item[key])


def _comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ("object", frozenset((_comparable(key), _comparable(item)) for key, item in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ("list", tuple(_comparable(item) for item in value))
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return (kind.__name__, "nan" if isinstance(value, float) and math.isnan(value) else kind(value))
    return (type(value).__name__, str(value))


def _checked(loaded: Any, name: str) -> Any:
    if not isinstance(loaded, MutableMapping):
        raise TaskFailed(f"{name}: its top level is not a mapping, so values cannot be merged into it")
    return loaded


def _as_read(values: Values, form: str) -> Any:
    return _ini_values(values) if form == "ini" else values


# JSON


def _load_json(text: str, name: str) -> Any:
    if not text.strip():
        return {}
    try:
        return bounded_json.loads(text, pairs=lambda pairs: _without_duplicates(pairs, name))
    except UnreadableText as error:
        raise broken(name, error.line or 1, error) from error


def _without_duplicates(pairs: list[tuple[str, Any]], name: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise TaskFailed(f"{name}: the key {twice!r} is in one object twice", hint="Repair the file.")
    return found


def _write_json(text: str, values: Values, name: str) -> str:
    loaded = merge(_load_json(text, name), values)
    lines = text.strip().splitlines()
    indent: str | int | None = next((line[: len(line) - len(line.lstrip())] for line in lines if line[:1] in " \t"), 2)
    if len(lines) == 1 and len(text.strip()) > len("{}"):
        indent = None  # it was on one line
    end = "\n" if text.endswith("\n") or not text.strip() else ""
    return json.dumps(loaded, indent=indent, ensure_ascii=text.isascii() and "\\u" in text) + end


# INI

MOST_SPACES = 200  # in a row within a line: the INI reader looks at each of them again for each before it
_GAP = re.compile(rf"[^\s]([^\S\n]{{{MOST_SPACES + 1}}})")


def _ini(text: str, name: str) -> ConfigUpdater:
    if (gap := _GAP.search(text)) is not None:
        raise broken(name, text.count("\n", 0, gap.start()) + 1, f"more than {MOST_SPACES} spaces in a row")
    updater = ConfigUpdater(allow_no_value=True)
    updater.optionxform = str  # type: ignore[method-assign,assignment] # keeps the case of the keys
    return updater.read_string(text, name)


@contextmanager
def _ini_explained(name: str) -> Iterator[None]:
    try:
        yield
    except TaskFailed:
        raise
    except (DuplicateOptionError, DuplicateSectionError) as error:
        raise broken(name, error.lineno or 1, str(error).split(": ", 1)[-1]) from error
    except NoSection as error:
        raise broken(name, error.lineno, "a value before the first [section]") from error
    except ParsingError as error:
        raise broken(name, error.errors[0][0], f"not a setting: {error.errors[0][1]}") from error
    except Exception as error:  # the library trips over lines that go on below a setting without a value
        raise broken(name, 1, f"it is not an INI file that can be read ({type(error).__name__})") from error


def _load_ini(text: str, name: str) -> Any:
    with _ini_explained(name):
        sections = _ini(text, name).iter_sections()
        return {section.name: {key: option.value for key, option in section.items()} for section in sections}


def _write_ini(text: str, values: Values, name: str) -> str:
    with _ini_explained(name):
        updater = _ini(text, name)
        for section, options in _ini_values(values).items():
            if not updater.has_section(section):
                if text.strip() and not str(updater).endswith("\n\n"):
                    updater.last_block.add_after.space() if updater.last_block else None
                updater.add_section(section)
            for key, value in options.items():
                _set_ini(updater[section], key, value)
        return str(updater)


def _set_ini(section: Section, key: str, value: str) -> None:
    """Set a value in place, or add it after the last one: what follows that may belong to the next section."""
    last = next(reversed(list(section.iter_options())), None)
    if key in section or last is None:
        section[key] = value
    else:
        last.add_after.option(key, value)


def _ini_values(values: Values) -> dict[str, dict[str, str]]:
    """Return the values as INI texts. Raises `TaskFailed` on what INI cannot hold, or what would break its lines."""
    result: dict[str, dict[str, str]] = {}
    for section, options in values.items():
        if not isinstance(options, dict):
            raise TaskFailed(f"INI files hold sections of settings, so {section!r} must be an object of plain values")
        result[section] = {key: _ini_text(key, value) for key, value in options.items()}
        if any(bad in section for bad in "]\n\r"):
            raise TaskFailed(f"{section!r} cannot be the name of an INI section")
    return result


def _ini_text(key: str, value: JsonValue) -> str:
    if isinstance(value, dict | list) or value is None:
        raise TaskFailed(f"INI files hold plain values, so {key!r} cannot be {json.dumps(value)}")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.isprintable() or text != text.strip() or not key.strip(" =:#;[") or not key.isprintable():
        raise TaskFailed(f"the INI setting {key!r} would not survive in a file: {text!r}")
    return text


Read = Callable[[str, str], Any]
Write = Callable[[str, Values, str], str]
_FORMS: Mapping[str, tuple[Read, Write]] = {
    "yaml": (yaml_text.load, lambda text, values, name: yaml_text.write(text, values, name, merge)),
    "json": (_load_json, _write_json),
    "ini": (_load_ini, _write_ini),
}
