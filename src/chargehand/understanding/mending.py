"""What of a model's answer code can put right: nobody needs to be asked again for it.

    mend(value, text, catalog) -> the answer in the shape that is read, with what was changed as flags

Only form is mended, never meaning: a name in other letters, a number written as text, a step said twice. What an answer
adds that nobody asked for is dropped and, where a person should know of it, flagged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec
from chargehand.understanding import prompts
from chargehand.understanding.questions import LONGEST_LINE, properties
from chargehand.understanding.shots import ASKED, VAGUE

SUBTASK: Final = ("order", "name", "intent", "confidence", "parameters", "inputs", "depends_on", "words", "flags")
LISTS: Final = ("ambiguities", "out_of_scope", "assumptions")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
WORD = re.compile(r"\w+")
ECHOED = 0.8  # share of a question's words that stand in what we said to the model: it repeats us
SHORTEST_ECHO = 4  # words: fewer stand in any text
MOST_TOLD = 3  # flags of what was dropped, per subtask
SHOWN = 40  # characters of a name that a model made up

Json = dict[str, Any]


def mend(value: Mapping[str, JsonValue], text: str, catalog: Catalog) -> Json:
    """Return the answer with its form mended. What has another shape altogether is left for the reader to refuse."""
    subtasks: Any = value.get("subtasks")
    if not isinstance(subtasks, list) or not all(isinstance(each, dict) for each in subtasks):
        return dict(value)
    mended = [_subtask(each, place, text, catalog) for place, each in enumerate(subtasks, start=1)]
    kept = _once(mended)
    lists = {name: _lines(value.get(name)) for name in LISTS if name in value}
    if "out_of_scope" in lists:
        lists["out_of_scope"] = _left_out(lists["out_of_scope"], text, kept)
    if "ambiguities" in lists:
        lists["ambiguities"] = [each for each in lists["ambiguities"] if not _is_echo(each, text)]
    return {"subtasks": kept, **lists}


def _lines(given: JsonValue | None) -> list[Any]:
    """A list of lines, also where a model wrote one line alone, or null."""
    if given is None:
        return []
    return list(given) if isinstance(given, list) else [given]


# --- a subtask -------------------------------------------------------------------------------------------------------


def _subtask(given: Mapping[str, JsonValue], place: int, text: str, catalog: Catalog) -> Json:
    kept: Json = {name: given[name] for name in SUBTASK if given.get(name) is not None}
    kept.setdefault("order", place)
    kept["intent"] = _intent(kept.get("intent"), catalog)
    kept["words"] = _quotation(kept.get("words", ""), text)
    if not kept.get("name"):
        kept["name"] = _name(kept["words"]) or kept["intent"]
    kept["confidence"] = _confidence(kept.get("confidence"))
    spec = catalog.get(kept["intent"]) if isinstance(kept["intent"], str) else None
    if spec is not None and isinstance(kept.get("parameters"), dict):
        kept["parameters"], told = mend_parameters(kept["parameters"], spec)
        kept["flags"] = [*_lines(kept.get("flags")), *told]
    return kept


def _name(words: object) -> str:
    return words[:1].upper() + words[1:200] if isinstance(words, str) else ""


def _intent(given: object, catalog: Catalog) -> object:
    """An intent of the catalog that is written in other letters, or with other marks between its words."""
    if not isinstance(given, str) or catalog.get(given) is not None:
        return given
    same = [intent for intent in catalog.intents if _bare(intent) == _bare(given)]
    return same[0] if len(same) == 1 else given


def _bare(name: str) -> str:
    return "".join(WORD.findall(name.casefold())).replace("_", "")


def _quotation(words: object, text: str) -> object:
    """The words as they stand in the request, where they differ in white space and capitals alone."""
    if not isinstance(words, str) or not words.strip() or words in text:
        return words
    loose = r"\s*".join(re.escape(each) for each in re.findall(r"\w+|[^\w\s]", words))
    found = re.search(loose, text, re.IGNORECASE) if len(words) <= len(text) * 2 else None
    return found[0] if found else words


def _confidence(given: object) -> object:
    """From 0 to 1, also where it is a text or a share in percent. None said: as unsure as a guess."""
    if given is None:
        return 0.5
    if isinstance(given, str) and NUMBER.fullmatch(given.strip().rstrip("%")):
        given = float(given.strip().rstrip("%")) / (100 if "%" in given else 1)
    if isinstance(given, int | float) and not isinstance(given, bool) and 1 < given <= 100:
        return given / 100
    return given


def _once(subtasks: Sequence[Json]) -> list[Json]:
    """Leave out a step that repeats another one word for word; what waited for it waits for the first."""
    first: dict[object, Any] = {}
    instead: dict[Any, Any] = {}
    kept = []
    for each in subtasks:
        same = (repr(each["intent"]), repr(each["words"]), repr(each.get("parameters")))
        if each["words"] and same in first:
            instead[repr(each["order"])] = first[same]
            continue
        first[same] = each["order"]
        kept.append(each)
    if instead:
        for each in kept:
            if isinstance(each.get("depends_on"), list):
                each["depends_on"] = [instead.get(repr(other), other) for other in each["depends_on"]]
    return kept


# --- parameters ------------------------------------------------------------------------------------------------------


def mend_parameters(given: Mapping[str, JsonValue], spec: IntentSpec) -> tuple[dict[str, JsonValue], list[str]]:
    """Return the parameters that the intent takes, their values in its types, and flags for what was dropped."""
    known = properties(spec)
    names = {_bare(name): name for name in known}
    closed = not spec.parameters.get("additionalProperties") and "patternProperties" not in spec.parameters
    kept: dict[str, JsonValue] = {}
    told = []
    for name, value in given.items():
        ours = name if name in known else names.get(_bare(name))
        if ours is None and closed:
            told.append(f"“{name[:SHOWN]}” is left out: {spec.intent} takes no such parameter")
        elif value is not None:
            kept[ours or name] = _typed(value, known.get(ours or name, {}))
    return kept, told[:MOST_TOLD]


def _typed(value: JsonValue, schema: Mapping[str, JsonValue]) -> JsonValue:
    """A value in the type its schema names, where it is the same value written otherwise."""
    kind = schema.get("type")
    mended = TYPED[kind](value) if isinstance(kind, str) and kind in TYPED else value
    choices = schema.get("enum")
    if isinstance(choices, list) and isinstance(mended, str) and mended not in choices:
        same = [each for each in choices if isinstance(each, str) and _bare(each) == _bare(mended)]
        return same[0] if len(same) == 1 else mended
    return mended


def _as_integer(value: JsonValue) -> JsonValue:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_number(value: JsonValue) -> JsonValue:
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value.strip()) else value


def _as_text(value: JsonValue) -> JsonValue:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _as_list(value: JsonValue) -> JsonValue:
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


TYPED: Mapping[str, Callable[[JsonValue], JsonValue]] = {
    "integer": _as_integer,
    "number": _as_number,
    "string": _as_text,
    "array": _as_list,
}


# --- lines -----------------------------------------------------------------------------------------------------------


def _left_out(lines: Sequence[Any], text: str, subtasks: Sequence[Json]) -> list[Any]:
    """The parts of the request that are left out. Where nothing is to be done and none of them is of the request, all
    of it is meant."""
    kept = [each for each in lines if _is_left_out(each, text, subtasks)]
    return kept if kept or subtasks or not lines else [text[:LONGEST_LINE]]


def _is_left_out(line: object, text: str, subtasks: Sequence[Json]) -> bool:
    """Whether a part is of the request and no subtask stands for it; the others come from our examples, or say twice
    what the plan holds."""
    if not isinstance(line, str):
        return True  # the reader refuses it
    said = _words(line)
    return _share(said, _words(text)) > ECHOED and not any(said <= _words(str(each["words"])) for each in subtasks)


def _is_echo(line: object, text: str) -> bool:
    """Whether a question only repeats what we told the model, or the request."""
    if not isinstance(line, str) or not line.strip():
        return isinstance(line, str)
    said = _words(line)
    return len(said) >= SHORTEST_ECHO and any(_share(said, heard) > ECHOED for heard in (OURS, _words(text)))


def _words(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(text.casefold()))


def _share(these: Iterable[str], those: frozenset[str]) -> float:
    listed = list(these)
    return sum(each in those for each in listed) / len(listed) if listed else 0.0


OURS = _words(" ".join((prompts.SKELETON, prompts.REPAIR, ASKED, VAGUE)))
