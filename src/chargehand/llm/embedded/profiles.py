"""What the catalog says about each intent, in the form clauses are compared with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from chargehand.llm.embedded.lexicon import LOOKING, QUESTIONS
from chargehand.llm.embedded.words import Token, imperatives, main_verb, tokens
from chargehand.models import IntentSpec

Schema = Mapping[str, JsonValue]


@dataclass(frozen=True)
class Profile:
    """One intent. `stems` are all words it is known by, `phrases` its examples as tokens (slots kept).

    `verbs` are what its examples begin with where the language tables know no verb: "scan", "point ... to".
    `values` are the words of its closed lists: known, but accounted for only where they become a value.
    """

    spec: IntentSpec
    actions: frozenset[str]
    verbs: frozenset[str]
    stems: frozenset[str]
    service: frozenset[str]
    values: frozenset[str]
    phrases: tuple[tuple[Token, ...], ...]
    too_few_phrases: bool

    @property
    def title(self) -> str:
        """How to name it to a person: its first example, its slots as blanks."""
        phrase = self.spec.examples[0] if self.spec.examples else self.spec.description or self.spec.intent
        phrase = re.sub(r"\{(\w+)\}", lambda slot: f"<{slot[1].replace('_', ' ')}>", phrase).strip().rstrip(".")
        return phrase[:1].lower() + phrase[1:80].replace("_", " ")


def profile(spec: IntentSpec) -> Profile:
    """Gather what is known about one intent."""
    phrases = tuple(tokens(example) for example in spec.examples)
    name = tokens(spec.intent.replace("_", " "))
    described = tokens(spec.description)
    named = tokens((spec.service or "").replace("_", " "))
    closed = tokens(" ".join(str(choice) for schema in properties(spec).values() for choice in choices(schema)))
    return Profile(
        spec=spec,
        actions=_actions(name, (*phrases, described)),
        verbs=frozenset(verb for phrase in phrases if phrase and main_verb(phrase) is None for verb in phrase[0].stems),
        stems=frozenset(content_stems((*name, *described, *named, *(token for phrase in phrases for token in phrase)))),
        service=frozenset(content_stems(named)),
        values=frozenset(content_stems(closed)),
        phrases=phrases,
        too_few_phrases=len(spec.examples) < 3 and not spec.description,
    )


def _actions(name: Sequence[Token], phrases: Sequence[Sequence[Token]]) -> frozenset[str]:
    """What the intent does: "stop and remove the page" does not offer to stop it."""
    own = leading_actions(name)
    single = (phrase for phrase in phrases if len({phrase[place].actions for place in imperatives(phrase)}) <= 1)
    return own.union(*(leading_actions(phrase) for phrase in single))


def leading_actions(phrase: Sequence[Token]) -> frozenset[str]:
    """Return the actions of the phrase's main verb; a question asks to look."""
    if phrase and phrase[0].lower in QUESTIONS:
        return LOOKING
    place = main_verb(phrase)
    return phrase[place].actions if place is not None else frozenset()


def first_word(phrase: Sequence[Token]) -> tuple[str, ...]:
    """Return the stems of the first word with content: in an order it is the verb."""
    return next((token.stems for token in phrase if token.kind == "word" and not token.is_filler), ())


def content_stems(found: Iterable[Token]) -> list[str]:
    """Return the stems of the words that say what it is about."""
    return [stem for token in found if token.kind == "word" and not token.is_filler for stem in token.stems]


def properties(spec: IntentSpec) -> dict[str, Schema]:
    """Return the schema of each parameter, in the order of the intent's schema."""
    found = spec.parameters.get("properties")
    if not isinstance(found, dict):
        return {}
    return {name: schema if isinstance(schema, dict) else {} for name, schema in found.items()}


def choices(schema: Schema) -> list[JsonValue]:
    """Return the closed list of values a schema allows, empty when it is open."""
    enum = schema.get("enum")
    return list(enum) if isinstance(enum, list) else []
