"""The catalog as training phrases: examples with their slots filled, descriptions, names, and what is no intent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from chargehand.llm.catalogue_match import phrases
from chargehand.llm.catalogue_match.lexicon import LOOKING, QUESTIONS
from chargehand.llm.catalogue_match.profiles import Profile, choices, content_stems, literals, properties
from chargehand.llm.catalogue_match.values import kind_of
from chargehand.llm.catalogue_match.words import Token, main_verb, tokens

VAGUE, OUT_OF_SCOPE, BACKGROUND = "?vague", "?out-of-scope", "?background"  # no intent's name starts with "?"
CLASSES = {VAGUE: phrases.VAGUE, OUT_OF_SCOPE: phrases.OUT_OF_SCOPE, BACKGROUND: phrases.BACKGROUND}
OFFERED = 0.6  # of the words of a phrase from another trade: an example that has as many offers just that
FILLINGS = 4  # values tried per slot: enough that the class does not hang on one of them


class Example(NamedTuple):
    """One training phrase. Those made from one `source` by filling its slots are near copies of each other."""

    features: tuple[str, ...]
    label: str
    source: int


def known_stems(profiles: Iterable[Profile]) -> frozenset[str]:
    """Return every word the classifier can know: the catalog's and the generic phrases'."""
    found = list(profiles)
    generic = (stem for _, phrase in generic_phrases(found) for stem in content_stems(phrase))
    return frozenset(generic).union(*(each.stems | each.values for each in found))


def generic_phrases(profiles: Sequence[Profile]) -> list[tuple[str, tuple[Token, ...]]]:
    """Return the phrases that are no intent, each with its class, without those that this catalog does offer.

    What is another trade's for a data centre ("book the meeting room") is an office's own.
    """
    own = [frozenset(content_stems(phrase)) for each in profiles for phrase in each.phrases]
    own += [frozenset(content_stems(tokens(each.spec.description))) for each in profiles]
    every = [(label, tokens(line)) for label, block in CLASSES.items() for line in phrases.lines(block)]
    return [(label, phrase) for label, phrase in every if label != OUT_OF_SCOPE or not _is_offered(phrase, own)]


def _is_offered(phrase: Sequence[Token], own: Sequence[frozenset[str]]) -> bool:
    said = frozenset(content_stems(phrase))
    return any(len(said & other) >= max(1, OFFERED * len(said)) for other in own) if said else False


def features(found: Sequence[Token], known: frozenset[str]) -> tuple[str, ...]:
    """Return what the classifier sees: actions instead of verbs, kinds instead of values, `@name` for the unknown."""
    asks = bool(found) and found[0].lower in QUESTIONS  # "what snapshots are there" is to be looked up, not made
    place = None if asks else main_verb(found)
    seen = [f"!{action}" for action in sorted(LOOKING) if asks]
    seen += [feature for at, token in enumerate(found) for feature in _seen(token, at == place, known)]
    return (*seen, *(f"{left} {right}" for left, right in pairwise(seen)))


def _seen(token: Token, main: bool, known: frozenset[str]) -> list[str]:
    if main:
        return [f"!{action}" for action in sorted(token.actions)]
    if token.is_value:
        return [f"@{token.kind}"]
    if token.kind != "word" or token.is_filler:
        return []
    if "_" in token.raw:  # a name somebody made up, whatever words it is made of: "load_orders" orders nothing
        return ["@name"]
    named = [stem if stem in known else "@name" for stem in token.stems]
    # "A snapshot" is what "back it up" makes: the noun stands for its verb's synonyms too.
    return [*named, *(f"~{action}" for action in sorted(token.actions))]


def examples(profiles: Sequence[Profile]) -> list[Example]:
    """Return the training set of a catalog."""
    known, open_words = known_stems(profiles), literals(profiles)
    services = sorted({stem for each in profiles for stem in each.service})
    sources = [
        *((each.spec.intent, variants) for each in profiles for variants in _phrases(each, services, open_words)),
        *((label, [phrase]) for label, phrase in generic_phrases(profiles)),
    ]
    return [
        Example(features(phrase, known), label, source)
        for source, (label, variants) in enumerate(sources)
        for phrase in variants
    ]


def _phrases(each: Profile, services: Sequence[str], open_words: frozenset[str]) -> Iterator[list[tuple[Token, ...]]]:
    for phrase in each.phrases:
        yield [*_filled(phrase, each, services), *_with_other_names(phrase, each, open_words)]
    if each.spec.description:
        yield [tokens(each.spec.description)]
    yield [tokens(each.spec.intent.replace("_", " "))]


def _filled(phrase: tuple[Token, ...], each: Profile, services: Sequence[str]) -> list[tuple[Token, ...]]:
    slots = [token.raw[1:-1] for token in phrase if token.kind == "slot"]
    values = {slot: _values(slot, each, services) for slot in slots}
    turns = max((len(options) for options in values.values()), default=1)
    chosen = [{slot: options[turn % len(options)] for slot, options in values.items()} for turn in range(turns)]
    return [tokens(" ".join(_put(token, values) for token in phrase)) for values in chosen]


def _with_other_names(phrase: tuple[Token, ...], each: Profile, open_words: frozenset[str]) -> list[tuple[Token, ...]]:
    """The same with names nobody knows for those an example gives: "create database shop" is of no shop."""
    if not each.open or not any(set(token.stems) & open_words for token in phrase):
        return []
    said = [NAMELESS if set(token.stems) & open_words and not token.actions else token.raw for token in phrase]
    return [tokens(" ".join(said))]


def _put(token: Token, values: Mapping[str, str]) -> str:
    return values[token.raw[1:-1]] if token.kind == "slot" else token.raw


NAMELESS = "xyzzy"  # no word of any catalog, so it is seen as `@name`
BY_KIND = {  # what a value of each kind looks like to the classifier
    "url": "http://localhost",
    "email": "me@localhost",
    "host": "web-1",
    "path": "/etc/hosts",
    "endpoint": "localhost:80",
    "percent": "90%",
    "duration": "30 seconds",
    "size": "64 MB",
    "number": "8080",
}


def _values(slot: str, each: Profile, services: Sequence[str]) -> list[str]:
    """Plausible values of a slot: what the schema names, else what its kind looks like."""
    schema = properties(each.spec).get(slot, {})
    given = choices(schema) or schema.get("examples")
    if isinstance(given, list) and given:
        return [str(value) for value in given[:FILLINGS]]
    kind = kind_of(slot, schema)
    return [BY_KIND[kind]] if kind in BY_KIND else [NAMELESS, *services[: FILLINGS - 1]]
