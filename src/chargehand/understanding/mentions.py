"""What a request says that must not get lost: places, exceptions and quantities, each with where it stands. Pure.

What is read here is form and grammar, not meaning: a name of the inventory, a form that only names and addresses have,
a preposition, a word such as "except", a number.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from itertools import takewhile
from typing import NamedTuple

from chargehand.domain.hosts import LOCALHOST
from chargehand.understanding.literals import ADDRESS, ENDPOINT, NETWORK, TIME, VERSION


class Kind(StrEnum):
    """What a mention is. `ONLY` is a place, or a thing, that the request limits something to."""

    PLACE = "place"
    ONLY = "only"
    EXCEPTION = "exception"
    QUANTITY = "quantity"


class Mention(NamedTuple):
    """One thing that a request says. `names` are what it is about, word by word or as names of the inventory.

    `sure`: its form alone says what it is; otherwise a word in its place could also be something that the work is
    known by.
    """

    kind: Kind
    words: str
    start: int
    end: int
    names: tuple[str, ...]
    sure: bool


class Piece(NamedTuple):
    """A piece of the text with its form."""

    form: str
    text: str
    start: int
    end: int

    @property
    def lower(self) -> str:
        return self.text.lower()


# First match wins. What is quoted, a path or a URL is a value, and no words are looked for in it.
PIECE = re.compile(
    rf"""
      (?P<value>“[^”]{{1,400}}”|"[^"]{{1,400}}"|`[^`]{{1,400}}`|(?<!\w)'[^']{{1,400}}'(?!\w)
        |https?://[^\s<>"“”]*[\w/]|[\w.+-]{{1,64}}@[\w-]{{1,63}}\.[\w.-]{{0,100}}\w
        |(?:[0-9a-f]{{2}}[:-]){{5}}[0-9a-f]{{2}}\b|(?<!\w)(?:~|\.{{1,2}})?(?:/[\w.@+-]*[\w@+-])+/?|\bsecret:\w+)
    | (?P<place>{NETWORK}|{ENDPOINT}|{ADDRESS})
    | (?P<time>{TIME}|\d{{4}}-\d\d-\d\d)
    | (?P<version>{VERSION})
    | (?P<number>(?<![\w.])\d{{1,12}}(?:\.\d{{1,6}})?\s?
        (?:%|percent\b|[kmgt]i?b\b|ms\b|s\b|secs?\b|seconds?\b|m\b|mins?\b|minutes?\b|h\b|hrs?\b|hours?\b|d\b|days?\b
        |weeks?\b)?(?![\w-]|\.\d))
    | (?P<word>\w+(?:[-_.]\w+)*(?::\d{{1,5}}\b)?(?:['’]\w{{1,2}})?)
    | (?P<mark>[^\w\s])
    """,
    re.VERBOSE | re.IGNORECASE,
)
NAMED = re.compile(r"[a-z]{2,40}(?:-[a-z]{1,40}){0,6}-?\d{1,6}|n-?\d{1,4}|(?:[a-z][\w-]{0,62}\.){2,10}[a-z]{2,}", re.I)
"""The form that names of machines have: letters and then a number, or a name with two full stops or more."""

STANDARDS = frozenset("ipv4 ipv6 http2 http3 utf8 sha1 sha256 sha512 md5 x86 k8s ed25519 oauth2 mp3 mp4 h264".split())  # noqa: SIM905
"""What has that form and names no machine."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


WHERE = _set("on in at inside within across")  # what follows is a place, also where nothing in it looks like one
DETERMINERS = _set("a an the this these those my our your his her their its some any all every each both whole entire")
ENDING = WHERE | _set(
    """and or but then to from of for with by as into onto over under via through about against up out off if when
    before after until till while because so that which who please now again is are was were be has have had not
    only except using called named instead too also first next please pls plz thanks thx asap"""
)
"""Words that end what a preposition is about."""
GENERIC = _set(
    """everything everywhere anything anywhere somewhere
    host hosts machine machines server servers box boxes node nodes vm vms computer computers system systems
    place places network group groups fleet cluster clusters same new old current other others
    one ones it them there here thing things"""
)
"""Words that name no place of their own."""
MACHINE = _set("host machine server box node computer")
MACHINES = _set("hosts machines servers boxes nodes computers vms")
SUFFIX = re.compile(r"(?:hosts?|machines?|servers?|nodes?|boxes)$")
THROUGH = frozenset({"through", "thru"})
JOINING = frozenset({"and", "or", ",", "&", "/"})
NO_PLACE = _set(
    """order total time times full place parallel turn demand hold call general particular detail advance case fact
    addition background foreground once least most first last moment end beginning start night noon midnight morning
    afternoon evening tomorrow today tonight weekend week month year day hour minute second monday tuesday wednesday
    thursday friday saturday sunday january february march april may june july august september october november
    december mode english short sync charge use progress behalf purpose top way minutes hours days weeks months
    seconds future past meantime meanwhile line touch mind sequence series force effect question need"""
)
"""What stands after "in", "on" and "at" and is no place: times and idioms."""
LONGEST = 5  # words of a place

PART = re.compile(
    r"\b(?:one|single|half|third|quarter|couple|few|several|some|most|first|second|last)\b(?= (?:of |the |\w+ )?"
    r"(?:of |the |\w+ )?(?:hosts?|machines?|servers?|boxes|box|nodes?|vms?|replicas?|pods?|instances?)\b)"
)
"""Some of them: "half of the servers", "the first node"."""

NUMBERS = dict(zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13), strict=True))  # noqa: SIM905

EXCEPT = re.compile(
    r"\b(?:except(?:ing)?(?: for)?|excluding|but not|but no|other than|apart from|aside from|save for|without|omitting"
    r"|leav(?:e|ing) out|minus|not (?:on|in|for|at)"
    r"|(?<=\ball )but|(?<=\bevery )but|(?<=everything )but|(?<=everywhere )but|(?<=servers )but|(?<=hosts )but"
    r"|(?<=machines )but|(?<=nodes )but|(?<=boxes )but)\b"
)
"""What follows is left out."""
NEGATED = re.compile(
    r"\b(?:do(?:es)? ?n[o'’]?t|don['’]t|never|not|skip(?:ping)?|leav(?:e|ing)|ignor(?:e|ing)|avoid(?:ing)?"
    r"|spar(?:e|ing)|instead of|rather than|neither|nor)\b"
)
"""A name that follows closely is left out: "do not touch web1", "leave db1 alone"."""
TWICE = re.compile(r"\b(?:no|none|nothing|nowhere|nobody|not|never)\b|n['’]t\b")
"""Before an exception it turns the meaning round: "no server except web1"."""
WINDOW, MOST_BEHIND = 400, 40  # characters and pieces that are looked at behind such a word: a list of names is shorter
MOST_EXCEPTIONS = 40  # words that may leave something out, in one request
CLOSELY = 3  # words between a negation and the name that it is about
MANNER = _set("delay asking fail failure ado problems hesitation waiting further question questions interruption")
"""What follows "without" and leaves nothing out."""
ONLY = re.compile(r"\b(?:only|solely|exclusively|nothing but)\b")
CONDITION = _set("if when after once during between while until for")
STOP = re.compile(r"[.;!?](?:\s|$)|,? (?:and )?then\b|,(?= (?:and|but)\b)|\bbut\b")


def pieces(text: str) -> list[Piece]:
    """Return the pieces of a text, in order."""
    return [Piece(str(m.lastgroup), m[0], m.start(), m.end()) for m in PIECE.finditer(text)]


def mentions(text: str, inventory: Collection[str] = ()) -> tuple[Mention, ...]:
    """Return what a text mentions, in order; `inventory` are the names of hosts and groups that are known."""
    found = pieces(text)
    known = {fold(name): name for name in sorted(inventory)}
    left_out = list(_exceptions(text, found, known))
    limited = list(_limited(text, found, known))
    taken = [(each.start, each.end) for each in (*left_out, *limited)]
    places = [each for each in _places(text, found, known) if not _inside(each, taken)]
    taken += [(each.start, each.end) for each in places]
    numbers = [each for each in _quantities(text, found) if not _inside(each, taken)]
    return tuple(sorted([*left_out, *limited, *places, *numbers], key=lambda each: each.start))


def fold(name: str) -> str:
    """Return a name as it is compared: "Web-1", "web 1" and "web_1" are one."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def _inside(mention: Mention, taken: Sequence[tuple[int, int]]) -> bool:
    return any(start <= mention.start and mention.end <= end for start, end in taken)


# --- places ----------------------------------------------------------------------------------------------------------


def _places(text: str, found: Sequence[Piece], known: dict[str, str]) -> Iterator[Mention]:
    at, listed = 0, -1  # where a list of names may go on: "on web and db"
    while at < len(found):
        end, name = _of_inventory(found, at, known, listed=at == listed)
        if not name and _is_named(found, at):
            end = at + (2 if _is_pattern(found, at) else 1)
            name = LOCALHOST if _is_here(found, at) else text[found[at].start : found[end - 1].end].lower()
        if name and end + 1 < len(found) and found[end].lower in THROUGH and _is_named(found, end + 1):
            end += 2  # from one to another one: which lie between, only a person knows
            name = "..".join((found[at].lower, found[end - 1].lower))
        if name:
            yield _mention(Kind.PLACE, text, found[at:end], (name,), sure=True)
            listed = end + 1 if end < len(found) and found[end].lower in JOINING else -1
        elif words := _words_of_place(found, at, known):
            content = _content(words)
            if content and not _content(words, NO_PLACE) & NO_PLACE:
                yield _mention(Kind.PLACE, text, words, tuple(sorted(content)), sure=False)
        at = max(end, at + 1) if name else at + 1


def _of_inventory(found: Sequence[Piece], at: int, known: dict[str, str], *, listed: bool = False) -> tuple[int, str]:
    """Return the longest name of the inventory that begins here, and where it ends.

    A group may be called like any word, so it must stand by itself: "on web", "the web servers", not "the web page".
    """
    for end in range(min(len(found), at + LONGEST) if not _is_pattern(found, at) else at, at, -1):
        said = fold(" ".join(piece.text for piece in found[at:end]))
        name = known.get(said, "") or known.get(SUFFIX.sub("", said), "")
        if name and found[at].form in ("word", "place") and (listed or _stands_as_name(found, end, name)):
            return end + _is_generic(found, end), name
    return at, ""


def _stands_as_name(found: Sequence[Piece], end: int, name: str) -> bool:
    if _is_generic(found, end) or any(character.isdigit() for character in name) or "." in name:
        return True
    following = found[end] if end < len(found) else None
    return following is None or following.form == "mark" or following.lower in ENDING


def _is_generic(found: Sequence[Piece], at: int) -> bool:
    return at < len(found) and found[at].lower in GENERIC


def _is_named(found: Sequence[Piece], at: int) -> bool:
    """Whether a piece has the form of a machine's name, of several, or says that this machine is meant."""
    piece = found[at]
    if piece.form != "word" or piece.lower in STANDARDS:
        return piece.form == "place"
    span = all(map(NAMED.fullmatch, piece.text.split("-"))) and "-" in piece.text  # "web1-web3"
    return bool(NAMED.fullmatch(piece.text)) or span or _is_pattern(found, at) or _is_here(found, at)


def _is_pattern(found: Sequence[Piece], at: int) -> bool:
    """ "web*", "web[1:3]"."""
    behind = found[at + 1] if at + 1 < len(found) else None
    return behind is not None and behind.start == found[at].end and behind.text in "*["


def _is_here(found: Sequence[Piece], at: int) -> bool:
    this = at > 0 and found[at - 1].lower == "this" and found[at].lower in MACHINE
    return found[at].lower == LOCALHOST or this


def _words_of_place(found: Sequence[Piece], at: int, known: dict[str, str]) -> Sequence[Piece]:
    """Return words that say where: "in the east wing", and "the Berlin servers"."""
    if found[at].lower in WHERE:
        return _place_after(found, at + 1, known)
    more = at + 1 < len(found) and found[at + 1].lower in MACHINES
    after = at > 0 and found[at - 1].lower in DETERMINERS
    is_word = found[at].form == "word" and found[at].lower not in NUMBERS
    return found[at : at + 2] if more and after and is_word else []


def _place_after(found: Sequence[Piece], at: int, known: dict[str, str]) -> Sequence[Piece]:
    """Return the words that a preposition is about; none where a value or a name is among them, which says more."""
    words = list(
        takewhile(lambda piece: piece.form == "word" and piece.lower not in ENDING, found[at : at + LONGEST + 1])
    )
    following = found[at + len(words)] if at + len(words) < len(found) else None
    cut = len(words) > LONGEST or (following is not None and following.form not in ("word", "mark"))
    says_more = any(_is_named(found, at + n) or _of_inventory(found, at + n, known)[1] for n in range(len(words)))
    return [] if cut or says_more else words


def _content(words: Sequence[Piece], keep: Collection[str] = ()) -> set[str]:
    """Return the words that name something."""
    said = {piece.lower for piece in words if piece.form != "mark"}
    return {word for word in said if word in keep or word not in DETERMINERS | GENERIC}


def _mention(kind: Kind, text: str, said: Sequence[Piece], names: tuple[str, ...], *, sure: bool) -> Mention:
    return Mention(kind, text[said[0].start : said[-1].end], said[0].start, said[-1].end, names, sure)


# --- exceptions and limits -------------------------------------------------------------------------------------------


def _exceptions(text: str, found: Sequence[Piece], known: dict[str, str]) -> Iterator[Mention]:
    behind, lower = 0, text.lower()
    matches = sorted((*EXCEPT.finditer(lower), *NEGATED.finditer(lower)), key=lambda each: (each.start(), -each.end()))
    if len(matches) > MOST_EXCEPTIONS:  # nobody writes so many: all of them together are a question
        begins, ends = matches[0], matches[-1]
        yield Mention(Kind.EXCEPTION, begins[0], begins.start(), ends.end(), (begins[0],), sure=True)
        return
    for match in matches:
        if match.start() < behind:
            continue
        about = _behind(lower, found, match.end())
        first, names, last = _names_in(about, known)
        negated = match.re is NEGATED
        if not about or about[0].lower in MANNER or (negated and not _closely(about, first)):
            continue
        mention = _exception(text, match.start(), about, names, last)
        if not negated and TWICE.search(lower, _sentence_start(lower, match.start()), match.start()):
            mention = mention._replace(sure=False)  # which way round it is meant, a person must say
        behind = mention.end
        yield mention


def _exception(text: str, start: int, about: Sequence[Piece], names: tuple[str, ...], last: int) -> Mention:
    """Leave out the names that follow, as far as their list goes; without a name, the words."""
    said = about[:last] if names else about[:LONGEST]
    words = names or tuple(sorted(_content(said) - ENDING))
    return Mention(Kind.EXCEPTION, text[start : said[-1].end], start, said[-1].end, words, sure=bool(names))


def _closely(about: Sequence[Piece], first: int) -> bool:
    """Whether a name stands near: not in "is not responding on web1", nor behind a comma."""
    between = about[: max(0, first)]
    return 0 <= first <= CLOSELY and not any(p.form == "mark" or p.lower.endswith("ing") for p in between)


def _names_in(about: Sequence[Piece], known: dict[str, str]) -> tuple[int, tuple[str, ...], int]:
    """Return where the first list of names begins, the names, and where it ends; -1 without one."""
    first, names, at = -1, list[str](), 0
    while at < len(about):
        end, name = _name_at(about, at, known, listed=bool(names))
        if name:
            first = at if first < 0 else first
            names.append(name)
            joined = end + 1 < len(about) and about[end].lower in JOINING
            after = end + 2 if joined and about[end + 1].lower in ("and", "or") else end + 1
            if not joined or not _name_at(about, after, known, listed=True)[1]:
                return first, tuple(dict.fromkeys(names)), end
            at = after
        else:
            at += 1
    return first, (), 0


def _name_at(found: Sequence[Piece], at: int, known: dict[str, str], *, listed: bool) -> tuple[int, str]:
    while at < len(found) and found[at].lower in DETERMINERS | WHERE and listed:
        at += 1
    if at >= len(found):
        return at, ""
    end, name = _of_inventory(found, at, known, listed=listed)
    return (end, name) if name else (at + 1, found[at].lower if _is_named(found, at) else "")


def _sentence_start(text: str, before: int) -> int:
    return max((match.end() for match in re.finditer(r"[.;!?](?:\s|$)", text[:before])), default=0)


def _limited(text: str, found: Sequence[Piece], known: dict[str, str]) -> Iterator[Mention]:
    """ "Only on web1", "only if it is down": what stands behind the word. Before it stands a place, or a thing."""
    lower = text.lower()
    for match in ONLY.finditer(lower):
        about = _behind(lower, found, match.end())
        if not about or about[0].form == "mark":
            continue
        if about[0].lower in CONDITION:
            yield _mention(Kind.ONLY, text, about, (), sure=True)
            continue
        start = 1 if about[0].lower in WHERE else 0
        words = list(takewhile(lambda piece: piece.form != "mark" and piece.lower not in ENDING, about[start:]))
        if words and not any(_is_named(words, n) or _of_inventory(words, n, known)[1] for n in range(len(words))):
            content = _content(words[:LONGEST])
            if content:
                yield _mention(Kind.ONLY, text, words[:LONGEST], tuple(sorted(content)), sure=False)


def _behind(lower: str, found: Sequence[Piece], start: int) -> list[Piece]:
    """Return the pieces behind a place, up to where another thing is said: at most so many, for long texts."""
    stop = STOP.search(lower, start, start + WINDOW)
    end = stop.start() if stop else len(lower)
    first = bisect_left(found, start, key=lambda piece: piece.start)
    return [piece for piece in found[first : first + MOST_BEHIND] if piece.end <= end]


# --- quantities ------------------------------------------------------------------------------------------------------


def _quantities(text: str, found: Sequence[Piece]) -> Iterator[Mention]:
    for match in PART.finditer(text.lower()):
        name = "1" if match[0] in ("one", "single") else match[0]
        yield Mention(Kind.QUANTITY, match[0], match.start(), match.end(), (name,), sure=True)
    items = _items(found)
    for at, piece in enumerate(found):
        if piece.form == "number" and at not in items and not _in_a_while(found, at):
            yield Mention(Kind.QUANTITY, piece.text.strip(), piece.start, piece.end, (piece.lower.strip(),), sure=True)
        elif piece.form == "word" and piece.lower in NUMBERS:
            yield Mention(Kind.QUANTITY, piece.text, piece.start, piece.end, (str(NUMBERS[piece.lower]),), sure=True)


def _items(found: Sequence[Piece]) -> set[int]:
    """Return the places of numbers that only count: "1. stop it 2. start it", "step 2"."""
    items = {at for at, piece in enumerate(found) if at and piece.form == "number" and found[at - 1].lower == "step"}
    listed: list[int] = []
    for at, piece in enumerate(found[:-2]):
        marked = found[at + 1].text in (".", ")") and found[at + 1].start == piece.end
        if marked and piece.text == str(len(listed) + 1) and found[at + 2].form == "word":
            listed.append(at)
    return items | (set(listed) if len(listed) > 1 else set())


def _in_a_while(found: Sequence[Piece], at: int) -> bool:
    """Whether it says when: "in 10 minutes" is a time."""
    return at > 0 and found[at - 1].lower == "in" and found[at].text[-1:].isalpha()
