"""Values that stand nowhere in a request: named, replaced by what an earlier step returns, or asked about. Pure.

A value may come from the words, from the schema (a default, a choice, a yes or no) or from an output. Any other one is
made up by a model: `http://localhost:8420` looks as good as the real address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from chargehand.catalog import output_links
from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec, OutputRef
from chargehand.domain.plans import Subtask
from chargehand.understanding.mentions import NUMBERS, pieces
from chargehand.understanding.said import AMOUNT, alike, has_word, same_amount, schemas, texts_of, words_of

TYPED = re.compile(
    r"[\d:/@=]"
)  # a value with one of these is a name, an address or a number, never another word for one
IN_WORDS = re.compile(r"message|text|title|subject|body|reason|comment|note|description|summary|query|question|content")
IN_TIME = re.compile(r"schedule|cron|time|date|when|since|until|from|start|end|expir|every|interval|(?:^|_)at$")
"""Parameters, by their names, whose values are worked out from the words: they are flagged and not asked about."""
SHOWN = 80  # characters of a value
SMALL = {"0", "1"}  # "an instance", "down to nothing"
SCHEME = re.compile(r"^https?://|/$")


class Settled(NamedTuple):
    """Subtasks whose invented values are named or replaced, and the questions about the others."""

    subtasks: list[Subtask]
    questions: list[str]


def settled(text: str, subtasks: Sequence[Subtask], catalog: Catalog) -> Settled:
    """Name every invented value in a flag; put the one output that fits in its place, or ask."""
    found = Settled([], [])
    for task in subtasks:
        spec, flags = catalog.get(task.intent), list(task.flags)
        for name, value in list(task.parameters.items()):
            if spec is None or _is_said(text, spec, name, value):
                continue
            shown = f"{name} = {_shown(value)}"
            given = _instead(task, name, subtasks, catalog)
            if given is not None:
                flags.append(f"{shown} stands nowhere in the request: what step {given.task} returns is taken instead")
                task = _with_output(task, name, given)  # noqa: PLW2901
            elif _is_worked_out(text, name, value):
                flags.append(f"{shown} does not stand in the request in these words")
            else:
                flags.append(f"{shown} stands nowhere in the request")
                said = task.words or task.name
                found.questions.append(f"{shown} for “{said}” stands nowhere in the request. What should {name} be?")
        found.subtasks.append(task.model_copy(update={"flags": tuple(dict.fromkeys(flags))}))
    return found


def _with_output(task: Subtask, name: str, given: OutputRef) -> Subtask:
    changes = {
        "parameters": {key: value for key, value in task.parameters.items() if key != name},
        "inputs": {**task.inputs, name: given},
        "depends_on": tuple(sorted({*task.depends_on, given.task})),
    }
    return task.model_copy(update=changes)


def _is_said(text: str, spec: IntentSpec, name: str, value: JsonValue) -> bool:
    """Whether a value comes from the words or from the schema."""
    schema = schemas(spec).get(name, {})
    closed = "enum" in schema or "const" in schema or isinstance(value, bool) or value is None
    if closed or ("default" in schema and schema["default"] == value) or value == spec.service:
        return True
    if isinstance(value, int | float):
        return _has_amount(text, str(value))
    if isinstance(value, list):
        return all(_is_said(text, spec, name, each) for each in value)
    return all(_stands(text, each) for each in texts_of(value))


def _stands(text: str, value: str) -> bool:
    """Whether a text has a value as a whole; of several words without numbers or marks, all of them somewhere."""
    if has_word(text, value) or has_word(text, SCHEME.sub("", value)) or not re.search(r"\w", value):
        return True
    if TYPED.search(value):
        return AMOUNT.fullmatch(value.strip()) is not None and _has_amount(text, value)
    return all(any(alike(word, other) for other in words_of(text)) for word in words_of(value))


def _has_amount(text: str, value: str) -> bool:
    said = [
        *(p.lower.strip() for p in pieces(text) if p.form == "number"),
        *(str(NUMBERS[w]) for w in words_of(text) & {*NUMBERS}),
    ]
    return value in SMALL or has_word(text, value) or any(same_amount(each, value) for each in said)


def _is_worked_out(text: str, name: str, value: JsonValue) -> bool:
    """Whether a value may be the request's own words said otherwise: a message, a time, a name that is partly there."""
    if IN_WORDS.search(name) or IN_TIME.search(name):
        return True
    words = [word for each in texts_of(value) if not TYPED.search(each) for word in words_of(each)]
    return any(alike(word, other) for word in words for other in words_of(text) if len(word) > 2)


def _instead(task: Subtask, name: str, subtasks: Sequence[Subtask], catalog: Catalog) -> OutputRef | None:
    """Return the one output of an earlier step that the parameter takes and that shares a word with its name."""
    fitting = list(_fitting(task, name, subtasks, catalog))
    same = [ref for ref in fitting if ref.output == name]
    chosen = same if len(same) == 1 else fitting
    return chosen[0] if len(chosen) == 1 else None


def _fitting(task: Subtask, name: str, subtasks: Sequence[Subtask], catalog: Catalog) -> Iterator[OutputRef]:
    for other in subtasks:
        spec = catalog.get(other.intent)
        if spec is None or other.order >= task.order:
            continue
        for output in output_links.declared(spec):
            ref = OutputRef(task=other.order, output=output)
            tried = _with_output(task, name, ref)
            if {*output.split("_")} & {*name.split("_")} and not output_links.problems(tried, subtasks, catalog):
                yield ref


def _shown(value: JsonValue) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
