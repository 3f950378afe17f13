"""The tiers, a row each: who can read a request, in the order in which they are asked.

A new tier is a row of `TIERS` and what asks it, nothing else: its place in the chain, its settings, its confidence and
what it is checked by follow from the row. It stands in this room because the settings are made of it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chargehand.domain.errors import BadConfiguration, UnknownTier


class Kind(NamedTuple):
    """How answers are treated. `weighed`: confidences are calibrated, with their terms, and flagged where they are low;
    otherwise they are believed. `cross_checked`: the catalogue match reads the same words, and a disagreement is a
    flag. `deterministic`: the same words get the same answer, so nobody asks twice.
    """

    name: str
    weighed: bool
    cross_checked: bool
    deterministic: bool


MODEL = Kind("model", weighed=True, cross_checked=True, deterministic=False)
MATCH = Kind("match", weighed=True, cross_checked=False, deterministic=True)  # it would only check itself
PEOPLE = Kind("person", weighed=False, cross_checked=False, deterministic=False)


class Limits(NamedTuple):
    """What a model may take unless a setting says otherwise, and what LiteLLM is asked for.

    `timeout` is seconds for a request, all attempts together; `at_once` is how many requests it reads at a time.
    """

    timeout: float
    at_once: int
    model: str


class Tier(NamedTuple):
    """One way of reading a request. `name` is stored with what it reads, and never changes; `told` is for people.

    `prior` and `limits` are of models: the share of their subtasks that are right, before anything is known of the
    model that is configured, and what it may take.
    """

    name: str
    told: str
    kind: Kind
    prior: float | None = None
    limits: Limits | None = None


EMBEDDED, PERSON = "embedded", "person"

Table = Mapping[str, Tier]


def chained(*rows: Tier) -> Table:
    """Return a table of tiers in the order in which they are asked.

    Raises `BadConfiguration` for a model without a prior or limits, and for a name that stands there twice.
    """
    for tier in rows:
        if tier.kind is MODEL and (tier.prior is None or tier.limits is None):
            raise BadConfiguration(f"the model in tier {tier.name!r} has no prior or no limits")
    table = {tier.name: tier for tier in rows}
    if len(table) < len(rows):
        raise BadConfiguration("two tiers have the same name")
    return table


# Priors: a 7-billion-parameter model is somewhat better than the 70 % that were measured for 1.5 billion, a large one
# better still; outcomes correct them. One at a time for what runs at home: two requests
# that share its slots read the catalog in turns, and each throws away what the other had read. Eight of a few seconds
# each are below what a new account may send. Default models: a small one that does not think aloud, and the
# cheapest that reads well.
TIERS: Table = chained(
    Tier("local", "the local model", MODEL, prior=0.75,
         limits=Limits(timeout=15.0, at_once=1, model="ollama_chat/qwen2.5:7b-instruct")),
    Tier("external", "the external model for decomposition", MODEL, prior=0.85,
         limits=Limits(timeout=30.0, at_once=8, model="anthropic/claude-haiku-5-5")),
    Tier(EMBEDDED, "the catalogue match, which needs no model", MATCH),
    Tier(PERSON, "a person", PEOPLE),
)  # fmt: skip


def named(name: str, table: Table = TIERS) -> Tier:
    """Return the row of a tier. Raises `UnknownTier`: nothing is known of how its answers must be treated."""
    tier = table.get(name)
    if tier is None:
        raise UnknownTier(f"no tier is called {name!r}; there are {', '.join(table)}")
    return tier


def models(table: Table = TIERS) -> tuple[Tier, ...]:
    """Return the tiers that are models, in their order."""
    return tuple(tier for tier in table.values() if tier.kind is MODEL)
