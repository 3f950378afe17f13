"""What became of the places, exceptions and quantities that a request names: each is consumed, or a question.

    limited(text, subtasks, catalog) -> the subtasks, limited to the hosts that the words name, and what is told of it
    unconsumed(text, subtasks, catalog) -> what nothing in the plan accounts for

It holds for every tier: what a model leaves out is as lost as what the catalogue match leaves out. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from chargehand.catalog.catalog import Catalog
from chargehand.catalog.targets import targeted
from chargehand.domain.errors import BadParameters
from chargehand.domain.hosts import LOCALHOST, LONGEST, MOST_NAMED, Limit, told
from chargehand.domain.intents import IntentSpec
from chargehand.domain.plans import Subtask
from chargehand.understanding.mentions import EXCEPT, WHERE, Kind, Mention, fold, mentions
from chargehand.understanding.said import (
    alike,
    amounts_of,
    has_word,
    known_words,
    same_amount,
    schemas,
    stem,
    texts_of,
    values_of,
    words_of,
)

SHORT = 120  # characters of the request in a question
EXCLUDING = re.compile(r"exclu|except|skip|ignore|without|omit|not_|_not|keep|spare")  # in the name of a parameter


@dataclass(frozen=True)
class Step:
    """A subtask with its offer, where its words stand in the request, and how many subtasks are like it."""

    task: Subtask
    spec: IntentSpec
    span: tuple[int, int] | None
    alike: int

    @property
    def values(self) -> dict[str, JsonValue]:
        """The parameters with their defaults."""
        return values_of(self.spec, self.task.parameters)


class Unconsumed(NamedTuple):
    """Something that a request says and that no step accounts for; `step` is the one that it most likely is about."""

    mention: Mention
    step: Step
    why: str

    @property
    def question(self) -> str:
        """What to ask a person."""
        said = _short(self.step.task.words or self.step.task.name)
        return f"“{said}”: {ASKS[self.mention.kind].format(words=_short(self.mention.words), why=self.why)}"


ASKS: Mapping[Kind, str] = {
    Kind.PLACE: "“{words}” would be left out: {why}. Say it without the place if all is meant.",
    Kind.ONLY: "only “{words}” would not be kept to: {why}. Please say plainly what should be done.",
    Kind.EXCEPTION: "“{words}” would not be kept to: {why}. Please say what should be done, without an exception.",
    Kind.QUANTITY: "the number “{words}” would be left out: {why}. Say it without the number if all is meant.",
}


class Limited(NamedTuple):
    """Subtasks with their limits, and lines that tell a person of them."""

    subtasks: list[Subtask]
    assumptions: list[str]


def limited(text: str, subtasks: Sequence[Subtask], catalog: Catalog) -> Limited:
    """Limit each step that is for hosts to those that its words name, where nothing else accounts for them."""
    said, steps = mentions(text, _inventory(catalog)), _steps(text, subtasks, catalog)
    by_order = {step.task.order: _limit(step, said, steps, text) for step in steps}
    found = Limited([], [])
    for task in subtasks:
        limit = by_order.get(task.order, task.limit)
        found.subtasks.append(task.model_copy(update={"limit": limit}) if limit.said else task)
        if limit.said:
            found.assumptions.append(f"“{_short(task.words or task.name)}” is {_told(limit)}: the request says so")
    return found


def _told(limit: Limit) -> str:
    only = [f"limited to {', '.join(limit.only)}"] if limit.only else []
    without = [f"done without {', '.join(limit.without)}"] if limit.without else []
    return " and ".join(only + without)


def unconsumed(
    text: str, subtasks: Sequence[Subtask], catalog: Catalog, left_out: Sequence[str] = ()
) -> tuple[Unconsumed, ...]:
    """Return every place, exception and quantity of a request that no subtask accounts for.

    `catalog` has the offers and, in their targets, the inventory. A mention within the words of some subtasks belongs
    to these, any other one to all. `left_out` are parts that the plan says nobody can do: their places go with them.
    """
    steps = _steps(text, subtasks, catalog)
    if not steps:
        return ()
    found = []
    aside = [span for words in left_out if (span := _span(words, text)) is not None]
    for mention in mentions(text, _inventory(catalog)):
        owners = _owners(mention, steps)
        if _goes_with(mention, aside, text) and not any(_holds(step, mention) for step in steps):
            continue
        if not any(consumes(mention, step) for step in owners for consumes in CONSUMERS[mention.kind]):
            found.append(Unconsumed(mention, owners[-1], _why(mention, owners[-1])))
    return (*found, *_spread(text, steps, catalog))


def _steps(text: str, subtasks: Sequence[Subtask], catalog: Catalog) -> list[Step]:
    pairs = [(task, spec) for task in subtasks if (spec := catalog.get(task.intent)) is not None]
    intents = [task.intent for task, _ in pairs]
    return [Step(task, spec, _span(task.words, text), intents.count(task.intent)) for task, spec in pairs]


def _span(words: str, text: str) -> tuple[int, int] | None:
    plain = " ".join(words.split())
    start = text.lower().find(plain.lower()) if plain else -1
    return (start, start + len(plain)) if start >= 0 else None


def _owners(mention: Mention, steps: Sequence[Step]) -> Sequence[Step]:
    return [step for step in steps if _holds(step, mention)] or steps


def _holds(step: Step, mention: Mention) -> bool:
    return step.span is not None and step.span[0] <= mention.start and mention.end <= step.span[1]


OTHER_WORDS = 2  # beside the place itself, of a part that nobody can do: "on web1" alone is no work


def _goes_with(mention: Mention, aside: Sequence[tuple[int, int]], text: str) -> bool:
    for start, end in aside:
        rest = words_of(f"{text[start : mention.start]} {text[mention.end : end]}")
        if start <= mention.start and mention.end <= end and len(rest - WHERE) >= OTHER_WORDS:
            return True
    return False


def _inventory(catalog: Catalog) -> frozenset[str]:
    """The names of all hosts and groups that offers list, but the one that stands for all."""
    targets = [spec.targets for spec in catalog.specs if spec.targets]
    hosts = {name for each in targets for part in (each.always, each.known) if part for name in part.names}
    return frozenset(hosts | {name for each in targets for name in each.groups}) - {"all", "ungrouped", LOCALHOST}


# --- limits ----------------------------------------------------------------------------------------------------------


def _limit(step: Step, said: Sequence[Mention], steps: Sequence[Step], text: str) -> Limit:
    """Return what the words limit a step to, as far as that can be kept."""
    limit = step.task.limit
    for mention in said:
        if step.spec.targets is None or not _is_about(mention, step, steps, text):
            continue
        if mention.kind is Kind.EXCEPTION and mention.sure and not _excluded(mention, step):
            limit = _kept(step, limit, without=mention.names)
        elif mention.kind in (Kind.PLACE, Kind.ONLY) and mention.sure:
            taken = any(_value(mention, owner) for owner in _owners(mention, steps))
            limit = limit if taken else _kept(step, limit, only=mention.names)
    return limit


def _kept(step: Step, limit: Limit, only: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Limit:
    names = [tuple(dict.fromkeys(both)) for both in ((*limit.only, *only), (*limit.without, *without))]
    if max(map(len, names)) > MOST_NAMED or any(len(name) > LONGEST for name in names[0] + names[1]):
        return limit
    wider = Limit(only=names[0], without=names[1])
    try:
        targeted(step.spec, step.values, wider)
    except BadParameters:
        return limit
    return wider


def _is_about(mention: Mention, step: Step, steps: Sequence[Step], text: str) -> bool:
    """Whether a mention is about a step: within its words, right behind them, or before those of all steps."""
    inside = [each for each in steps if _holds(each, mention)]
    if inside:
        return step in inside
    before = [each for each in steps if each.span and each.span[1] <= mention.start]
    if not before:
        return True
    nearest = max(before, key=lambda each: each.span or (0, 0))
    return step.span == nearest.span and not _ends_sentence(
        text[nearest.span[1] if nearest.span else 0 : mention.start]
    )


def _ends_sentence(between: str) -> bool:
    return re.search(r"[.;!?](?:\s|$)", between) is not None


# --- who consumes what -----------------------------------------------------------------------------------------------


def _value(mention: Mention, step: Step) -> bool:
    """A parameter says it: every name of the inventory or of a machine, or a word of a place that is only words."""
    texts = [text for name, value in step.values.items() if not EXCLUDING.search(name) for text in texts_of(value)]
    if mention.sure and mention.names:
        return all(any(has_word(text, name) or fold(text) == fold(name) for text in texts) for name in mention.names)
    said = {word for text in texts for word in words_of(text)}
    return any(alike(part, word) for name in mention.names for part in words_of(name) for word in said)


def _in_limit(mention: Mention, step: Step) -> bool:
    return bool(mention.names) and {*mention.names} <= {*step.task.limit.only}


def _known_by(mention: Mention, step: Step) -> bool:
    """The offer itself says so: "the docker host" of an intent that deploys on it.

    A machine in an example says nothing where a parameter takes another one.
    """
    if not mention.sure or all(name.isalpha() for name in mention.names):
        return bool({stem(name) for name in mention.names} & known_words(step.spec))
    return all(has_word(_own_text(step.spec), name) for name in mention.names)


def _own_text(spec: IntentSpec) -> str:
    takes_names = any(schema.get("type", "string") == "string" for schema in schemas(spec).values())
    examples = () if takes_names else spec.examples
    return " ".join([spec.intent.replace("_", " "), spec.description, spec.service or "", *examples])


def _here(mention: Mention, step: Step) -> bool:
    """This machine is meant, and the step is for it: an offer that says nothing of hosts runs where its agent is."""
    targets = step.spec.targets
    return {*mention.names} == {LOCALHOST} and (targets is None or targets.always.names == (LOCALHOST,))


def _left_out(mention: Mention, step: Step) -> bool:
    return bool(mention.names) and {*mention.names} <= {*step.task.limit.without}


def _excluded(mention: Mention, step: Step) -> bool:
    """A parameter for exceptions says it, or one that is a yes or no is set accordingly."""
    for name, value in step.values.items():
        if EXCLUDING.search(name) and any(has_word(text, each) for text in texts_of(value) for each in mention.names):
            return True
        about = {stem(part) for part in name.split("_")} & {stem(each) for each in mention.names}
        if isinstance(value, bool) and about and value == bool(EXCLUDING.search(name)):
            return True
    return False


def _known_exception(mention: Mention, step: Step) -> bool:
    """The offer leaves the same out by itself: "restart without downtime"."""
    text = " ".join([step.spec.description, *step.spec.examples]).lower()
    said = {stem(word) for match in EXCEPT.finditer(text) for word in re.findall(r"\w+", text[match.end() :])[:6]}
    return bool(mention.names) and {stem(name) for name in mention.names} <= said


def _amount(mention: Mention, step: Step) -> bool:
    said = (text for value in step.values.values() for text in (*texts_of(value), *amounts_of(value)))
    return any(same_amount(mention.names[0], text) for text in said)


def _counted(mention: Mention, step: Step) -> bool:
    """As many steps, listed values or hosts as the request says."""
    lists = [len(value) for value in step.values.values() if isinstance(value, list)]
    counts = [step.alike, len(step.task.limit.only), *lists]
    told = [*(count for count in counts if count > 1), *_host_counts(step)]
    return mention.names[0] in map(str, told)


def _host_counts(step: Step) -> Iterator[int]:
    try:
        yield sum(part.count for part in targeted(step.spec, step.values, step.task.limit))
    except BadParameters:
        return


def _own_number(mention: Mention, step: Step) -> bool:
    return has_word(_own_text(step.spec), mention.names[0])


Consumer = Callable[[Mention, Step], bool]
CONSUMERS: Mapping[Kind, tuple[Consumer, ...]] = {
    Kind.PLACE: (_value, _in_limit, _known_by, _here),
    Kind.ONLY: (_value, _in_limit, _known_by),
    Kind.EXCEPTION: (_left_out, _excluded, _known_exception),
    Kind.QUANTITY: (_amount, _counted, _own_number),
}
"""Who accounts for what a request says: one that says yes is enough."""


def _why(mention: Mention, step: Step) -> str:
    """Say why a step does not take it, and what it is for instead."""
    title = step.spec.description.rstrip(".") or step.spec.intent
    if step.spec.targets is None or mention.kind is Kind.QUANTITY:
        return f"“{_short(title)}” has nothing that says so"
    try:
        targeted(step.spec, step.values, _asked_limit(mention))
    except BadParameters as error:
        return f"{error}. {error.hint.rstrip('.')}" if error.hint else str(error)
    return f"“{_short(title)}” is for {told(targeted(step.spec, step.values))}"


def _asked_limit(mention: Mention) -> Limit:
    names = tuple(name for name in mention.names if len(name) <= LONGEST)[:MOST_NAMED]
    return Limit(without=names) if mention.kind is Kind.EXCEPTION else Limit(only=names)


# --- one place beside several steps ----------------------------------------------------------------------------------


def _spread(text: str, steps: Sequence[Step], catalog: Catalog) -> Iterator[Unconsumed]:
    """ "Update the packages and restart nginx on web1": a place at the end may be meant for the step before, too."""
    places = [each for each in mentions(text, _inventory(catalog)) if each.kind is Kind.PLACE and each.sure]
    for step in steps:
        if step.span is None or step.task.limit.said or any(_holds(step, each) for each in places):
            continue
        behind = [each for each in places if each.start >= step.span[1]]
        if behind and not _ends_sentence(text[step.span[1] : behind[0].start]) and _is_wider(step, behind[0]):
            hosts = told(targeted(step.spec, step.values))
            yield Unconsumed(behind[0], step, f"it is for {hosts}, and only the step behind it names a place")


def _is_wider(step: Step, mention: Mention) -> bool:
    """Whether a step would do more than on the place that is named, and could be limited to it."""
    return step.spec.targets is not None and not _value(mention, step) and _kept(step, Limit(), only=mention.names).said


def _short(words: str) -> str:
    return words if len(words) <= SHORT else f"{words[: SHORT - 3]}..."
