"""Words to a question for a model, and its reply to a decomposition, or a reason why not.

Both ends are untrusted: the words come from people and from what people pasted, the reply from a model that read
them. Neither can name anything but intents of the catalog and their parameters.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.json_schema import SkipJsonSchema

from chargehand.catalog import output_links
from chargehand.catalog.catalog import Catalog, check_parameters, missing_parameters
from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration, BadDecomposition, BadParameters, BadRequest
from chargehand.domain.intents import IntentSpec, OutputRef
from chargehand.domain.llm import Ask, Reply
from chargehand.domain.plans import DecomposedRequest, Subtask
from chargehand.domain.tiers import MATCH, MODEL, PEOPLE, TIERS, Table, Tier, named
from chargehand.understanding import intent_shortlist, prompts
from chargehand.understanding.confidence import NOTHING, Beside, Source, calibrated, fit_of
from chargehand.understanding.order_words import stated_order

MAX_CHARACTERS = 10_000  # some 1,500 words: no request is that long, a pasted log is


@dataclass(frozen=True)
class Thresholds:
    """When to look twice. `flag`: a subtask below it is flagged; `embedded`: below it the catalogue match asks;
    `max_flags`: more of them need an approval; `max_subtasks`: more than these are not one request."""

    flag: float = 0.60
    max_flags: int = 2
    embedded: float = 0.70
    max_subtasks: int = 8

    def below(self, tier: Tier) -> float:
        """Return the confidence below which a tier's subtasks are looked at twice; what people write never is."""
        if tier.kind is MATCH:
            return self.embedded
        return self.flag if tier.kind is MODEL else 0.0


# --- the words -------------------------------------------------------------------------------------------------------

HIDDEN = {"Cc", "Cf", "Cs", "Co"}  # controls, invisible formats (bidi overrides, tags), lone surrogates, private use
HARMLESS = "\u200c\u200d\u00ad"  # joiners (Persian, emoji) and the soft hyphen: people type them without knowing


def clean(text: str | bytes) -> str:
    """Return the request in one line and in Unicode's composed form (NFC).

    Raises `BadRequest` when it is empty, too long, not text, or holds characters that a reader cannot see.
    """
    words = _decoded(text)
    if len(words) > MAX_CHARACTERS:
        raise BadRequest(
            f"the request has {len(words):,} characters; at most {MAX_CHARACTERS:,} are accepted",
            hint="Say in a few sentences what should be done; name files instead of pasting them.",
        )
    words = words.removeprefix("\ufeff").translate({ord(space): " " for space in "\n\r\t"})
    _refuse_hidden(words)
    words = " ".join(unicodedata.normalize("NFC", words).split())
    if not any(character.isalnum() for character in words):
        raise BadRequest(
            "the request is empty", hint='Say what should be done, for example: chargehand run "check the disk".'
        )
    return words


def _decoded(text: str | bytes) -> str:
    try:
        return text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"the request is not text: byte {error.start + 1} is not valid UTF-8",
            hint="Send words as UTF-8; a file or a program's output cannot be a request.",
        ) from error


def _refuse_hidden(words: str) -> None:
    for place, character in enumerate(words, start=1):
        if unicodedata.category(character) in HIDDEN and character not in HARMLESS:
            name = unicodedata.name(character, "a control character")
            raise BadRequest(
                f"character {place} of the request cannot be shown: U+{ord(character):04X}, {name.lower()}",
                hint="Type the sentence again: what you pasted holds characters that hide or reorder text.",
            )


# --- the question ----------------------------------------------------------------------------------------------------


def _printable(text: str) -> str:
    """A model's text ends up on terminals: nothing in it may steer one."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


Line = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
Wire = ConfigDict(extra="forbid", strict=True)


MOST_SUBTASKS = 100  # that are read at all: four times the most that any setting lets through


class WireInput(BaseModel):
    """Where a parameter's value comes from, as a model writes it: an output of an earlier subtask."""

    model_config = Wire

    subtask: int = Field(ge=1, le=MOST_SUBTASKS)
    output: str = Field(min_length=1, max_length=64)


class WireSubtask(BaseModel):
    """One subtask as a model writes it."""

    model_config = Wire

    order: int = Field(ge=1, le=MOST_SUBTASKS)
    name: Line = Field(min_length=1)
    intent: str
    confidence: float = Field(ge=0, le=1)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: dict[str, WireInput] = Field(default_factory=dict)
    depends_on: list[int] = Field(default_factory=list, max_length=MOST_SUBTASKS)
    words: Annotated[str, Field(max_length=MAX_CHARACTERS), AfterValidator(_printable)] = ""
    flags: list[Line] = Field(default_factory=list, max_length=20)
    agent: SkipJsonSchema[Line | None] = None  # the only one to do it: a person may say so, a model is not asked


class WireDecomposition(BaseModel):
    """A decomposition as a model writes it: the shape every tier answers in."""

    model_config = Wire

    subtasks: list[WireSubtask] = Field(default_factory=list, max_length=MOST_SUBTASKS)
    ambiguities: list[Line] = Field(default_factory=list, max_length=50)
    out_of_scope: list[Line] = Field(default_factory=list, max_length=50)
    assumptions: list[Line] = Field(default_factory=list, max_length=50)


def build_ask(request_id: UUID, text: str, catalog: Catalog) -> Ask:
    """Return the question for a tier: the words (already clean), the closed list of intents, the answer's schema.

    A model is shown the likely intents of a large catalog; `Ask.catalog` always has all of them.
    """
    shown = intent_shortlist.narrow(text, catalog.specs)
    note = prompts.NARROWED.format(shown=len(shown), all=len(catalog.specs)) if len(shown) < len(catalog.specs) else ""
    listing = "\n".join(_listed(spec) for spec in shown)
    return Ask(
        purpose="decompose",
        request_id=request_id,
        text=text,
        catalog=catalog.specs,
        messages=(
            {"role": "system", "content": prompts.DECOMPOSE + note + listing},
            {"role": "user", "content": _Said(request=text).model_dump_json()},
        ),
        answer_schema=_answer_schema(tuple(spec.intent for spec in shown)),
        prompt_version=prompts.VERSION,
    )


class _Said(BaseModel):
    """As JSON the words cannot end the quotation they stand in, whatever they are."""

    request: str


LISTED = {"intent", "description", "examples", "parameters", "outputs"}


def _listed(spec: IntentSpec) -> str:
    return spec.model_dump_json(
        include={"intent", "description", "examples", "parameters", "outputs"}, exclude_defaults=True
    )


@lru_cache(maxsize=4)  # it changes when an agent offers something new; making it costs 2 ms
def _answer_schema(intents: tuple[str, ...]) -> dict[str, JsonValue]:
    schema: dict[str, Any] = WireDecomposition.model_json_schema()
    schema["$defs"]["WireSubtask"]["properties"]["intent"] = {"type": "string", "enum": list(intents)}
    return schema


def ask_again(ask: Ask, reply: Reply, problem: str) -> Ask:
    """Return the question once more, with the answer that could not be used and why, so that a model can repair it."""
    said = json.dumps(reply.value)[:MAX_CHARACTERS] if reply.value is not None else "(not a JSON object)"
    refused = (
        {"role": "assistant", "content": said},
        {"role": "user", "content": prompts.REPAIR + json.dumps(problem)},
    )
    return ask.model_copy(update={"messages": (*ask.messages, *refused)})


# --- the reply -------------------------------------------------------------------------------------------------------


def said_words(reply: Reply) -> tuple[str, ...] | None:
    """Return the words that each subtask of an answer stands for, in their order; None when it has not that shape."""
    try:
        wire = _parsed(reply)
    except BadDecomposition:
        return None
    return tuple(task.words for task in sorted(wire.subtasks, key=lambda task: task.order))


def read_reply(
    reply: Reply, ask: Ask, thresholds: Thresholds, beside: Beside = NOTHING, table: Table = TIERS
) -> DecomposedRequest:
    """Check a tier's value against the catalog and make it a decomposition; missing parameters become questions.

    `beside` is what else is known of the answer; with it, what a model claims becomes a confidence.

    Raises `BadDecomposition`; its message says what to change, so that a model can repair its answer once, and
    `UnknownTier` where nothing says how much the tier can be trusted.
    """
    tier, wire = named(reply.tier, table), _parsed(reply)
    catalog = Catalog(ask.catalog)
    _check_structure(wire, catalog, thresholds)
    places = {order: place for place, order in enumerate(sorted(task.order for task in wire.subtasks), start=1)}
    sorted_wire = sorted(wire.subtasks, key=lambda task: task.order)
    source = Source(tier, reply.model, ask.text, asking=bool(wire.ambiguities))
    read, stated = _in_stated_order([_subtask(task, places, tier) for task in sorted_wire], ask.text)
    linked = _linked(calibrated(read, source, beside, thresholds.flag), catalog)
    specs = {spec.intent: spec for spec in ask.catalog}
    questions = [
        question
        for task in linked.subtasks
        for question in (
            *_missing(task, specs[task.intent], linked),
            *_doubts(task, specs[task.intent], tier, thresholds, wire.ambiguities),
        )
    ]
    return DecomposedRequest(
        request_id=ask.request_id,
        subtasks=tuple(linked.subtasks),
        ambiguities=tuple(dict.fromkeys([*filter(None, wire.ambiguities), *questions])),
        out_of_scope=tuple(dict.fromkeys(filter(None, wire.out_of_scope))),
        assumptions=tuple(dict.fromkeys([*filter(None, wire.assumptions), *linked.assumptions, *stated])),
        tier=reply.tier,
        model=reply.model,
        notice=reply.notice,
        calibration=fit_of(source, beside).version,
    )


def _in_stated_order(subtasks: list[Subtask], text: str) -> tuple[list[Subtask], list[str]]:
    """Add the dependencies that the words state, and say which; what contradicts the tier's own is flagged instead."""
    said = []
    for first, second, because in stated_order(text, [task.words for task in subtasks]):
        earlier, later = subtasks[first], subtasks[second]
        if earlier.order in later.depends_on:
            continue
        after = tuple(sorted({*later.depends_on, earlier.order}))
        tried = [*subtasks[:second], later.model_copy(update={"depends_on": after}), *subtasks[second + 1 :]]
        told = f"“{later.words}” comes after “{earlier.words}”: the request says “{because}”"
        if _cycle({task.order: [*task.depends_on] for task in tried}):
            flags = (*later.flags, f"disagreement: {told}, the plan has it the other way round")
            subtasks = [*subtasks[:second], later.model_copy(update={"flags": flags}), *subtasks[second + 1 :]]
        else:
            subtasks = tried
            said.append(told)
    return subtasks, said


def _linked(subtasks: list[Subtask], catalog: Catalog) -> output_links.Linked:
    """Check the references that were given, and find those that nobody gave."""
    wrong = [f"subtask {task.order}: {p}" for task in subtasks for p in output_links.problems(task, subtasks, catalog)]
    if wrong:
        raise BadDecomposition("; ".join(wrong))
    return output_links.link(subtasks, catalog)


def _parsed(reply: Reply) -> WireDecomposition:
    if reply.value is None:
        raise BadDecomposition(f"{reply.tier} gave no answer: {reply.error or 'no reason given'}")
    try:
        wire = WireDecomposition.model_validate(reply.value)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5]]
        raise BadDecomposition("the answer has the wrong shape: " + "; ".join(problems)) from error
    if not (wire.subtasks or wire.ambiguities or wire.out_of_scope):
        raise BadDecomposition(
            "the answer is empty: give subtasks, or say in ambiguities or out_of_scope why there are none"
        )
    return wire


def _check_structure(wire: WireDecomposition, catalog: Catalog, thresholds: Thresholds) -> None:
    problems = [
        *_problems_of_size(wire, thresholds),
        *_problems_of_order(wire),
        *(problem for task in wire.subtasks for problem in _problems_of_task(task, catalog)),
    ]
    if problems:
        raise BadDecomposition("; ".join(problems))


def _problems_of_size(wire: WireDecomposition, thresholds: Thresholds) -> list[str]:
    count = len(wire.subtasks)
    if count <= thresholds.max_subtasks:
        return []
    return [f"{count} subtasks are too many: at most {thresholds.max_subtasks}; group what belongs together"]


def _problems_of_order(wire: WireDecomposition) -> list[str]:
    orders = [task.order for task in wire.subtasks]
    if len(set(orders)) != len(orders):
        return [f"the orders {sorted(orders)} are not unique"]
    unknown = [
        f"subtask {task.order} depends on {other}, which is not there"
        for task in wire.subtasks
        for other in _waits_for(task)
        if other not in orders
    ]
    return unknown or _cycle({task.order: _waits_for(task) for task in wire.subtasks})


def _waits_for(task: WireSubtask) -> list[int]:
    """What it says, and whatever gives it a value."""
    return [*task.depends_on, *(ref.subtask for ref in task.inputs.values())]


def _cycle(graph: Mapping[int, list[int]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["subtasks wait for each other: " + " -> ".join(str(order) for order in error.args[1])]
    return []


def _problems_of_task(task: WireSubtask, catalog: Catalog) -> list[str]:
    spec = catalog.get(task.intent)
    if spec is None:
        near = get_close_matches(task.intent[:64], catalog.intents, n=5, cutoff=0.4)
        offered = ", ".join(near or catalog.intents[:20])
        return [f"subtask {task.order}: nothing offers the intent {_printable(task.intent[:64])!r}; use {offered}"]
    try:
        check_parameters(_without_required(spec), _given(task))
    except (BadParameters, BadConfiguration) as error:
        return [f"subtask {task.order} ({task.intent}): {error}"]
    return []


def _given(task: WireSubtask) -> dict[str, JsonValue]:
    """Models write null for what they leave out."""
    return {name: value for name, value in task.parameters.items() if value is not None}


def _without_required(spec: IntentSpec) -> IntentSpec:
    """What is missing is a question to a person, not a mistake of the model."""
    return spec.model_copy(update={"parameters": {**spec.parameters, "required": []}})


def _subtask(task: WireSubtask, places: Mapping[int, int], tier: Tier) -> Subtask:
    return Subtask(
        order=places[task.order],
        name=task.name or task.intent,
        intent=task.intent,
        confidence=task.confidence,
        parameters=_given(task),
        inputs={name: OutputRef(task=places[ref.subtask], output=ref.output) for name, ref in task.inputs.items()},
        depends_on=tuple(sorted({places[other] for other in _waits_for(task)})),
        words=task.words,
        claimed_confidence=task.confidence,
        flags=tuple(dict.fromkeys(filter(None, task.flags))),
        pinned_agent=(task.agent or None) if tier.kind is PEOPLE else None,
    )


def _missing(task: Subtask, spec: IntentSpec, linked: output_links.Linked) -> list[str]:
    """Ask for what is needed and neither given nor returned by another subtask."""
    names = missing_parameters(spec, {**task.parameters, **dict.fromkeys(task.inputs)})
    return [_question(task, spec, name) + linked.several.get((task.order, name), "") for name in names]


def _doubts(task: Subtask, spec: IntentSpec, tier: Tier, thresholds: Thresholds, asked: Sequence[str]) -> list[str]:
    """Ask whether an unsure subtask is meant; `asked` are the questions that the tier asks by itself."""
    doubted = tier.kind is MATCH and task.confidence < thresholds.below(tier)
    if not doubted or any(line.startswith(f"“{task.words}”") for line in asked):
        return []
    return [f"Is “{task.words or task.name}” meant as “{spec.description or spec.intent}”?"]


def _question(task: Subtask, spec: IntentSpec, parameter: str) -> str:
    """Ask for a required parameter in the words of its schema."""
    properties = spec.parameters.get("properties")
    schema = properties.get(parameter) if isinstance(properties, dict) else None
    facts = schema if isinstance(schema, dict) else {}
    question = f"Which {parameter.replace('_', ' ')} for “{task.words or task.name}”?"
    if secret_refs.is_secret(facts):
        question = (
            f"Which secret is the {parameter.replace('_', ' ')} for “{task.words or task.name}”? Say secret:NAME."
        )
    if facts.get("description"):
        question += f" ({_printable(str(facts['description'])).rstrip('.')})"
    choices = facts.get("enum")
    if isinstance(choices, list):
        question += " One of: " + ", ".join(_printable(str(choice)) for choice in choices[:12]) + "."
    return question
