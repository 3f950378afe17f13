"""Whether a text says something: a whole word, an amount in another unit, a word that an offer is known by. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from pydantic import JsonValue

from chargehand.domain.intents import IntentSpec

STEM = 5  # letters: "deployed" and "deploying" begin alike
SHORTEST = 3  # letters of an abbreviation: "db" begins too many words
SLOT = re.compile(r"\{\w*\}")
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s?([a-zµ%]*)", re.I)

# What an amount counts, by how its unit begins: seconds and bytes. Decimal and binary prefixes are used alike.
SECONDS = {"ms": 0.001, "mil": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SIZES = {"kb": 1, "mb": 2, "gb": 3, "tb": 4, "kib": 1, "mib": 2, "gib": 3, "tib": 4}
THOUSANDS = (1000.0, 1024.0)


def stem(word: str) -> str:
    """Return the form under which words are compared here."""
    return word.casefold()[:STEM]


def words_of(text: str) -> set[str]:
    """Return the words of a text, without what joins them."""
    return set(re.findall(r"[^\W_]+", text.casefold()))


def alike(one: str, other: str) -> bool:
    """Return whether two words are forms of one: "prod" and "production", "server" and "servers"."""
    short, long = sorted((one, other), key=len)
    return stem(one) == stem(other) or (len(short) >= SHORTEST and long.startswith(short))


def has_word(text: str, word: str) -> bool:
    """Return whether a text has a word, a name or an address as a whole: `192.168.17` is not in `192.168.178.20`.

    Spaces, hyphens and underscores are one; small and large letters are the same.
    """
    parts = [re.escape(part) for part in re.split(r"[\s_-]+", word.casefold()) if part]
    if not parts:
        return False
    pattern = r"[\s_-]*".join(parts)
    return re.search(rf"(?<![\w.]){pattern}(?!\w|\.\w)|(?<=//){pattern}(?!\w|\.\w)", text.casefold()) is not None


def schemas(spec: IntentSpec) -> dict[str, dict[str, JsonValue]]:
    """Return the schema of each parameter."""
    found = spec.parameters.get("properties")
    return {name: s if isinstance(s, dict) else {} for name, s in found.items()} if isinstance(found, dict) else {}


def values_of(spec: IntentSpec, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the parameters with the schema's defaults."""
    return {**{name: s["default"] for name, s in schemas(spec).items() if "default" in s}, **given}


def known_words(spec: IntentSpec) -> frozenset[str]:
    """Return the stems of all words that an offer is known by, its parameters and their choices among them."""
    choices = [str(choice) for s in schemas(spec).values() for choice in _listed(s.get("enum"))]
    told = [spec.intent, spec.description, spec.service or "", *spec.examples, *schemas(spec), *choices]
    return _stems(" ".join(told))


def _listed(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


@lru_cache(maxsize=4096)  # the same offers come with every request
def _stems(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in re.findall(r"[^\W_]+", SLOT.sub(" ", text)))


def texts_of(value: JsonValue) -> Iterator[str]:
    """Yield all texts of a value, those within lists and objects, too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_of(each)


def amounts_of(value: JsonValue) -> Iterator[str]:
    """Yield the numbers of a value as text, wherever they stand in it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(int(value)) if value == int(value) else str(value)
    elif isinstance(value, list):
        for each in value:
            yield from amounts_of(each)


def same_amount(said: str, text: str) -> bool:
    """Return whether a text has the amount that was said, in this unit or another one of its kind."""
    return any(_same(said, match[0]) for match in AMOUNT.finditer(text)) or has_word(text, said)


def _same(said: str, other: str) -> bool:
    return bool(_plain(said) & _plain(other)) or bool(_sizes(said) & _sizes(other, bare=True))


def _plain(text: str) -> set[float]:
    found = AMOUNT.match(text.strip())
    return {round(float(found[1]), 6)} if found else set()


def _sizes(text: str, *, bare: bool = False) -> set[float]:
    """What an amount may be in seconds or bytes; `bare`: without a unit it may be in any."""
    found = AMOUNT.match(text.strip())
    if found is None:
        return set()
    number, unit = float(found[1]), found[2].lower()
    times = {number * factor for factor in _factors(SECONDS, unit, bare)}
    sizes = {number * thousand**power for thousand in THOUSANDS for power in _powers(unit, bare)}
    shares = {number / 100, number} if unit in ("%", "percent") or (bare and not unit) else set()
    return {round(each, 6) for each in times | sizes | shares}


def _factors(units: Mapping[str, float], unit: str, bare: bool) -> set[float]:
    if not unit:
        return {*units.values()} if bare else set()
    fitting = [name for name in units if unit.startswith(name)]
    return {units[max(fitting, key=len)]} if fitting else set()


def _powers(unit: str, bare: bool) -> set[int]:
    if not unit:
        return {0, *SIZES.values()} if bare else set()
    short = {"k": 1, "m": 2, "g": 3, "t": 4}
    return {power for power in (SIZES.get(unit), short.get(unit)) if power}
