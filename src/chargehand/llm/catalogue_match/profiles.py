"""What the catalog says about each intent, in the form clauses are compared with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from chargehand.domain.intents import IntentSpec
from chargehand.domain.secret_refs import is_secret
from chargehand.llm.catalogue_match.lexicon import LOOKING, PLACES, QUESTIONS
from chargehand.llm.catalogue_match.words import Token, imperatives, main_verb, tokens, word_before

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
    open: frozenset[str]  # parameters that any word can be a value of: what its verb does it to
    aside: frozenset[str]  # those that an example gives after a preposition: "the backups of {target}"
    deeds: frozenset[str]  # actions that its nouns name: "the backups" of an intent that lists them

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
    names = [name for name, schema in properties(spec).items() if _is_open(schema)]
    return Profile(
        spec=spec,
        actions=_actions(name, (*phrases, described)),
        verbs=_unknown_verbs((*phrases, described)),
        stems=frozenset(content_stems((*name, *described, *named, *(token for phrase in phrases for token in phrase)))),
        service=frozenset(content_stems(named)),
        values=frozenset(content_stems(closed)),
        phrases=phrases,
        too_few_phrases=len(spec.examples) < 3 and not spec.description,
        deeds=frozenset[str]().union(*(_deeds(phrase) for phrase in (name, described, *phrases))),
        open=frozenset(name for name in names if name in required(spec) or _is_object(name, phrases, spec)),
        aside=frozenset(name for name in names if any(f"{{{name}}}" in each for each in spec.examples)),
    )


def _actions(name: Sequence[Token], phrases: Sequence[Sequence[Token]]) -> frozenset[str]:
    """What the intent does: "stop and remove the page" does not offer to stop it."""
    own = leading_actions(name)
    single = (phrase for phrase in phrases if len({phrase[place].actions for place in imperatives(phrase)}) <= 1)
    each = [leading_actions(phrase) for phrase in single]
    clear = frozenset[str]().union(*(actions for actions in (own, *each) if len(actions) == 1))
    # "Launch" may deploy or start: what other examples say tells which.
    said = frozenset[str]().union(*(actions & clear or actions for actions in each))
    return said if said & LOOKING and not own & LOOKING else own | said  # "rollout_status" rolls out nothing


def _unknown_verbs(phrases: Sequence[Sequence[Token]]) -> frozenset[str]:
    """What begins a phrase without a verb of the tables, unless it stands elsewhere too: "scan", not "lights out"."""
    first = {stem for phrase in phrases if phrase and main_verb(phrase) is None for stem in phrase[0].stems}
    inside = [token for phrase in phrases for token in phrase[1:] if not token.lower.endswith(("ing", "ed"))]
    return frozenset(first - set(content_stems(inside)))


def _deeds(phrase: Sequence[Token]) -> frozenset[str]:
    verb = main_verb(phrase)
    nouns = (token.actions for place, token in enumerate(phrase) if place != verb and token.stems)
    return frozenset[str]().union(*nouns)


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


def _is_open(schema: Schema) -> bool:
    """Whether it takes a name that somebody gave something."""
    return schema.get("type", "string") == "string" and not choices(schema) and not is_secret(schema)


def _is_object(name: str, phrases: Sequence[Sequence[Token]], spec: IntentSpec) -> bool:
    """Whether an example has it as what the intent is about: "restart {service}", not "deploy Kuma on {host}"."""
    before = [
        word_before(phrase, at) for phrase in phrases for at, token in enumerate(phrase) if token.raw == f"{{{name}}}"
    ]
    return any(word not in PLACES for word in before) if spec.service else bool(set(before) - {"on", "at"})


def required(spec: IntentSpec) -> frozenset[str]:
    """Return the parameters that an intent must have."""
    names = spec.parameters.get("required")
    return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()


def literals(profiles: Sequence[Profile]) -> frozenset[str]:
    """Return words that stand in examples where a value would: "create database shop", of an intent with a `name`.

    They are in no description and no name of an intent or a parameter; a catalog that describes nothing has none.
    """
    if not all(each.spec.description for each in profiles):
        return frozenset()
    told = frozenset[str]().union(*(_told(each) for each in profiles))
    plain = (phrase for each in profiles if each.open for phrase in each.phrases if not _has_slot(phrase))
    return frozenset(stem for phrase in plain for stem in content_stems(_beside_verb(phrase))) - told


def _told(each: Profile) -> frozenset[str]:
    named = [each.spec.intent, each.spec.service or "", *properties(each.spec)]
    return frozenset(content_stems(tokens(" ".join([each.spec.description, *named]).replace("_", " ")))) | each.values


def _has_slot(phrase: Sequence[Token]) -> bool:
    return any(token.kind == "slot" for token in phrase)


def _beside_verb(phrase: Sequence[Token]) -> list[Token]:
    verb = main_verb(phrase)
    return [token for place, token in enumerate(phrase) if place != verb and not token.actions and place]


def choices(schema: Schema) -> list[JsonValue]:
    """Return the closed list of values a schema allows, empty when it is open."""
    enum = schema.get("enum")
    return list(enum) if isinstance(enum, list) else []
