"""Values of parameters: which the request gives, and which a model only made up.

    wanted(subtasks, extracted, catalog)       -> the subtasks whose values a model must be asked for
    read_values(reply, wanted, text, catalog)  -> by subtask: the values that the request says, and flags

A value counts where it stands in the request, whole. One that does not is left out and told, so that a needed one
becomes a question: nothing that a model made up ever reaches a plan by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from chargehand.catalog.catalog import Catalog, check_parameters, missing_parameters
from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration, BadDecomposition, BadParameters
from chargehand.domain.llm import Extracted, Reply
from chargehand.domain.plans import DecomposedRequest, Subtask
from chargehand.understanding.mending import mend_parameters
from chargehand.understanding.questions import Wanted, properties

SHOWN = 60  # characters of a value that is told


class Given(NamedTuple):
    """What a request gives to one subtask, and flags about what was left out."""

    values: Mapping[str, JsonValue]
    flags: tuple[str, ...] = ()


class Part(Protocol):
    """A part of a request with the intent that does it."""

    @property
    def order(self) -> int: ...

    @property
    def intent(self) -> str: ...

    @property
    def words(self) -> str: ...


def wanted(parts: Sequence[Part], extracted: Sequence[Extracted], catalog: Catalog) -> list[Wanted]:
    """Return the parts whose values a model must be asked for: code is not certain, or misses one that is needed."""
    asked = []
    for task, found in zip(parts, extracted, strict=True):
        spec = catalog.get(task.intent)
        if spec is None or not properties(spec):
            continue
        if not found.certain or missing_parameters(spec, found.values):
            asked.append(Wanted(task.order, spec, task.words))
    return asked


def by_code(parts: Sequence[Part], extracted: Sequence[Extracted], match: DecomposedRequest | None) -> list[Extracted]:
    """Return what code finds for each part: in its own words, and what the match reads in the request as a whole, which
    knows what "it" and "the host" stand for.
    """
    return [_by_code(part, each, match.subtasks if match else ()) for part, each in zip(parts, extracted, strict=True)]


def _by_code(part: Part, found: Extracted, read: Sequence[Subtask]) -> Extracted:
    same = [task for task in read if task.intent == part.intent and _overlap(task.words, part.words)]
    return Extracted({**same[0].parameters, **found.values}, found.certain) if len(same) == 1 else found


def _overlap(these: str, those: str) -> bool:
    ours, theirs = set(these.casefold().split()), set(those.casefold().split())
    return len(ours & theirs) > min(len(ours), len(theirs)) / 2


def joined(model: Mapping[int, Given] | None, code: Mapping[int, Given], asked: Sequence[Wanted]) -> dict[int, Given]:
    """Return what a model found beside what code did; where both say something, the model read all the words."""
    if model is None:
        told = ("no model could say which values the request gives: look at the parameters",)
        return {each.order: Given(code[each.order].values, told) for each in asked}
    return {
        order: Given({**code[order].values, **found.values}, (*code[order].flags, *found.flags))
        for order, found in model.items()
    }


def read_values(reply: Reply, asked: Sequence[Wanted], text: str) -> dict[int, Given]:
    """Return the values that a model found, by subtask. Raises `BadDecomposition` when the answer has another shape."""
    if reply.value is None:
        raise BadDecomposition(f"{reply.tier} gave no answer: {reply.error or 'no reason given'}")
    found = {}
    for each in asked:
        given = reply.value.get(str(each.order), {})
        if not isinstance(given, dict):
            raise BadDecomposition(f"the values of subtask {each.order} are no object")
        found[each.order] = _given(given, each, text)
    return found


def _given(given: Mapping[str, JsonValue], one: Wanted, text: str) -> Given:
    """The values that are said and fit. What is no parameter of the intent is dropped without a word: it was not asked
    for by anybody."""
    mended, _ = mend_parameters(given, one.spec)
    values, flags = {}, []
    for name, value in mended.items():
        schema = properties(one.spec).get(name, {})
        if not is_said(value, text, schema):
            flags.append(f"{name} is left open: “{_short(value)}” does not stand in the request")
        elif problem := _unfit(one, name, value):
            flags.append(f"{name} is left open: {problem}")
        else:
            values[name] = value
    return Given(values, tuple(flags))


def _unfit(one: Wanted, name: str, value: JsonValue) -> str | None:
    alone = one.spec.model_copy(update={"parameters": {**one.spec.parameters, "required": []}})
    try:
        check_parameters(alone, {name: value})
    except BadParameters as error:
        return str(error)
    except BadConfiguration:  # a broken schema: the check of the whole answer names it
        return None
    return None


def _short(value: JsonValue) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def is_said(value: JsonValue, text: str, schema: Mapping[str, JsonValue]) -> bool:
    """Whether a request says a value: as whole words of it, and a list where it says each of its elements.

    Yes and no are never said word for word; they count, because a schema leaves no third.
    """
    if isinstance(value, bool):
        return True
    if secret_refs.is_secret(dict(schema)):
        name = secret_refs.reference_in(value)
        return name is not None and _stands(f"secret:{name}", text)
    if isinstance(value, dict):
        return all(is_said(each, text, {}) for each in value.values())
    if isinstance(value, list):
        return all(is_said(each, text, {}) for each in value)
    return value is not None and _stands(f"{value:g}" if isinstance(value, float) else str(value), text)


def _stands(value: str, text: str) -> bool:
    parts = re.findall(r"\w+|[^\w\s]", value)
    if not parts:
        return False
    loose = r"\s*".join(map(re.escape, parts))
    unit = r"[a-z%]{0,8}\b" if re.fullmatch(r"\d+", value) else ""  # "30s", "80%", "20GB"
    # A value ends where its word ends: 192.168.17 is none of 192.168.178.20, and web-1 none of web-12.
    return re.search(rf"(?<![\w.:/@-]){loose}{unit}(?![\w@:/-]|\.\w)", text, re.IGNORECASE) is not None
