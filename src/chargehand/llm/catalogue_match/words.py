"""Text to tokens: typed values (quoted text, addresses, hosts, numbers) and words in the form that is compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile

import snowballstemmer

from chargehand.llm.catalogue_match.lexicon import (
    DETERMINERS,
    FILLERS,
    PARTICLES,
    PHRASAL,
    PLACES,
    actions_by_verb,
    nouns_by_word,
)
from chargehand.understanding.literals import ADDRESS, ENDPOINT, ENDS, IMAGE, NETWORK, RELEASE, TIME, VERSION

# First match wins, so the more specific come first. Repetitions are bounded: 10,000 dots must not take seconds.
TOKEN = re.compile(
    rf"""
      (?P<slot>\{{[A-Za-z_]\w*\}})
    | (?P<quoted>“[^”]{{1,400}}”|"[^"]{{1,400}}"|`[^`]{{1,400}}`|(?<!\w)'[^']{{1,400}}'(?!\w))
    | (?P<url>https?://[^\s<>"“”]*[\w/])
    | (?P<email>[\w.+-]{{1,64}}@[\w-]{{1,63}}\.[\w.-]{{0,100}}\w)
    | (?P<network>{NETWORK})
    | (?P<address>{ADDRESS})
    | (?P<time>{TIME})
    | (?P<id>(?:[0-9a-f]{{2}}[:-]){{5}}[0-9a-f]{{2}}\b|{IMAGE}|{VERSION}|{RELEASE}|\d+(?:-\w+)+)
    | (?P<path>[A-Za-z][\w.-]{{0,100}}(?:/[\w.@-]*[\w@-])+|(?:~|\.{{1,2}})?(?:/[\w.@+-]*[\w@+-])+/?
        |[\w-]+\.(?:ya?ml|json|ini|conf|cfg|toml|txt|sh|service|log|env)\b)
    | (?P<secret>\bsecret:[a-z][a-z0-9_]{{0,62}}\b)
    | (?P<endpoint>[A-Za-z][\w.-]{{0,100}}:\d{{1,5}}{ENDS}|{ENDPOINT})
    | (?P<percent>\d+(?:\.\d+)?\s?(?:%|percent\b|per\scent\b))
    | (?P<duration>\d+(?:\.\d+)?\s?
        (?:ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|weeks?)\b)
    | (?P<size>\d+(?:\.\d+)?\s?(?:[kmgt]i?b|megabytes?|gigabytes?|terabytes?)\b)
    | (?P<host>(?:[A-Za-z][\w-]{{0,62}}\.){{1,10}}[A-Za-z]{{2,}}
        |[A-Za-z]{{1,40}}(?:-[A-Za-z]{{1,40}}){{0,6}}-?\d+(?!\w|\.\d))
    | (?P<number>(?<!\w\.)\d+(?:\.\d+)?(?!\w|\.\d))
    | (?P<word>\w+(?:[-_]\w+)*(?:\.[A-Za-z]\b)?(?:['’]\w{{1,2}})?)
    | (?P<mark>[^\w\s])
    """,
    re.VERBOSE | re.IGNORECASE,
)
VALUES = frozenset("quoted url email id path secret network endpoint".split())  # noqa: SIM905
VALUES |= frozenset("percent duration size host number time".split())  # noqa: SIM905

CAUSATIVES = frozenset({"get", "have", "want", "need"})
VERBS = actions_by_verb()
_NOUNS = nouns_by_word()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text. `stems` is what is compared: several for a word with hyphens, none for a mark."""

    raw: str
    start: int
    end: int
    kind: str
    stems: tuple[str, ...] = ()
    actions: frozenset[str] = frozenset()

    @property
    def is_value(self) -> bool:
        """Whether its form says that it is a value, not a word."""
        return self.kind in VALUES

    @property
    def lower(self) -> str:
        return self.raw.lower()

    @property
    def is_filler(self) -> bool:
        """Whether it carries no content: grammar, politeness, "I'd"."""
        return self.kind == "word" and re.split("['’]", self.lower)[0] in FILLERS


def tokens(text: str) -> tuple[Token, ...]:
    """Cut a text into tokens; verbs carry the actions they name."""
    found = [_token(match) for match in TOKEN.finditer(text)]
    return _with_particles(_with_phrasals(_without_numbering(found)))


def _without_numbering(found: list[Token]) -> list[Token]:
    """Read "1. stop it 2. start it" as sentences: the numbers of a list are marks, and so are its full stops."""
    expected, numbers = 1, []
    for place, token in enumerate(found[:-1]):
        if token.raw == str(expected) and found[place + 1].raw in (".", ")") and _starts_an_item(found, place):
            numbers.append(place)
            expected += 1
    if len(numbers) < 2:
        return found
    return [replace(token, raw=";", kind="mark") if place in numbers else token for place, token in enumerate(found)]


def _starts_an_item(found: Sequence[Token], place: int) -> bool:
    """Whether a word follows the number and its mark: "4.5" and "web-1." start none."""
    return place + 2 < len(found) and found[place + 2].kind in ("word", "quoted")


def _token(match: re.Match[str]) -> Token:
    raw, kind = match[0], str(match.lastgroup).replace("address", "host")
    stems = tuple(stem(part) for part in re.split(r"[-_]", raw) if part) if kind == "word" else ()
    return Token(raw, match.start(), match.end(), kind, stems, _actions(raw) if kind == "word" else frozenset())


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """Return the form under which a word is compared: lower case, without ending, one noun for its synonyms."""
    lower = re.sub(r"['’]s?$", "", word.lower())
    return _NOUNS.get(lower) or _NOUNS.get(_bare(lower)) or _bare(lower)


_SNOWBALL = snowballstemmer.stemmer("english")


@lru_cache(maxsize=16_384)  # more than the words of a large catalog; the stemmer takes 40 to 80 µs a word
def _bare(word: str) -> str:
    return str(_SNOWBALL.stemWord(word)) if len(word) > 3 and word.isalpha() else word


_VERB_STEMS = {_bare(verb): actions for verb, actions in VERBS.items()} | {verb: VERBS[verb] for verb in VERBS}


def _actions(raw: str) -> frozenset[str]:
    lower = raw.lower()
    return _VERB_STEMS.get(lower) or _VERB_STEMS.get(_bare(lower), frozenset())


_PHRASALS = {(_bare(verb), particle): actions for (verb, particle), actions in PHRASAL.items()}
PARTICLE_REACH = 6  # words between a verb and its particle: "set our new status page up"


def _with_phrasals(found: list[Token]) -> tuple[Token, ...]:
    for place, token in enumerate(found):
        if token.kind != "word":
            continue
        for other in range(place + 1, min(place + 1 + PARTICLE_REACH, len(found))):
            if found[other].kind == "mark" or found[other].actions:
                break
            action = _PHRASALS.get((_bare(token.lower), found[other].lower))
            if action and not _is_place(found, place, other):
                found[place] = Token(token.raw, token.start, token.end, "word", token.stems, frozenset(action.split()))
                found[other] = Token(found[other].raw, found[other].start, found[other].end, "particle")
                break
    return tuple(found)


def _is_place(found: Sequence[Token], verb: int, particle: int) -> bool:
    """Whether a particle apart from its verb begins a place: "put the page on this machine" turns nothing on."""
    following = found[particle + 1] if particle + 1 < len(found) else None
    apart = particle > verb + 1 and found[particle].lower in PLACES
    return apart and following is not None and following.kind != "mark" and not _goes_on(following)


def _goes_on(token: Token) -> bool:
    """Whether what follows a particle cannot be what a preposition stands before."""
    return token.lower in PLACES | AFTER_PARTICLE


def _with_particles(found: tuple[Token, ...]) -> tuple[Token, ...]:
    """ "The lights off in the hall", "web up to 8": a particle without its verb says what to do, as the verb would."""
    return tuple(
        replace(token, actions=PARTICLES[token.lower])
        if token.kind == "word" and token.lower in PARTICLES and _ends_a_phrase(found, place)
        else token
        for place, token in enumerate(found)
    )


def _ends_a_phrase(found: Sequence[Token], place: int) -> bool:
    """Whether a noun stands before it and none after: "on web-1" is a place, "lights on" is none."""
    before = found[place - 1] if place else None
    following = found[place + 1] if place + 1 < len(found) else None
    if any(token.lower in COPULAS or token.actions for token in _since_mark(found, place)):
        return False  # "is it up", "the page is down": how it is, not what to do
    if [token.lower for token in found[place : place + 3]] == ["up", "and", "running"]:
        return False  # how it is to be
    if before is None or before.kind in ("mark", "particle") or (before.is_filler and before.lower != "back"):
        return False
    if before.lower.endswith(("ing", "ed")):  # "is acting up"
        return False
    return following is None or following.kind == "mark" or _goes_on(following)


def _since_mark(found: Sequence[Token], place: int) -> list[Token]:
    """The words before a place that belong to it: not beyond a mark, and of a long text only the nearest."""
    near = reversed(found[max(0, place - SUBJECT_REACH) : place])
    return list(takewhile(lambda token: token.kind != "mark", near))


SUBJECT_REACH = 8  # words between a verb and what it belongs to: "I'd like the lights in the upper kitchen off"
COPULAS = frozenset("is are was were be been being isn't aren't whats what's looks stays goes went".split())  # noqa: SIM905
AFTER_PARTICLE = frozenset("in for and then please pls again now first next with by".split())  # noqa: SIM905


def main_verb(clause: Sequence[Token]) -> int | None:
    """Return the place of the word that says what to do: the first verb that is not a noun by its position.

    In "get the page restarted" and "have it checked" it is the participle.
    """
    verbs = [place for place, token in enumerate(clause) if token.actions and not _is_noun(clause, place)]
    causative = any(token.lower in CAUSATIVES for token in clause[: verbs[0] + 1]) if verbs else False
    participles = [place for place in verbs if clause[place].lower.endswith("ed")]
    return participles[0] if causative and participles else next(iter(verbs), None)


def _is_noun(clause: Sequence[Token], place: int) -> bool:
    """Tell nouns that look like verbs, "the backup", "a restart", "the daily backup": a determiner stands before.

    A participle is none: "get the status page restarted".
    """
    if clause[place].lower.endswith("ed") or clause[place].lower in PARTICLES:
        return False
    for before in range(place - 1, max(-1, place - 4), -1):
        if clause[before].lower in DETERMINERS:
            return True
        if clause[before].kind == "mark" or clause[before].lower in FILLERS or clause[before].actions:
            return False
    return False


def imperatives(clause: Sequence[Token]) -> list[int]:
    """Return the places of the verbs in the form of an order: "stop and remove it" has two."""
    return [
        place
        for place, token in enumerate(clause)
        if token.actions and not token.lower.endswith(("ed", "ing", "s")) and not _is_noun(clause, place)
    ]


def word_before(found: Sequence[Token], place: int) -> str:
    """Return the word that stands before a place, determiners apart; "" where none does."""
    return next((token.lower for token in reversed(found[:place]) if token.lower not in DETERMINERS), "")
