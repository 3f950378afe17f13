"""What kind of value a parameter takes, and a token made into one: numbers, units, addresses, text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import JsonValue

from chargehand.domain.secret_refs import is_secret, reference_in
from chargehand.llm.catalogue_match.profiles import Schema, choices
from chargehand.llm.catalogue_match.words import Token

# Kind of parameter -> kinds of token it can be made of.
KINDS: dict[str, frozenset[str]] = {
    "url": frozenset({"url"}),
    "email": frozenset({"email"}),
    "host": frozenset({"host", "quoted"}),
    "path": frozenset({"path", "quoted"}),
    "endpoint": frozenset({"endpoint"}),
    "percent": frozenset({"percent", "number"}),
    "duration": frozenset({"duration", "number"}),
    "size": frozenset({"size", "number"}),
    "number": frozenset({"number"}),
    "boolean": frozenset({"word"}),
    "list": frozenset({"url", "host", "network", "quoted", "path", "endpoint"}),
    "secret": frozenset({"secret"}),
    "text": frozenset({"quoted", "id", "host", "network", "path", "endpoint", "email"}),
    "choice": frozenset({"quoted", "number", "percent", "duration"}),
    "other": frozenset(),
}

# What a parameter's name or format says about its kind; first match wins.
HINTS = (
    ("url", re.compile(r"\b(ur[il]|link|webhook)\b")),
    ("email", re.compile(r"\be?mail\b")),
    ("endpoint", re.compile(r"\bendpoint\b")),
    ("path", re.compile(r"\b(path|file|filename|directory|dir|folder)\b")),
    ("host", re.compile(r"\b(host|hostname|domain|fqdn|server|machine|node|ipv4|ip)\b")),
)
NUMBER_HINTS = (
    ("percent", re.compile(r"\b(percent|percentage|%)")),
    ("duration", re.compile(r"\b(seconds?|secs?|minutes?|hours?|days?|ms|milliseconds?|timeout|duration|interval)\b")),
    ("size", re.compile(r"\b([kmgt]i?b|megabytes?|gigabytes?)\b")),
)
DECLARED = {"array": "list", "boolean": "boolean"}


def kind_of(name: str, schema: Schema) -> str:
    """Return what kind of value a parameter takes."""
    if choices(schema):
        return "choice"
    if is_secret(schema):
        return "secret"
    declared = schema.get("type")
    said = f"{name.replace('_', ' ')} {schema.get('format', '')}".lower()
    if declared in ("integer", "number"):
        said += f" {schema.get('description', '')}".lower()
        return next((kind for kind, hint in NUMBER_HINTS if hint.search(said)), "number")
    if isinstance(declared, str) and declared in DECLARED:
        return DECLARED[declared]
    if declared not in (None, "string"):
        return "other"
    return next((kind for kind, hint in HINTS if hint.search(said)), "text")


def coerce(found: Sequence[Token], name: str, schema: Schema) -> JsonValue:
    """Return the tokens as a value of the parameter, None when they cannot be one."""
    closed = choices(schema)
    if closed:
        return _chosen(" ".join(token.raw for token in found), closed)
    kind = kind_of(name, schema)
    if kind == "list":
        return [_text(token) for token in found]
    if len(found) != 1:
        return " ".join(token.raw for token in found) if kind == "text" else True if kind == "boolean" else None
    if kind in ("number", "percent", "duration", "size"):
        return _number(found[0], kind, name, schema)
    if kind == "boolean":
        return BOOLEANS.get(found[0].lower, True)
    return _reference(found[0]) if kind == "secret" else _text(found[0])


BOOLEANS = {"no": False, "false": False, "off": False}


def _reference(token: Token) -> JsonValue:
    reference: JsonValue = {"secret": token.lower.removeprefix("secret:")}
    return reference if token.kind == "secret" and reference_in(reference) else None


def _text(token: Token) -> str:
    return token.raw[1:-1] if token.kind == "quoted" else token.raw


def _chosen(text: str, closed: Sequence[JsonValue]) -> JsonValue:
    plain = re.sub(r"[\s_-]+", " ", text.strip("\"'“”`")).lower()
    same = [choice for choice in closed if re.sub(r"[\s_-]+", " ", str(choice)).lower() == plain]
    # A plural or another word form was already found equal by its stems.
    close = [choice for choice in closed if str(choice).lower()[:4] == plain[:4]]
    return next(iter(same or close), None)


# Seconds and mebibytes; decimal and binary prefixes are used alike by people who speak of memory.
SCALES = {
    "duration": {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0},
    "size": {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024},
}


UNITS = {
    "duration": re.compile(r"\b(ms|milliseconds?|s|seconds?|secs?|minutes?|hours?|days?)\b"),
    "size": re.compile(r"\b[kmgt]i?b\b"),
}


def _number(token: Token, kind: str, name: str, schema: Schema) -> JsonValue:
    match = re.match(r"(\d+(?:\.\d+)?)\s*(.*)", token.raw)
    if match is None:
        return None
    amount, unit = float(match[1]), match[2].lower()
    if unit and kind in SCALES:
        said, wanted = _scale(unit, kind), _own_scale(kind, name, schema)
        if said is None or wanted is None:
            return None
        amount = amount * said / wanted
    if schema.get("type") == "integer" or (amount.is_integer() and "." not in match[1]):
        return int(amount) if amount.is_integer() else None
    return amount


def _scale(unit: str, kind: str) -> float | None:
    if kind == "duration" and unit.startswith(("ms", "milli")):
        return 0.001
    return SCALES[kind].get(unit[:1])


def _own_scale(kind: str, name: str, schema: Schema) -> float | None:
    """The unit the parameter is in, as its name or description says; without it no value with a unit is taken."""
    said = f"{name.replace('_', ' ')} {schema.get('description', '')}".lower()
    pattern = (
        r"\b(ms|milliseconds?|s|seconds?|secs?|minutes?|hours?|days?)\b" if kind == "duration" else r"\b[kmgt]i?b\b"
    )
    match = re.search(pattern, said)
    return _scale(match[0], kind) if match else None
