"""Words that may be read, and a tier's reply made a decomposition, or a reason why not.

Both ends are untrusted: the words come from people and from what people pasted, the reply from a model that read
them. Neither can name anything but intents of the catalog and their parameters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.json_schema import SkipJsonSchema

from chargehand.catalog import output_links
from chargehand.catalog.catalog import Catalog, check_parameters, missing_parameters
from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration, BadDecomposition, BadParameters, BadRequest
from chargehand.domain.intents import IntentSpec, OutputRef
from chargehand.domain.llm import Ask, Asking, Reply
from chargehand.domain.plans import DecomposedRequest, Subtask
from chargehand.domain.tiers import MATCH, MODEL, PEOPLE, TIERS, Table, Tier, named
from chargehand.understanding import consumption, cross_check, invented, mending
from chargehand.understanding.confidence import NOTHING, Beside, Source, calibrated, fit_of
from chargehand.understanding.order_words import stated_order
from chargehand.understanding.values import Given

MAX_CHARACTERS = 10_000  # some 1,500 words: no request is that long, a pasted log is


@dataclass(frozen=True)
class Thresholds:
    """When to look twice. `flag`: a subtask below it is flagged; `embedded`: below it the catalogue match asks;
    `max_flags`: more of them need an approval; `max_subtasks`: more than these are not one request; `asking`: when
    models are asked."""

    flag: float = 0.60
    max_flags: int = 2
    embedded: float = 0.70
    max_subtasks: int = 8
    asking: Asking = "unsure"

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


# --- the shape of an answer ------------------------------------------------------------------------------------------


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


# --- the reply -------------------------------------------------------------------------------------------------------


class Bare(NamedTuple):
    """A subtask of an answer that says nothing about parameters: they are asked for by themselves."""

    order: int
    intent: str
    words: str


def bare(reply: Reply, ask: Ask) -> list[Bare]:
    """Return the subtasks of an answer, which has the right shape, for which no parameters are given."""
    wire = _parsed(_mended(reply, ask, TIERS))
    given = [task for task in wire.subtasks if not {"parameters", "inputs"} & task.model_fields_set]
    return [Bare(task.order, task.intent, task.words) for task in given]


def with_values(reply: Reply, ask: Ask, given: Mapping[int, Given]) -> Reply:
    """Return the answer with these parameters, by the orders of its subtasks."""
    value = _mended(reply, ask, TIERS).value
    subtasks = value.get("subtasks") if value else None
    if value is None or not isinstance(subtasks, list):
        return reply
    filled = [_filled(task, given) for task in subtasks if isinstance(task, dict)]
    return reply.model_copy(update={"value": {**value, "subtasks": filled}})


def _filled(task: dict[str, JsonValue], given: Mapping[int, Given]) -> dict[str, JsonValue]:
    order = task.get("order")
    found = given.get(order) if isinstance(order, int) else None
    if found is None:
        return task
    flags = task.get("flags")
    return {
        **task,
        "parameters": dict(found.values),
        "flags": [*(flags if isinstance(flags, list) else ()), *found.flags],
    }


def patched(reply: Reply, again: Reply, orders: Collection[int], ask: Ask) -> Reply:
    """Return an answer with some subtasks replaced by what was answered when they alone were asked for again."""
    before, after = (_mended(each, ask, TIERS).value or {} for each in (reply, again))
    old: Any = before.get("subtasks")
    new: Any = after.get("subtasks")
    if not isinstance(old, list) or not isinstance(new, list) or len(new) != len(orders):
        return again
    fresh = iter(new)
    whole = [_replaced(task, next(fresh)) if task["order"] in orders else task for task in old]
    return again.model_copy(update={"value": {**before, "subtasks": whole}})


def _replaced(old: dict[str, JsonValue], new: JsonValue) -> JsonValue:
    return {**new, "order": old["order"]} if isinstance(new, dict) else new


def said_words(reply: Reply, ask: Ask) -> tuple[str, ...] | None:
    """Return the words that each subtask of an answer stands for, in their order; None when it has not that shape."""
    try:
        wire = _parsed(_mended(reply, ask, TIERS))
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
    tier, catalog = named(reply.tier, table), Catalog(ask.catalog)
    wire = _parsed(_mended(reply, ask, table))
    _check_structure(wire, catalog, thresholds)
    places = {order: place for place, order in enumerate(sorted(task.order for task in wire.subtasks), start=1)}
    sorted_wire = sorted(wire.subtasks, key=lambda task: task.order)
    source = Source(tier, reply.model, ask.text, asking=bool(wire.ambiguities))
    read, stated = _in_stated_order([_subtask(task, places, tier) for task in sorted_wire], ask.text)
    weighed, asked = _held_to_the_words(calibrated(read, source, beside, thresholds.flag), source, catalog)
    linked = _linked(weighed, catalog)
    limited = consumption.limited(ask.text, linked.subtasks, catalog)
    linked = linked._replace(subtasks=limited.subtasks)
    specs = {spec.intent: spec for spec in ask.catalog}
    missing = {task.order: _missing(task, specs[task.intent], linked) for task in linked.subtasks}
    questions = [
        question
        for task in linked.subtasks
        for question in (
            *missing[task.order],
            *_doubts(task, specs[task.intent], tier, thresholds, wire.ambiguities),
        )
    ]
    open_steps = {order for order, some in missing.items() if some}
    doubted = cross_check.refused_too_soon(wire.out_of_scope, beside.opinion) if tier.kind.cross_checked else {}
    lost = [] if tier.kind is PEOPLE else _lost(ask.text, limited.subtasks, catalog, wire, open_steps)
    return DecomposedRequest(
        request_id=ask.request_id,
        subtasks=tuple(linked.subtasks),
        ambiguities=tuple(
            dict.fromkeys([*filter(None, wire.ambiguities), *questions, *asked, *lost, *doubted.values()])
        ),
        out_of_scope=tuple(dict.fromkeys(wish for wish in wire.out_of_scope if wish and wish not in doubted)),
        assumptions=tuple(
            dict.fromkeys([*filter(None, wire.assumptions), *linked.assumptions, *limited.assumptions, *stated])
        ),
        tier=reply.tier,
        model=reply.model,
        notice=reply.notice,
        calibration=fit_of(source, beside).version,
    )


def _held_to_the_words(subtasks: list[Subtask], source: Source, catalog: Catalog) -> tuple[list[Subtask], list[str]]:
    """Settle the values that stand nowhere in the words. What a person writes may stand where it likes."""
    if source.tier.kind is PEOPLE:
        return subtasks, []
    return invented.settled(source.text, subtasks, catalog)


def _lost(
    text: str, subtasks: Sequence[Subtask], catalog: Catalog, wire: WireDecomposition, open_steps: Collection[int]
) -> list[str]:
    """Ask about what the words say and no step accounts for, unless the tier asks about these very words itself, or the
    step has a question anyway: it is read again with the answer."""
    said = [line.casefold() for line in wire.ambiguities]
    return [
        each.question
        for each in consumption.unconsumed(text, subtasks, catalog, wire.out_of_scope)
        if each.step.task.order not in open_steps and not any(each.mention.words.casefold() in line for line in said)
    ]


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


def _mended(reply: Reply, ask: Ask, table: Table) -> Reply:
    """The answer with its form put right, where a model wrote it: people are told what is wrong instead."""
    if reply.value is None or named(reply.tier, table).kind is not MODEL:
        return reply
    return reply.model_copy(update={"value": mending.mend(reply.value, ask.text, Catalog(ask.catalog))})


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
    whole = [*_problems_of_size(wire, thresholds), *_problems_of_order(wire)]
    single = {task.order: problems for task in wire.subtasks if (problems := _problems_of_task(task, catalog))}
    problems = [*whole, *(problem for each in single.values() for problem in each)]
    if problems:
        others = len(wire.subtasks) > len(single)
        raise BadDecomposition("; ".join(problems), subtasks=[*single] if others and not whole else ())


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
