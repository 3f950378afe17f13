"""Several offers of one intent: which version is read and planned by, how they differ, and what that comes to. Pure.

Agents speak for themselves only. Whoever is granted an intent decides what runs on its own machine; it decides neither
what the others run, nor how dangerous the intent is taken to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

from pydantic import JsonValue

from chargehand.domain.intents import NO_TERMS, IntentSpec
from chargehand.domain.risks import RISKS, Risk

FIRST = datetime.min.replace(tzinfo=UTC)
LONGEST_SAID = 40  # characters of a term in a message
MOST_NAMED = 3  # agents of one version that are named; the others are counted
SEVERITY = {risk: place for place, risk in enumerate(RISKS)}


class Offered(NamedTuple):
    """A granted offer as it is registered: whose it is, and since when it is granted."""

    spec: IntentSpec
    agent: str = ""
    granted_at: datetime | None = None


class Version(NamedTuple):
    """One way in which an intent is offered, and by whom."""

    spec: IntentSpec
    agents: tuple[str, ...]


def versions(offers: Iterable[Offered]) -> tuple[Version, ...]:
    """Return the versions of one intent's offers, the one to plan by first.

    What can be done now comes first, then what is worst, then what was granted first: an agent that joins with an offer
    of the same name does not take the work of those that are there. Each has the worst risk that any of them names.
    """
    ordered = sorted(offers, key=_preference)
    by_hash: dict[str, list[Offered]] = {}
    for offer in ordered:
        by_hash.setdefault(offer.spec.content_hash, []).append(offer)
    worst = max((offer.spec.risk for offer in ordered), key=SEVERITY.__getitem__, default=Risk.READ)
    return tuple(_version(same, worst) for same in by_hash.values())


def by_intent(offers: Iterable[Offered]) -> dict[str, tuple[Version, ...]]:
    """Return the versions of each intent, by its name."""
    ordered = sorted(offers, key=lambda offer: offer.spec.intent)
    return {intent: versions(same) for intent, same in groupby(ordered, key=lambda offer: offer.spec.intent)}


def _preference(offer: Offered) -> tuple[bool, int, datetime, str, str, str]:
    spec = offer.spec
    since = offer.granted_at or FIRST
    # The hash comes late: whoever offers something chooses it.
    return (spec.unavailable is not None, -SEVERITY[spec.risk], since, offer.agent, spec.content_hash, spec.source)


def _version(same: Sequence[Offered], worst: Risk) -> Version:
    return Version(same[0].spec.model_copy(update={"risk": worst}), tuple(sorted({offer.agent for offer in same})))


def conflict(offers: Iterable[Offered]) -> str:
    """Return in words how the offers of one intent differ; empty where they agree."""
    groups: dict[str, list[Offered]] = {}
    for offer in sorted(offers, key=_preference):
        groups.setdefault(offer.spec.content_hash, []).append(offer)
    if len(groups) < 2:
        return ""
    first, *others = groups.values()
    told = [f"{_names(same)} ({_told(first[0].spec, same[0].spec)})" for same in others]
    return f"{_names(first)} and {' and '.join(told)} offer it differently"


def _told(one: IntentSpec, other: IntentSpec) -> str:
    return differences(one.terms, other.terms) or "what would run is not the same"


def _names(same: Sequence[Offered]) -> str:
    names = sorted({offer.agent or "an agent" for offer in same})
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def differences(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> str:
    """Return which terms differ between two offers, with their values where these are short: `risk: destroy, read`."""
    names = [name for name in IntentSpec.model_fields if name not in NO_TERMS and before.get(name) != after.get(name)]
    return "; ".join(_difference(name, before.get(name), after.get(name)) for name in names)


def _difference(name: str, before: JsonValue, after: JsonValue) -> str:
    label = name.replace("_", " ")
    values = (before, after)
    if not all(isinstance(value, bool | str) for value in values):
        return label
    told = [{True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value for value in values]
    return f"{label}: {', '.join(map(_short, map(str, told)))}"


def _short(text: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text[: LONGEST_SAID + 1])
    return printable if len(printable) <= LONGEST_SAID else f"{printable[: LONGEST_SAID - 3]}..."
