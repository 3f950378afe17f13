"""Values of an intent's parameters, taken from the words of a clause. What is not said is not filled in.

`FINDERS` are tried in order, the surest first; each sees only parameters without a value and tokens not yet used.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import JsonValue

from chargehand.catalog import json_schema
from chargehand.domain.secret_refs import referring
from chargehand.llm.catalogue_match.lexicon import DETERMINERS, GENERIC, NOT_NAMES, NOUNS, PLACES, PRONOUNS
from chargehand.llm.catalogue_match.profiles import Profile, Schema, choices, properties, required
from chargehand.llm.catalogue_match.values import KINDS, coerce, kind_of
from chargehand.llm.catalogue_match.words import Token, main_verb, stem, word_before

LONGEST_NAME = 4  # words of a name without quotes
INTRODUCING = PLACES | {"for", "called", "named"}
NEAR = 2  # words between a parameter's name and its value: "port number 8421"
UNITS = frozenset({"second", "minut", "hour", "day", "ms", "mb", "gb", "mib", "gib", "percent", "id"})
KINDS_OF_NAMED = frozenset({"service", "host", "instance", "application"})  # "the nginx service"
PLAIN = frozenset(word for noun in ("config", "disk", "memory", "log", "space") for word in NOUNS[noun].split())
# A bare number means nothing by itself; an address does, and so does a share or a time with its unit.
ALONE_ENOUGH = frozenset(
    {"url", "host", "path", "endpoint", "percent", "duration", "size", "text", "list", "email", "secret"}
)


@dataclass
class Found:
    """Parameter values, and the places of the tokens they were taken from (the words that name them included)."""

    values: dict[str, JsonValue] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    supposed: set[int] = field(default_factory=set)  # of those, the ones taken because nothing else could be meant
    refused: list[str] = field(default_factory=list)  # values that were said but do not fit the schema


@dataclass(frozen=True)
class Search:
    """One parameter looked for in one clause; `used` are the places that have become values of others."""

    profile: Profile
    name: str
    schema: Schema
    clause: Sequence[Token]
    used: frozenset[int]

    @property
    def kind(self) -> str:
        return kind_of(self.name, self.schema)

    @property
    def words(self) -> set[str]:
        """The words of the parameter's name that can stand beside its value; the intent's own name says nothing."""
        return _words(self.name, self.profile) or {stem(part) for part in self.name.split("_")}

    @property
    def own_words(self) -> set[str]:
        """Those that no other parameter shares: of home_dashboard_port and media_library_port all but "port"."""
        others = (name for name in properties(self.profile.spec) if name != self.name)
        return self.words - set[str]().union(*(_words(other, self.profile) for other in others))

    @property
    def said(self) -> set[str]:
        return {each for token in self.clause for each in token.stems}


def _words(name: str, profile: Profile) -> set[str]:
    return {stem(part) for part in name.split("_")} - UNITS - GENERIC - profile.service


Match = tuple[tuple[int, ...], tuple[int, ...]]  # places of the value's tokens, places of the words that name it


def extract(profile: Profile, clause: Sequence[Token], told: frozenset[str] = frozenset()) -> Found:
    """Return what the clause says about the intent's parameters; `told` are words that are no names."""
    found = Found()
    for finder in FINDERS:
        for name, schema in properties(profile.spec).items():
            if name not in found.values:
                search = Search(profile, name, schema, clause, frozenset(found.used))
                _take(found, search, finder(search))
    _suppose(found, profile, clause, told)
    return found


def usually_given(profile: Profile) -> frozenset[str]:
    """Return the parameters without a default to which most examples give a value, by a slot or in so many words.

    Without examples it is the first that takes a name: what an intent does something to stands first in its schema.
    """
    times = Counter(name for phrase in profile.phrases for name in _given(profile, phrase))
    schemas = properties(profile.spec)
    often = [name for name, count in times.items() if count > USUALLY * len(profile.phrases)]
    if not profile.phrases:
        often = [name for name, schema in schemas.items() if kind_of(name, schema) in NAMED_KINDS][:1]
    return frozenset(name for name in often if "default" not in schemas.get(name, {}))


NAMED_KINDS = frozenset({"text", "host", "path", "url", "email", "endpoint"})


USUALLY = 0.5  # share of the examples


def _given(profile: Profile, phrase: Sequence[Token]) -> frozenset[str]:
    slots = {token.raw[1:-1] for token in phrase if token.kind == "slot"}
    return frozenset(slots or extract(profile, phrase).values)


def _suppose(found: Found, profile: Profile, clause: Sequence[Token], told: frozenset[str]) -> None:
    """Take the words that nobody knows for the values that are needed and missing, where they are as many."""
    schemas = properties(profile.spec)
    missing = [name for name in schemas if name in profile.open & required(profile.spec) and name not in found.values]
    verb = main_verb(clause)
    left = [at for at in range(len(clause)) if at != verb and at not in found.used]
    places = [at for at in left if clause[at].is_value or may_be_name(clause, at, told)]
    if len(missing) != len(places):
        return
    # What a verb does it to comes first in a schema, too: "grant wiki_app rights on wiki".
    for name, place in zip(missing, sorted(places, key=lambda at: _is_placed(clause, at)), strict=True):
        _take(found, Search(profile, name, schemas[name], clause, frozenset(found.used)), iter([((place,), ())]))
        found.supposed |= {place} & found.used


def _is_placed(clause: Sequence[Token], place: int) -> bool:
    return word_before(clause, place) in INTRODUCING


def _take(found: Found, search: Search, matches: Iterator[Match]) -> None:
    for places, named in matches:
        value = None
        if not found.used & {*places, *named}:
            value = coerce([search.clause[place] for place in places], search.name, search.schema)
        if value is None:
            continue
        if _fits(search.schema, value):
            found.values[search.name] = value
            found.used |= {*places, *named}
            return
        found.refused.append(f"{search.name.replace('_', ' ')} cannot be {value!r}")


@lru_cache(maxsize=1000)  # every value that the words offer is tried with each parameter
def _validator(schema: str) -> Any:
    return json_schema.validator(referring(json.loads(schema)))


def _fits(schema: Schema, value: JsonValue) -> bool:
    try:
        return not json_schema.errors(_validator(json.dumps(schema, sort_keys=True)), value)
    except json_schema.BadSchema:  # a broken schema: the check of the whole answer names it
        return True


# --- finders ---------------------------------------------------------------------------------------------------------


def _written_out(search: Search) -> Iterator[Match]:
    """`port=8421`, `port: 8421`."""
    for place in range(len(search.clause) - 2):
        if search.clause[place].lower == search.name.lower() and search.clause[place + 1].raw in ("=", ":"):
            yield (place + 2,), (place, place + 1)


def _listed(search: Search) -> Iterator[Match]:
    """One of the values a schema allows, wherever it stands."""
    for choice in sorted(choices(search.schema), key=lambda choice: -len(str(choice))):
        wanted = _plain(str(choice))
        for place in range(len(search.clause)):
            for end in range(place + 1, min(place + 4, len(search.clause)) + 1):
                if _plain(" ".join(token.raw for token in search.clause[place:end])) == wanted:
                    yield tuple(range(place, end)), ()


def _plain(text: str) -> str:
    return " ".join(stem(part) for part in re.split(r"[\s_-]+", text.strip("\"'“”`")) if part)


def _in_slot(search: Search) -> Iterator[Match]:
    """Where the intent's examples have the parameter: "restart {service} on {host}"."""
    for phrase in search.profile.phrases:
        for at, token in enumerate(phrase):
            if token.raw == f"{{{search.name}}}" and _is_meant(search, phrase):
                for start in _anchors(phrase, at, search.clause):
                    yield from (match for match in _after(search, start) if _holds(search, phrase, start, match))


def _holds(search: Search, phrase: Sequence[Token], anchor: int, match: Match) -> bool:
    """After a word without content ("is {name} running") a plain word is a value only if the example's words follow."""
    word, first = search.clause[anchor], search.clause[match[0][0]]
    if first.is_value or not word.is_filler or word.lower in PLACES:
        return True
    said = [token.lower for token in search.clause]
    return all(token.lower in said for token in phrase if token.kind == "word")


def _is_meant(search: Search, phrase: Sequence[Token]) -> bool:
    """Where the example tells the parameter from its like ("the media library on port ..."), the clause must too."""
    telling = search.own_words & {each for token in phrase for each in token.stems}
    return not telling or bool(telling & search.said)


def _after(search: Search, anchor: int) -> Iterator[Match]:
    place = _skip(search, anchor + 1)
    if place < len(search.clause) and _can_be_value(search, place) and not _is_doubtful_host(search, anchor, place):
        yield _run(search, place), tuple(range(anchor + 1, place))


def _is_doubtful_host(search: Search, anchor: int, place: int) -> bool:
    """ "restart atlas" may be a service: a plain word is a machine only after "on", "the host" and the like."""
    if search.kind != "host" or search.clause[place].is_value:
        return False
    introduced = search.clause[anchor].lower in PLACES or any(
        "host" in token.stems for token in search.clause[anchor:place]
    )
    return not introduced or search.clause[place - 1].lower in DETERMINERS  # "on the firewall" names no machine


def _anchors(phrase: Sequence[Token], slot: int, clause: Sequence[Token]) -> Iterator[int]:
    """Places in the clause of the word that stands before the slot: the same verb, the same word, a word for place."""
    last = next((place for place in range(slot - 1, -1, -1) if phrase[place].lower not in DETERMINERS), None)
    if last is None:
        return
    own = main_verb(clause)
    if last == main_verb(phrase):
        if own is not None and clause[own].actions & phrase[last].actions:
            yield own
        return
    word = phrase[last]
    same = PLACES if word.lower in PLACES else {word.lower}
    yield from (
        place
        for place, token in enumerate(clause)
        if token.lower in same or (token.stems and token.stems == word.stems)
    )


def _skip(search: Search, place: int) -> int:
    """Step over what may stand between the anchor and the value: "on the host web-1"."""
    words = {stem(part) for part in search.name.split("_")} | {"host", "service"}
    while place < len(search.clause) - 1 and _is_passed(search.clause[place], words):
        place += 1
    return place


def _is_passed(token: Token, words: set[str]) -> bool:
    return token.lower in DETERMINERS or token.kind == "particle" or bool(set(token.stems) & words)


def _run(search: Search, place: int) -> tuple[int, ...]:
    """The value's tokens: one, or for a list all that are joined by commas and "and"."""
    places = [place]
    while search.kind == "list" and place + 2 < len(search.clause):
        joined = search.clause[place + 1].lower in (",", "&", "and")
        if not joined or not _can_be_value(search, place + 2):
            break
        place += 2
        places.append(place)
    return tuple(places)


def _named(search: Search) -> Iterator[Match]:
    """Next to the parameter's name: "port 8421", "8421 replicas", "called kuma"."""
    if search.own_words != search.words and search.own_words and not search.own_words & search.said:
        return  # "port" alone may be any of two ports
    for place, token in enumerate(search.clause):
        if set(token.stems) & search.words or (search.name == "name" and token.lower in ("called", "named")):
            for other in (*range(place + 1, place + 1 + NEAR), place - 1):
                if 0 <= other < len(search.clause) and _adjoin(search.clause, place, other):
                    may = _can_stand_near(search, other) or (other > place and _is_numbered(search, other))
                    yield from [((other,), (place,))] if may else []


def _is_numbered(search: Search, place: int) -> bool:
    """ "Build 5120": right after its name a number is a name, too."""
    return search.kind == "text" and search.clause[place].kind == "number"


def _adjoin(clause: Sequence[Token], place: int, other: int) -> bool:
    between = clause[min(place, other) + 1 : max(place, other)]
    return all(token.is_filler or token.lower in ("=", ":", "number") for token in between)


def _by_kind(search: Search) -> Iterator[Match]:
    """The only value of a kind goes to the only parameter of that kind: a URL, a host, a path, quoted text."""
    if search.kind not in ALONE_ENOUGH:
        return
    rivals = [name for name, schema in properties(search.profile.spec).items() if kind_of(name, schema) == search.kind]
    places = [place for place in range(len(search.clause)) if _is_typed_value(search, place)]
    if len(rivals) == 1 and (len(places) == 1 or (places and search.kind == "list")):
        yield tuple(places), ()


def _is_typed_value(search: Search, place: int) -> bool:
    token = search.clause[place]
    return (
        place not in search.used
        and token.is_value
        and token.kind in KINDS[search.kind]
        and token.kind != "number"
        and not _is_anothers(search, token)
    )


def _host_after_on(search: Search) -> Iterator[Match]:
    """A machine by name: "on atlas"."""
    if search.kind != "host":
        return
    for place, token in enumerate(search.clause[:-1]):
        if token.lower in PLACES:
            value = _skip(search, place + 1)
            known = set(search.clause[value].stems) & search.profile.stems
            if not known and _can_be_value(search, value) and not _is_doubtful_host(search, place, value):
                yield (value,), tuple(range(place + 1, value))


def _switched(search: Search) -> Iterator[Match]:
    """A yes-or-no parameter that is mentioned is meant; "without" and "not" are caught as negations before."""
    if search.kind != "boolean":
        return
    words = [(stem(part),) for part in search.name.split("_")]
    for place in range(len(search.clause) - len(words) + 1):
        if [token.stems for token in search.clause[place : place + len(words)]] == words:
            yield tuple(range(place, place + len(words))), ()


def _between(search: Search) -> Iterator[Match]:
    """A name of several words, where an example's words stand on both sides: "lock the {door} door"."""
    if search.kind != "text":
        return
    for phrase in search.profile.phrases:
        for at, token in enumerate(phrase[:-1]):
            following = phrase[at + 1]
            if token.raw == f"{{{search.name}}}" and following.stems and not following.is_filler:
                for start in _anchors(phrase, at, search.clause):
                    yield from _up_to(search, _skip_determiners(search.clause, start + 1), following.stems)


def _skip_determiners(clause: Sequence[Token], place: int) -> int:
    while place < len(clause) and clause[place].lower in DETERMINERS:
        place += 1
    return place


def _up_to(search: Search, start: int, stems: tuple[str, ...]) -> Iterator[Match]:
    """The words from a place to the word that must follow, when they can be one name."""
    for end in range(start + 1, min(start + 1 + LONGEST_NAME, len(search.clause))):
        if search.clause[end].stems == stems:
            if all(_is_part_of_name(search, place) for place in range(start, end)):
                yield tuple(range(start, end)), ()
            return


def _is_part_of_name(search: Search, place: int) -> bool:
    token = search.clause[place]
    return token.kind == "word" and not token.is_filler and token.lower not in NOT_NAMES | PRONOUNS


def _only_name(search: Search) -> Iterator[Match]:
    """The only name in the clause goes to the only free-text parameter: "the error rate of payments"."""
    schemas = properties(search.profile.spec)
    rivals = [name for name, schema in schemas.items() if kind_of(name, schema) == "text"]
    if search.kind != "text" or rivals != [search.name]:
        return  # which of two it is, nobody knows
    runs = list(_names(search))
    if len(runs) == 1 and (len(runs[0]) == 1 or all(search.clause[place].raw[:1].isupper() for place in runs[0])):
        yield runs[0], ()


def _names(search: Search) -> Iterator[tuple[int, ...]]:
    """Runs of words and values that nothing else accounts for; the verb is none."""
    run: list[int] = []
    verb = main_verb(search.clause)
    for place in range(len(search.clause) + 1):
        if place < len(search.clause) and place != verb and place not in search.used and _is_free(search, place):
            run.append(place)
        elif run:
            if _is_introduced(search, run[0], verb) and _ends(search, run[-1]):
                yield tuple(run)
            run = []


def _is_introduced(search: Search, place: int, verb: int | None) -> bool:
    """Whether it stands after a preposition or a word of the intent: what a verb does it to is the thing itself."""
    before = next((at for at in range(place - 1, -1, -1) if search.clause[at].lower not in DETERMINERS), None)
    if before is None or before == verb:
        return False
    return search.clause[before].lower in INTRODUCING or bool(set(search.clause[before].stems) & search.profile.stems)


def _ends(search: Search, place: int) -> bool:
    """Whether nothing follows that it could belong to: "the web box", "the nginx thingy"."""
    if _is_adjective(search.clause, place):
        return False
    following = search.clause[place + 1] if place + 1 < len(search.clause) else None
    return following is None or following.is_filler or following.kind == "mark"


def _is_free(search: Search, place: int) -> bool:
    token = search.clause[place]
    if token.is_value:
        return token.kind in KINDS["text"]
    return is_name(token) and not set(token.stems) & search.profile.stems


Finder = Callable[[Search], Iterator[Match]]
FINDERS: tuple[Finder, ...] = (
    _written_out, _listed, _in_slot, _between, _named, _by_kind, _host_after_on, _switched, _only_name
)  # fmt: skip


# --- what can be a value ---------------------------------------------------------------------------------------------


def _can_be_value(search: Search, place: int) -> bool:
    token = search.clause[place]
    if search.kind == "choice":
        return False  # _listed has looked for them
    if token.is_value:
        return token.kind in KINDS[search.kind] and not _is_anothers(search, token)
    if set(token.stems) & search.profile.stems or search.kind not in ("text", "host", "list"):
        return False  # a word the intent is known by is no value: "back up the database" names none
    return is_name(token) and _stands_alone(search, place)


def _can_stand_near(search: Search, place: int) -> bool:
    token = search.clause[place]
    if token.is_value:
        return token.kind in KINDS[search.kind]
    return search.kind in ("text", "host") and is_name(token) and not set(token.stems) & search.profile.stems


def _is_anothers(search: Search, token: Token) -> bool:
    """A host is not a service where the intent has a parameter for hosts."""
    kinds = {kind_of(name, schema) for name, schema in properties(search.profile.spec).items()}
    return token.kind == "host" and search.kind not in ("host", "list") and "host" in kinds


def is_name(token: Token) -> bool:
    """Whether a word can be the name of something: no grammar, no "everything", no general noun."""
    lower = token.lower
    return (
        token.kind == "word"
        and not token.actions
        and not set(token.stems) & GENERIC
        and not token.is_filler
        and not any(lower in words for words in (NOT_NAMES, PRONOUNS, PLAIN))
    )


def may_be_name(clause: Sequence[Token], place: int, told: frozenset[str]) -> bool:
    """Whether a word that nobody knows could be what somebody calls something, also if it looks like a verb."""
    token = clause[place]
    if token.kind in ("id", "host", "quoted", "path"):
        return True
    if token.kind != "word" or token.is_filler or set(token.stems) & (told | GENERIC) or _is_adjective(clause, place):
        return False
    return not any(token.lower in words for words in (NOT_NAMES, PRONOUNS, PLAIN))


def _is_adjective(clause: Sequence[Token], place: int) -> bool:
    """ "The old one" has no name, nor has "the nginx thing"; "make it cozy" says how."""
    if place and clause[place - 1].lower in ("it", "them", "things", "everything"):
        return True
    return place + 1 < len(clause) and clause[place + 1].lower in NAMELESS


NAMELESS = frozenset({"one", "ones", "thing", "things", "thingy", "thingie", "stuff"})


def _stands_alone(search: Search, place: int) -> bool:
    """A name of several words is not understood here, so it is not cut to one of them: people can quote it."""
    following = search.clause[place + 1] if place + 1 < len(search.clause) else None
    if _is_adjective(search.clause, place):
        return False
    if following is None or following.kind != "word" or following.is_filler:
        return True
    return bool(set(following.stems) & (KINDS_OF_NAMED | search.profile.stems))
